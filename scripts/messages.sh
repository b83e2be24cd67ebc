#!/bin/sh
# Anthropic's messages.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${MODEL:-hugging-llama/demo}"
curl --silent --show-error --fail-with-body "$URL/v1/messages" --header "anthropic-version: 2023-06-01" --data @- <<JSON
{
  "model": "$MODEL",
  "system": "You are a helpful assistant.",
  "messages": [{"role": "user", "content": "Summarize why caching is useful."}],
  "max_tokens": 40
}
JSON
