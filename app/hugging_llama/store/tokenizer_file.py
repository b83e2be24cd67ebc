"""What a model's tokenizer.json says, in GGUF's terms."""

import msgspec

from hugging_llama.neutral.description import Tokenizer, TokenType
from hugging_llama.store.snapshot import Snapshot

_FILE = "tokenizer.json"
_CONFIG = "tokenizer_config.json"
_MAX_TOKENS = 2**21


class _Model(msgspec.Struct):
    type: str = ""
    byte_fallback: bool = False
    vocab: msgspec.Raw = msgspec.Raw()
    merges: msgspec.Raw = msgspec.Raw()


class _AddedToken(msgspec.Struct):
    id: int
    content: str
    special: bool = False


class _File(msgspec.Struct):
    model: _Model
    added_tokens: list[_AddedToken] = []


_FILE_DECODER = msgspec.json.Decoder(_File)
_PIECES_DECODER = msgspec.json.Decoder(list[tuple[str, float]])
_VOCABULARY_DECODER = msgspec.json.Decoder(dict[str, int])
_MERGES_DECODER = msgspec.json.Decoder(list[str | list[str]])


def read_tokenizer(snapshot: Snapshot, *, with_tokens: bool) -> Tokenizer | None:
    """The tokenizer, with its tokens and merges if they are wanted; None where there is no file that can be read."""
    try:
        file = _FILE_DECODER.decode(snapshot.content(_FILE))
        kind = _kind(file.model)
        if kind is None:
            return None
        tokens, types = _tokens(file) if with_tokens else ((), ())
        merges = _merges(file.model) if with_tokens else ()
    except (msgspec.MsgspecError, ValueError, OSError, RecursionError):
        return None
    config = snapshot.json(_CONFIG)
    adds_bos, adds_eos = (config.get(key) for key in ("add_bos_token", "add_eos_token"))
    return Tokenizer(
        model=kind,
        tokens=tokens,
        token_types=types,
        merges=merges,
        adds_bos=adds_bos if isinstance(adds_bos, bool) else None,
        adds_eos=adds_eos if isinstance(adds_eos, bool) else None,
    )


def _kind(model: _Model) -> str | None:
    """llama.cpp's name: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#ggml"""
    if model.type == "BPE":
        return "llama" if model.byte_fallback else "gpt2"
    return {"WordPiece": "bert", "Unigram": "t5"}.get(model.type)


def _tokens(file: _File) -> tuple[tuple[str, ...], tuple[TokenType, ...]]:
    """Tokens and their types by id; ids that nothing has are unused. Raises MsgspecError, ValueError."""
    if file.model.type == "Unigram":
        pieces = _PIECES_DECODER.decode(file.model.vocab)
        known = {number: text for number, (text, _) in enumerate(pieces)}
    else:
        known = {number: text for text, number in _VOCABULARY_DECODER.decode(file.model.vocab).items()}
    types = dict.fromkeys(known, TokenType.NORMAL)
    for added in file.added_tokens:
        known[added.id] = added.content
        types[added.id] = TokenType.CONTROL if added.special else TokenType.USER_DEFINED
    size = max(known, default=-1) + 1
    if size > _MAX_TOKENS or min(known, default=0) < 0:
        raise ValueError("token ids")
    ids = range(size)
    return (
        tuple(known.get(number, f"[PAD{number}]") for number in ids),
        tuple(types.get(number, TokenType.UNUSED) for number in ids),
    )


def _merges(model: _Model) -> tuple[str, ...]:
    """Pairs with a space between. Raises MsgspecError."""
    if not bytes(model.merges):
        return ()
    merges = _MERGES_DECODER.decode(model.merges)
    return tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in merges)
