"""Shared by all tests."""

from hypothesis import settings

# a busy machine must not fail a property for being slow
settings.register_profile("default", deadline=None)
settings.load_profile("default")
