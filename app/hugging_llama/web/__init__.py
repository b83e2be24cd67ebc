"""Flask only: the application factory, error pages, disconnects, observability."""
