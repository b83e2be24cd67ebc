#!/bin/sh
# OpenAI's chat: an answer that is valid by a JSON Schema.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${MODEL:-hugging-llama/demo}"
curl --silent --show-error --fail-with-body "$URL/v1/chat/completions" --data @- <<JSON
{
  "model": "$MODEL",
  "messages": [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Which city is the capital of France?"}
  ],
  "max_tokens": 60,
  "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {
    "type": "object", "properties": {"city": {"enum": ["Berlin", "Paris", "Rome"]}}, "required": ["city"]}}}
}
JSON
