#!/bin/sh
# OpenAI's embeddings: vectors for two texts.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${EMBED_MODEL:-sentence-transformers/all-MiniLM-L6-v2}"
curl --silent --show-error --fail-with-body "$URL/v1/embeddings" --data @- <<JSON
{"model": "$MODEL", "input": ["vectorize this", "and this"], "dimensions": 128}
JSON
