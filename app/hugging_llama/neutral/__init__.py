"""The vocabulary between dialects and engine: frozen dataclasses, standard library only."""
