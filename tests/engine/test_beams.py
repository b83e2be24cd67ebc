"""Beam search: the tokens of transformers' own, beside a batch and without one, and an end at any time."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from hugging_llama.engine.grammars.bits import Bits
from hugging_llama.engine.layer_hooks import before_layers, layers_of
from hugging_llama.engine.runner import Runner, make_runner
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.events import FinishReason
from hugging_llama.neutral.requests import SamplingParams
from hugging_llama_config.settings import Settings
from tests.engine.families import make_family
from tests.engine.harness import GREEDY, Inbox, make_prompts, make_sequence
from tests.engine.tiny_models import generate_greedy, make_model

BEAMS = SamplingParams(num_beams=3, max_tokens=12, length_penalty=0.7)
PROMPTS = make_prompts(3, seed=4, shortest=20)


def generate_beams(model: PreTrainedModel, prompt: list[int], **options: Any) -> list[int]:
    generate: Any = model.generate
    ids = torch.tensor([prompt])
    arguments = {"num_beams": 3, "length_penalty": 0.7, "max_new_tokens": 12, "pad_token_id": 0, "do_sample": False}
    with torch.inference_mode():
        out = generate(ids, attention_mask=torch.ones_like(ids), **arguments | options)
    tokens: list[int] = out[0, len(prompt) :].tolist()
    return tokens


def start(model: PreTrainedModel, inbox: Inbox) -> Runner:
    return make_runner(
        model,
        settings=Settings(kv_cache_bytes=64 * 2**20),
        emit=inbox.emit,
        on_finished=inbox.on_finished,
        name="test",
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("qwen3", "batched"),
        ("mistral", "batched"),
        ("gemma2", "batched"),
        ("gpt_oss", "batched"),
        ("deepseek_v3", "batched"),
        ("qwen3_next", "batched"),
        ("mamba", "batched"),
        ("gptj", "generate"),
    ],
)
def test_beams_are_those_of_transformers_beside_a_batch(name: str, kind: str) -> None:
    model = make_family(name)
    expected = [generate_beams(model, prompt) for prompt in PROMPTS]
    plain = [generate_greedy(model, prompt, len(expected[0])) for prompt in PROMPTS]
    assert expected != plain, "beams that are greedy prove little"
    inbox = Inbox()
    runner = start(model, inbox)
    assert runner.kind == kind
    sequences = [make_sequence(i, prompt, BEAMS) for i, prompt in enumerate(PROMPTS)]
    beside = make_sequence(9, PROMPTS[0], dataclasses.replace(GREEDY, max_tokens=len(plain[0])))
    for sequence in (*sequences, beside):
        runner.submit(sequence)
    inbox.wait_finished(4)
    runner.close()
    assert [sequence.output_token_ids for sequence in sequences] == expected
    assert beside.output_token_ids == plain[0]
    assert sum(any(key == (1, 0) for key, _ in frame) for frame in inbox.frames) == 1, "its text comes in one piece"


def test_penalties_and_ends_shape_the_beams() -> None:
    model = make_model("qwen2")
    shaped = generate_beams(model, PROMPTS[0], repetition_penalty=0.1)
    assert shaped != generate_beams(model, PROMPTS[0])
    eos = shaped[8]
    options = {"repetition_penalty": 0.1, "eos_token_id": eos, "early_stopping": True}
    expected = generate_beams(model, PROMPTS[0], **options)
    inbox = Inbox()
    runner = start(model, inbox)
    params = dataclasses.replace(BEAMS, repetition_penalty=0.1, repeat_last_n=-1, early_stopping=True)
    sequence = make_sequence(1, PROMPTS[0], params, eos_token_ids=frozenset({eos}))
    runner.submit(sequence)
    inbox.wait_finished(1)
    runner.close()
    assert sequence.output_token_ids == expected


def test_beams_and_a_grammar_are_refused() -> None:
    class Anything:
        finished = False

        def fill(self, bits: Bits) -> bool:
            return False

        def forced(self) -> list[int]:
            return []

        def accept(self, token_id: int) -> None: ...

    runner = start(make_model("qwen2"), Inbox())
    with pytest.raises(InvalidRequestError, match="num_beams"):
        runner.submit(make_sequence(1, [5], BEAMS, grammar=Anything()))
    runner.close()


def test_a_beam_search_can_be_cancelled_between_two_tokens() -> None:
    inbox = Inbox()
    runner = start(make_model("qwen2"), inbox)
    endless = make_sequence(1, [5], dataclasses.replace(BEAMS, max_tokens=None), context_length=100_000)
    runner.submit(endless)
    while not runner.stats().steps_total:
        assert not inbox.finished
    runner.cancel(endless.key)
    inbox.wait_finished(1)
    assert inbox.ends(endless.key)[0].reason is FinishReason.ABORT
    runner.close()


def test_another_threads_forward_does_not_see_the_look_between_layers() -> None:
    """The batch runs the same model while a beam search waits for its turn."""
    model, prompt = make_model("qwen2"), torch.tensor([[5, 6, 7]])
    seen: list[int] = []
    with before_layers(layers_of(model), lambda: seen.append(threading.get_ident())), ThreadPoolExecutor(1) as other:
        other.submit(model, prompt).result()
        assert seen == []
        model(prompt)
    assert seen == [threading.get_ident()] * 3
