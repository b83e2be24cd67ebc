"""deploy/ as it is written, with the real programs where they are installed."""
