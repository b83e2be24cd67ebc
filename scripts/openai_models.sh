#!/bin/sh
# The models on disk as OpenAI lists them, and one of them.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${MODEL:-hugging-llama/demo}"
curl --silent --show-error --fail-with-body "$URL/v1/models"
echo
curl --silent --show-error --fail-with-body "$URL/v1/models/$MODEL"
