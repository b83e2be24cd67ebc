"""How a web worker reaches an engine."""
