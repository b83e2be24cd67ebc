"""One function per use case, neutral in and out; no Flask, no torch."""
