#!/bin/sh
# Complete a prompt, in one answer.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${MODEL:-hugging-llama/demo}"
curl --silent --show-error --fail-with-body "$URL/api/generate" --data @- <<JSON
{
  "model": "$MODEL",
  "prompt": "Hello, world!",
  "stream": false,
  "options": {"temperature": 0.7, "max_tokens": 64, "stop": ["\\n"], "seed": 42},
  "keep_alive": 600
}
JSON
