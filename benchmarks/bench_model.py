"""The model that every peer runs: Qwen2 0.5B's shape with random weights, and a tokenizer in which a word is a token.

Text that the model writes tokenizes back into the same ids, so a chat's next turn begins with the last one's tokens.
"""

import hashlib
import itertools
import json
import random
import string
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

REPO = "bench/qwen2-0.5b-random"
ENDING_REPO = "bench/qwen2-0.5b-random-ending"
"""The same weights with an end token: a format is enforced only where a model can end."""
VOCAB_SIZE = 151936
CONTROL_TOKENS = ("<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_WORD_LENGTH = len("Ġabcd")
_FORMAT = "2"
"""Goes into the snapshot's name: another tokenizer or shape is another revision."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt as text and as token ids, of the same length in tokens by every peer's count."""

    text: str
    token_ids: tuple[int, ...]


def merges() -> list[tuple[str, str]]:
    """Byte pairs in order of rank: a space and two letters, two letters, then these two into a word."""
    letters = string.ascii_lowercase
    pairs = [(first, second) for first in letters for second in letters]
    beginnings = [("Ġ", letter) for letter in letters] + [(f"Ġ{first}", second) for first, second in pairs]
    words = ((f"Ġ{a}{b}", f"{c}{d}") for (a, b), (c, d) in itertools.product(pairs, repeat=2))
    num_words = VOCAB_SIZE - 256 - len(CONTROL_TOKENS) - len(beginnings) - len(pairs)
    return [*beginnings, *pairs, *itertools.islice(words, num_words)]


def vocabulary() -> list[str]:
    """The tokens by id: 256 bytes, the control tokens, then what each merge makes, four-letter words for the most."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [*alphabet, *CONTROL_TOKENS, *("".join(pair) for pair in merges())]


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A known word with a space in front is one token; any other text falls into pieces of a letter or two."""
    vocab = {token: number for number, token in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges()))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(CONTROL_TOKENS))
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, chat_template=CHAT_TEMPLATE
    )


def make_prompts(count: int, num_tokens: int, *, seed: int) -> list[Prompt]:
    """`count` prompts of exactly `num_tokens` random words; prompts of two seeds have no beginning in common."""
    rng, vocab = random.Random(seed), vocabulary()
    word_ids = [number for number, token in enumerate(vocab) if len(token) == _WORD_LENGTH and token[0] == "Ġ"]
    drawn = [tuple(rng.choices(word_ids, k=num_tokens)) for _ in range(count)]
    return [Prompt("".join(vocab[token] for token in token_ids).replace("Ġ", " "), token_ids) for token_ids in drawn]


def make_model(hub_cache: Path) -> Path:
    """Random bf16 weights without an end token, in a Hub cache. Returns the snapshot's folder; made once."""
    root = hub_cache / f"models--{REPO.replace('/', '--')}"
    commit = hashlib.sha1(f"{REPO} {_FORMAT}".encode()).hexdigest()
    snapshot, ref = root / "snapshots" / commit, root / "refs" / "main"
    if ref.exists() and ref.read_text() == commit:
        return snapshot
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=896, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2, intermediate_size=4864,
        vocab_size=VOCAB_SIZE, tie_word_embeddings=True, max_position_embeddings=16384,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).bfloat16()
    model.save_pretrained(snapshot)
    word_tokenizer().save_pretrained(snapshot)
    # the saved default would be the class's own end token
    (snapshot / "generation_config.json").write_text(json.dumps({"do_sample": False}))
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(commit)
    return snapshot


def make_ending_model(hub_cache: Path) -> Path:
    """`make_model`'s weights under ENDING_REPO. Returns the snapshot's folder; made once."""
    root = hub_cache / f"models--{ENDING_REPO.replace('/', '--')}"
    source = make_model(hub_cache)
    commit = hashlib.sha1(f"{ENDING_REPO} {_FORMAT}".encode()).hexdigest()
    snapshot, ref = root / "snapshots" / commit, root / "refs" / "main"
    if ref.exists() and ref.read_text() == commit:
        return snapshot
    snapshot.mkdir(parents=True, exist_ok=True)
    tokenizer = word_tokenizer()
    tokenizer.eos_token = CONTROL_TOKENS[1]
    tokenizer.save_pretrained(snapshot)
    end = {"eos_token_id": tokenizer.eos_token_id}
    for name in ("config.json", "generation_config.json"):
        (snapshot / name).write_text(json.dumps(json.loads((source / name).read_text()) | end))
    (snapshot / "model.safetensors").hardlink_to(source / "model.safetensors")
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(commit)
    return snapshot


def gguf_path(hub_cache: Path, kind: str) -> Path:
    """Where the same weights lie as a GGUF file of one kind: BF16, Q8_0 or Q4_0."""
    return hub_cache / "gguf" / f"{REPO.split('/')[1]}-{kind}.gguf"
