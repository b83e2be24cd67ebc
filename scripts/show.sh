#!/bin/sh
# All that is known of a model on disk, and what it takes in memory with a context of 2048 tokens.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${MODEL:-hugging-llama/demo}"
curl --silent --show-error --fail-with-body "$URL/api/show" \
    -d "{\"model\": \"$MODEL\", \"options\": {\"num_ctx\": 2048}}"
