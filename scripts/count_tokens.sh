#!/bin/sh
# How many tokens the prompt of a message would have.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${MODEL:-hugging-llama/demo}"
curl --silent --show-error --fail-with-body "$URL/v1/messages/count_tokens" --header "anthropic-version: 2023-06-01" --data @- <<JSON
{"model": "$MODEL", "messages": [{"role": "user", "content": "Summarize why caching is useful."}]}
JSON
