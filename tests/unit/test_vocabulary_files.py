"""Which plain vocabularies of strangers are taken: lists of lines, and models of SentencePiece."""

import pytest

from hugging_llama_config.vocabulary_files import MOST_TOKENS, is_plain_vocabulary, plain_vocabulary_problem

LONG = b"x" * 4097


def varint(value: int) -> bytes:
    low = value & 127
    return bytes([low]) if value == low else bytes([low | 128]) + varint(value >> 7)


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def piece(text: bytes, kind: int = 1) -> bytes:
    """With a score, which is a fixed number of four bytes."""
    return field(1, field(1, text) + varint(2 << 3 | 5) + b"\0\0\x80\xbf" + field(3, kind))


def normalizer(longest_form: int) -> bytes:
    """A table of characters whose trie is empty."""
    return field(3, field(1, b"nmt_nfkc") + field(2, b"\0\0\0\0" + b"x" * longest_form + b"\0"))


TRAINER = field(2, field(3, 2) + field(4, 1))
MODEL = piece(b"<unk>", 2) + piece("▁the".encode()) + TRAINER + normalizer(33)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (MODEL, ""),
        (MODEL + piece(b"x" * 4096), ""),
        (MODEL + piece(LONG), "a token of 4097 characters"),
        (MODEL + varint(15 << 3 | 3) + piece(LONG) + varint(15 << 3 | 4), "a token of 4097 characters"),
        (varint(15 << 3 | 1) + b"12345678" + piece(LONG), "a token of 4097 characters"),
        (MODEL + b"".join(piece(b"x" * 4096) for _ in range(3073)), "bytes of tokens"),
        (MODEL + b"".join(piece(f"{n:04d}".encode() * 1024, 4) for n in range(513)), "adds 2101248 bytes of tokens"),
        (MODEL + piece(b"x", 3) * 70_001, "adds 70001 tokens"),
        (MODEL + field(1, b"") * 2**20, "more than 300000 tokens"),
        (MODEL + normalizer(65), "65 times as long"),
        (piece(LONG)[:-1] + b"\n" * 2, ""),  # cut short, so a list of lines
        (b"aGVsbG8= 0\nd29ybGQ= 1\n", ""),
        (b"a" * 32_768 + b"\n", ""),
        (b"a" * 32_769 + b"\n", "a line of more than 32768 bytes"),
        (b"", ""),
    ],
)
def test_models_of_sentencepiece(content: bytes, problem: str) -> None:
    found = plain_vocabulary_problem("tokenizer.model", content)
    assert problem in found
    assert bool(problem) == bool(found)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[PAD]\r\n[UNK]\r\nthe\r\n", ""),
        ((b"a" * 32_767 + b"\n") * 20, ""),
        ((b"a" * 32_767 + b"\n") * 20 + b"a" * 32_769, "a line of more than 32768 bytes"),
        (b"a\n" * MOST_TOKENS, ""),
        (b"a\n" * (MOST_TOKENS + 1), "has 300001 lines"),
        (b"a\r" * (MOST_TOKENS + 1), "has 300001 lines"),
    ],
)
@pytest.mark.parametrize("name", ["vocab.txt", "merges.txt", "bpe.codes", "x.tiktoken"])
def test_lists_of_lines(name: str, content: bytes, problem: str) -> None:
    assert is_plain_vocabulary(name)
    found = plain_vocabulary_problem(name, content)
    assert problem in found
    assert bool(problem) == bool(found)


@pytest.mark.parametrize("name", ["vocab.json", "config.json", "README.txt", "model.safetensors"])
def test_other_files_are_none(name: str) -> None:
    assert not is_plain_vocabulary(name)
