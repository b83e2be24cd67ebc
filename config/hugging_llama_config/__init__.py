"""Settings, their sources and the gunicorn configuration; standard library only."""
