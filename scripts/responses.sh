#!/bin/sh
# OpenAI's Responses API: ask, go on from the kept answer, look at it again, and forget it.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${MODEL:-hugging-llama/demo}"
answer=$(curl --silent --show-error --fail-with-body "$URL/v1/responses" --data @- <<JSON
{"model": "$MODEL", "instructions": "You are a helpful assistant.", "input": "Name a colour.", "max_output_tokens": 20}
JSON
)
printf '%s\n' "$answer" # echo may write the \n of a JSON text as a line's end
id=$(printf '%s\n' "$answer" | sed 's/.*"id":"\(resp_[0-9a-f]*\)".*/\1/')
curl --silent --show-error --fail-with-body "$URL/v1/responses" --data @- <<JSON
{"model": "$MODEL", "previous_response_id": "$id", "input": "Another one.", "max_output_tokens": 20, "store": false}
JSON
echo
curl --silent --show-error --fail-with-body "$URL/v1/responses/$id"
echo
curl --silent --show-error --fail-with-body "$URL/v1/responses/$id/input_items"
echo
curl --silent --show-error --fail-with-body --request DELETE "$URL/v1/responses/$id"
