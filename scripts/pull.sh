#!/bin/sh
# Fetch a model from the Hub, with progress.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${PULL_MODEL:-Qwen/Qwen3-0.6B}"
curl --silent --show-error --fail-with-body --no-buffer "$URL/api/pull" --data @- <<JSON
{"model": "$MODEL", "revision": null, "trust_remote_code": false}
JSON
