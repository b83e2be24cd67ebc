#!/bin/sh
# The Ollama version whose API this is.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
curl --silent --show-error --fail-with-body "$URL/api/version"
