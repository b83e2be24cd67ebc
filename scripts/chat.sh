#!/bin/sh
# Answer a chat in JSON, token by token.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${MODEL:-hugging-llama/demo}"
curl --silent --show-error --fail-with-body --no-buffer "$URL/api/chat" --data @- <<JSON
{
  "model": "$MODEL",
  "messages": [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Summarize why caching is useful."}
  ],
  "stream": true,
  "format": "json"
}
JSON
