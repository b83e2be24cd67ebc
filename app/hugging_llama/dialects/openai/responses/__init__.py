"""OpenAI's Responses API: answers made of items, which are kept and can be gone on from."""
