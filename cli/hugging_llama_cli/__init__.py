"""The command line client: HTTP only, except `serve`, which becomes gunicorn."""
