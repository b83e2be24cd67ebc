#!/bin/sh
# The vector of one text, as /api/embed gave it before.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${EMBED_MODEL:-sentence-transformers/all-MiniLM-L6-v2}"
curl --silent --show-error --fail-with-body "$URL/api/embeddings" --data @- <<JSON
{"model": "$MODEL", "prompt": "vectorize this"}
JSON
