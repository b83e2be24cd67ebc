#!/bin/sh
# Make a model of the files in a folder: upload what the server does not have, then name them.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
FOLDER="${FOLDER:-$(dirname "$0")/../app/hugging_llama/demo_model}"
NAME="${NAME:-my-upload}"
files=""
for path in "$FOLDER"/*.safetensors "$FOLDER"/*.json "$FOLDER"/*.jinja; do
    [ -f "$path" ] || continue
    digest="sha256:$(sha256sum < "$path" | cut -d ' ' -f 1)"
    curl --silent --head --fail --output /dev/null "$URL/api/blobs/$digest" ||
        curl --silent --show-error --fail-with-body --upload-file "$path" --request POST "$URL/api/blobs/$digest"
    files="$files${files:+, }\"$(basename "$path")\": \"$digest\""
done
curl --silent --show-error --fail-with-body --no-buffer "$URL/api/create" --data @- <<JSON
{"model": "$NAME", "files": {$files}}
JSON
