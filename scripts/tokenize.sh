#!/bin/sh
# The token ids of a text; messages and tools in place of content give those of a chat.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${MODEL:-hugging-llama/demo}"
curl --silent --show-error --fail-with-body "$URL/api/tokenize" --data @- <<JSON
{"model": "$MODEL", "content": "Why is the sky blue?"}
JSON
