#!/bin/sh
# Name a model of your own: another one with quantised weights and other parameters.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${MODEL:-hugging-llama/demo}"
NAME="${NAME:-my-demo:int8}"
curl --silent --show-error --fail-with-body --no-buffer "$URL/api/create" --data @- <<JSON
{"model": "$NAME", "from": "$MODEL", "quantize": "int8", "parameters": {"temperature": 0.2}}
JSON
