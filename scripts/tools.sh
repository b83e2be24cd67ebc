#!/bin/sh
# Let the model call a function.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${MODEL:-hugging-llama/demo}"
curl --silent --show-error --fail-with-body "$URL/api/chat" --data @- <<JSON
{
  "model": "$MODEL",
  "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
  "stream": false,
  "think": false,
  "options": {"temperature": 0},
  "tools": [{"type": "function", "function": {"name": "get_weather", "description": "Get the weather for a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]
}
JSON
