"""Constrained decoding: formats to grammars, grammars to masks over the vocabulary, by llguidance."""
