#!/bin/sh
# Give a model another name; prints the status, as the answer has no body.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${MODEL:-hugging-llama/demo}"
NAME="${NAME:-my-demo:copy}"
curl --silent --show-error --fail-with-body --write-out '%{http_code}\n' "$URL/api/copy" \
    --data "{\"source\": \"$MODEL\", \"destination\": \"$NAME\"}"
