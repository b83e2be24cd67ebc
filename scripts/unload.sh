#!/bin/sh
# Unload a model at once.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${MODEL:-hugging-llama/demo}"
curl --silent --show-error --fail-with-body "$URL/api/generate" --data @- <<JSON
{"model": "$MODEL", "keep_alive": 0}
JSON
