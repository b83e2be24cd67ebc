#!/bin/sh
# Vectors for two texts.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${EMBED_MODEL:-sentence-transformers/all-MiniLM-L6-v2}"
curl --silent --show-error --fail-with-body "$URL/api/embed" --data @- <<JSON
{
  "model": "$MODEL",
  "input": ["vectorize this", "and this"],
  "keep_alive": "10m"
}
JSON
