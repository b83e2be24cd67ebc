"""OpenAI's API on the engine: chat and text completions, embeddings, models."""
