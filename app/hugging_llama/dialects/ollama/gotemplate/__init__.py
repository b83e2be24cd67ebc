"""Go's text/template, as far as Ollama's TEMPLATE uses it, in Jinja."""
