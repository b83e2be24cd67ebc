#!/bin/sh
# Delete a model that create.sh made; prints the status, as the answer has no body.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
NAME="${NAME:-my-demo:int8}"
curl --silent --show-error --fail-with-body --request DELETE --write-out '%{http_code}\n' "$URL/api/delete" \
    --data "{\"model\": \"$NAME\"}"
