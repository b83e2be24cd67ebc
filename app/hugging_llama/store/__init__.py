"""Models on disk: names, the Hub's cache, digests, capabilities."""
