"""Ollama's native API: one module per endpoint, each with its blueprint, its schema and its view."""
