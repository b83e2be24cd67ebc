"""Wire JSON to neutral types and back; the only place that knows a wire field name or an error sentence."""
