"""The tokenizer: byte-level BPE, trained on documents of the same generator."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tools.demo_model.conversations import make
from tools.demo_model.examples import Conversation, Drill
from transformers import PreTrainedTokenizerFast

TEMPLATE = Path(__file__).with_name("chat_template.jinja")
CONTEXT = 2048
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
END_OF_TEXT, END_OF_TURN = 0, 2
MARKERS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
"""Single tokens that stay in the decoded text."""

SPLIT = r" ?\p{Ll}+|\p{Lu}?\p{Ll}+|\p{Lu}+|\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"
"""Lower-case words carry their leading space; capitals, digits and symbols do not, so that names and numbers
are the same tokens in a question and inside JSON quotes."""


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=TEMPLATE.read_text(encoding="utf-8"),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def saved_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return wrapped(Tokenizer.from_file(str(folder / "tokenizer.json")))


def texts(rng: random.Random, documents: int) -> Iterator[str]:
    """The documents cut at the special tokens, which merges must not cross."""
    render = wrapped(Tokenizer(models.BPE()))
    for _ in range(documents):
        document = make(rng)
        if isinstance(document, Conversation):
            text = str(render.apply_chat_template(document.messages, tools=document.tools, tokenize=False))
        elif isinstance(document, Drill):
            text = "".join(piece for piece, _ in document.pieces)
        else:
            text = document
        yield from text.replace("<|im_start|>", "<|im_end|>").split("<|im_end|>")


def build_tokenizer(seed: int, vocabulary: int = 2048, documents: int = 20000) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL + MARKERS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts(random.Random(seed), documents), trainer)
    saved = json.loads(bpe.to_str())
    for token in saved["added_tokens"]:
        token["special"] = token["content"] in SPECIAL
    return wrapped(Tokenizer.from_str(json.dumps(saved)))
