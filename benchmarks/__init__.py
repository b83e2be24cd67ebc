"""Speed, measured side by side with peers; each script is `python -m benchmarks.NAME`."""
