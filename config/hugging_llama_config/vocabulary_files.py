"""The files with a tokenizer's tokens that are no JSON: lists of lines, and models of SentencePiece.

They come from strangers: their libraries take time by the square of a token's length, or keep whole files several
times.
"""

from collections.abc import Iterator

from hugging_llama_config.tokenizer_limits import tokenizer_problem
from hugging_llama_config.vocabulary_limits import LONGEST_TOKEN, vocabulary_problem

JSON_VOCABULARIES = frozenset({"vocab.json", "tekken.json", "vocab-src.json", "entity_vocab.json"})
_TEXTS = frozenset({"vocab.txt", "dict.txt", "merges.txt"})
_SENTENCEPIECE_SUFFIXES = (".model", ".spm")
PLAIN_SUFFIXES = (*_SENTENCEPIECE_SUFFIXES, ".tiktoken", ".bpe", ".vocab", ".codes")

MAX_BYTES = 32 * 2**20
"""Real ones have some 5 MB, one 18."""
MOST_TOKENS = 300_000
"""In these files, or as many merges: libraries turn them into others, with a second for each 80,000 merges in which no
other thread runs. Those with more have a tokenizer.json."""
_LONGEST_LINE = 8 * LONGEST_TOKEN
"""In bytes: two tokens of four-byte characters, or one as base64."""

_NUMBER, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
"""How a field is written in Protocol Buffers; 3 and 4 begin and end a group.
https://protobuf.dev/programming-guides/encoding/"""

_PIECES, _NORMALIZER = 1, 3
_PIECE_TEXT, _PIECE_TYPE, _CHARSMAP = 1, 3, 2
_ADDED_TYPES = (3, 4)
"""Fields of ModelProto, and the types CONTROL and USER_DEFINED:
https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto"""


def is_plain_vocabulary(name: str) -> bool:
    """Whether a file of this name is one of those."""
    return name in _TEXTS or name.endswith(PLAIN_SUFFIXES)


def plain_vocabulary_problem(name: str, content: bytes) -> str:
    """Why it must not be read, as the end of a sentence about the file; "" if it may be."""
    if name.endswith(_SENTENCEPIECE_SUFFIXES):
        try:
            return _sentencepiece_problem(content)
        except ValueError:  # tokenizers of another kind have a list of lines under this name
            pass
    return _lines_problem(content)


def _lines_problem(content: bytes) -> str:
    num_lines = content.count(b"\n") + content.count(b"\r")
    if num_lines > MOST_TOKENS:
        return f"has {num_lines} lines; {MOST_TOKENS} are the most"
    begin = 0
    while len(content) - begin > _LONGEST_LINE:
        end = content.rfind(b"\n", begin, begin + _LONGEST_LINE + 1)
        if end < 0:
            return f"has a line of more than {_LONGEST_LINE} bytes"
        begin = end + 1
    return ""


def _sentencepiece_problem(content: bytes) -> str:
    """Raises ValueError for what is none."""
    texts: list[str] = []
    added: list[dict[str, str]] = []
    charsmap = b""
    for number, value in _fields(content):
        if number == _PIECES and isinstance(value, bytes):
            piece = dict(_fields(value))
            text = piece.get(_PIECE_TEXT)
            texts.append(text.decode(errors="replace") if isinstance(text, bytes) else "")
            if piece.get(_PIECE_TYPE) in _ADDED_TYPES:
                added.append({"content": texts[-1]})
            if len(texts) > MOST_TOKENS:
                return f"has more than {MOST_TOKENS} tokens"
        elif number == _NORMALIZER and isinstance(value, bytes):
            found = dict(_fields(value)).get(_CHARSMAP)
            charsmap = found if isinstance(found, bytes) else charsmap
    if not texts:
        raise ValueError("no pieces")
    rules = {"normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap}}
    return vocabulary_problem(texts, added) or (tokenizer_problem(rules) if charsmap else "")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a Protocol Buffers message. Raises ValueError for what is none."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if not number or kind > _FOUR_BYTES:
            raise ValueError("tag")
        if kind == _NUMBER:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        else:  # a group's fields are taken for fields of the message: what nobody reads counts, too
            size = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind, 0)
        if at + size > len(message):
            raise ValueError("message is cut short")
        yield number, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends."""
    value = shift = 0
    while shift < 64:
        if at == len(message):
            raise ValueError("message is cut short")
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("number is too long")
