#!/bin/sh
# OpenAI's completion of a text, without a chat template.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${MODEL:-hugging-llama/demo}"
curl --silent --show-error --fail-with-body "$URL/v1/completions" --data @- <<JSON
{"model": "$MODEL", "prompt": "Once upon a time", "max_tokens": 20, "n": 2, "logprobs": 1}
JSON
