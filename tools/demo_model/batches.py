"""Documents as token ids, with a mask of the tokens to learn, in batches of similar length."""

import random

import numpy as np
from numpy.typing import NDArray
from tools.demo_model.conversations import make, practise
from tools.demo_model.examples import Conversation, Document, Drill
from tools.demo_model.tokenizer import CONTEXT, END_OF_TEXT, END_OF_TURN, MARKERS, SPECIAL
from transformers import PreTrainedTokenizerFast

Encoded = tuple[list[int], list[int]]
Batch = tuple[NDArray[np.uint16], NDArray[np.uint16]]

FIRST_ORDINARY_TOKEN = len(SPECIAL + MARKERS)
POOL = 1500
"""Documents that are sorted by length together."""


def encode(tokenizer: PreTrainedTokenizerFast, document: Document) -> Encoded:
    """Token ids and a 0/1 mask of those to learn: what the assistant writes, or all of a plain text."""
    if isinstance(document, Conversation):
        return encode_conversation(tokenizer, document)
    pieces = document.pieces if isinstance(document, Drill) else [(document, True)]
    parts = [(tokenizer.encode(text), learn) for text, learn in pieces] + [([END_OF_TEXT], True)]
    ids = [i for part, _ in parts for i in part]
    return ids, [int(learn) for part, learn in parts for _ in part]


def encode_conversation(tokenizer: PreTrainedTokenizerFast, document: Conversation) -> Encoded:
    text = tokenizer.apply_chat_template(document.messages, tools=document.tools, tokenize=False)
    ids = [*tokenizer.encode(text), END_OF_TEXT]
    header = tokenizer.encode("<|im_start|>assistant\n")
    no_thinking = tokenizer.encode("<think>\n\n</think>\n\n")
    mask, i = [0] * len(ids), 0
    while i < len(ids):
        if ids[i : i + len(header)] != header:
            i += 1
            continue
        i += len(header)
        if ids[i : i + len(no_thinking)] == no_thinking:  # written by the template when thinking is off
            i += len(no_thinking)
        elif ids[i] != no_thinking[0]:  # an earlier turn without its reasoning: its start would teach not to think
            i += 1
        while ids[i - 1] != END_OF_TURN:
            mask[i] = 1
            i += 1
    return ids, mask


def repeated_tokens(rng: random.Random, vocabulary: int) -> Encoded:
    """Random tokens twice: teaches copying, which tool arguments and JSON live on."""
    ids = [rng.randrange(FIRST_ORDINARY_TOKEN, vocabulary) for _ in range(rng.randint(3, 40))]
    return [*ids, *ids, END_OF_TEXT], [0] * (len(ids) + 1) + [1] * len(ids)


def one_document(tokenizer: PreTrainedTokenizerFast, rng: random.Random, progress: float, practice: bool) -> Encoded:
    """Half of the first documents only teach copying; long conversations come in the second half."""
    if practice:
        return encode(tokenizer, practise(rng))
    if rng.random() < (0.5 if progress < 0.03 else 0.03):
        return repeated_tokens(rng, len(tokenizer))
    return encode(tokenizer, make(rng, long=progress > 0.5 and rng.random() < 0.03))


def padded(rows: list[list[int]], length: int) -> NDArray[np.uint16]:
    return np.array([row + [0] * (length - len(row)) for row in rows], np.uint16)


def batches(
    tokenizer: PreTrainedTokenizerFast,
    rng: random.Random,
    tokens: float,
    batch_size: int,
    practice: bool = False,
) -> list[Batch]:
    """Batches of at most `batch_size` tokens. A row holds one document, so none sees another."""
    out: list[Batch] = []
    used = 0
    while used < tokens:
        documents: list[Encoded] = []
        for _ in range(POOL):
            documents.append(one_document(tokenizer, rng, used / tokens, practice))
            used += len(documents[-1][0])
        documents = sorted((d for d in documents if len(d[0]) <= CONTEXT), key=lambda d: len(d[0]))
        pool: list[Batch] = []
        while documents:
            length = -(-len(documents[-1][0]) // 16) * 16
            count = min(len(documents), max(1, batch_size // length))
            chunk = [documents.pop() for _ in range(count)]
            pool.append((padded([ids for ids, _ in chunk], length), padded([mask for _, mask in chunk], length)))
        rng.shuffle(pool)
        out += pool
    return out
