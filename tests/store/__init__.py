"""The store against a stand-in Hub over real HTTP."""
