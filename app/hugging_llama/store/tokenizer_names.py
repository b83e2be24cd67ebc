"""By which files transformers knows a tokenizer."""

from hugging_llama.store import selection
from hugging_llama.store.snapshot import Snapshot
from hugging_llama_config.vocabulary_files import JSON_VOCABULARIES, PLAIN_SUFFIXES

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
_VOCABULARIES = JSON_VOCABULARIES | {TOKENIZER, "vocab.txt", "dict.txt"}
# their tokens are bytes or characters
_WITHOUT_VOCABULARY = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer", "MyT5Tokenizer")


def is_vocabulary(path: str) -> bool:
    """Whether this file, in the model's folder or one of its modules', is what a tokenizer is made of."""
    name = path.rpartition("/")[2]
    return name in _VOCABULARIES or name.endswith(PLAIN_SUFFIXES)


def has_tokenizer(found: Snapshot) -> bool:
    """Whether the model has one, or needs none: modules of sentence-transformers other than those of transformers
    read texts in their own ways."""
    if any(map(is_vocabulary, found.files)):
        return True
    if selection.MODULES in found.files:
        first = next(iter(found.json_list(selection.MODULES)), None)
        kind = first.get("type") if isinstance(first, dict) else None
        return not isinstance(kind, str) or kind.rpartition(".")[2] != "Transformer"
    return found.json(TOKENIZER_CONFIG).get("tokenizer_class") in _WITHOUT_VOCABULARY
