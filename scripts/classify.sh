#!/bin/sh
# The likeliest label of each text, and the probabilities of all labels.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${CLASSIFY_MODEL:-distilbert/distilbert-base-uncased-finetuned-sst-2-english}"
curl --silent --show-error --fail-with-body "$URL/v1/classify" --data @- <<JSON
{"model": "$MODEL", "input": ["What a fine day!", "My train is late again."]}
JSON
