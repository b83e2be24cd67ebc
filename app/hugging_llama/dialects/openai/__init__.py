"""OpenAI's API on the engine: chat and text completions, embeddings, models; and what others have beside them."""
