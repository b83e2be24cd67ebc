"""A long run of mixed clients against a real server whose processes are killed: `python -m tests.soak --help`."""
