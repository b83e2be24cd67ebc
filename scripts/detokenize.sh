#!/bin/sh
# The text of token ids.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${MODEL:-hugging-llama/demo}"
curl --silent --show-error --fail-with-body "$URL/api/detokenize" --data @- <<JSON
{"model": "$MODEL", "tokens": [101, 102, 103]}
JSON
