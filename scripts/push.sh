#!/bin/sh
# Push a model of your own to the Hub, to the repository that its name says; HF_TOKEN is yours, with the right to write.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
NAME="${NAME:-your-name/my-demo}"
# a header in a file of its own, so that no list of processes shows the token
curl --silent --show-error --fail-with-body --no-buffer "$URL/api/push" --header @- --data "{\"model\": \"$NAME\"}" <<HEADER
X-HF-Token: ${HF_TOKEN:-}
HEADER
