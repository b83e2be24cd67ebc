#!/bin/sh
# Which documents fit a query best, by a model that reads both together; in Cohere's and Jina's shape, and in ours.
set -eu
URL="${HUGGING_LLAMA_URL:-http://127.0.0.1:11434}"
MODEL="${RERANK_MODEL:-cross-encoder/ms-marco-MiniLM-L6-v2}"
for endpoint in v1/rerank v2/rerank api/rerank; do
curl --silent --show-error --fail-with-body "$URL/$endpoint" --data @- <<JSON
{
  "model": "$MODEL",
  "query": "How many people live in Berlin?",
  "documents": ["Berlin is known for its museums.", "Berlin had 3.5 million inhabitants in 2019.", "The sky is blue."],
  "top_n": 2
}
JSON
echo
done
