#!/bin/sh
# Is this server alive, and on which device does it compute?
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
curl --silent --show-error --fail-with-body "$URL/health"
