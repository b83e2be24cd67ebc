"""Adapters in the batch: the tokens of a model with the same change merged in, whoever else is beside them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from hugging_llama.engine.fused_layer import FusedLayer
from hugging_llama.engine.linear.packer import LinearPacker
from hugging_llama.engine.logit_difference import allowed_difference, is_within, worst_and_most
from hugging_llama.engine.lora import adapter as factors_of_adapters
from hugging_llama.engine.lora.adapter import LoraAdapter, TorchFactors
from hugging_llama.engine.lora.cache import AdapterCache
from hugging_llama.engine.model_runner import Chunk
from hugging_llama.engine.native.lora import LowRankFactors
from hugging_llama.engine.native.probe import Family, native_families
from hugging_llama.engine.runner import make_runner
from hugging_llama.engine.self_test import can_host
from hugging_llama.engine.state_runner import make_model_runner
from hugging_llama.errors import GenerationError
from hugging_llama.neutral.requests import SamplingParams
from hugging_llama_config.settings import Settings
from tests.engine.adapters import ATTENTION, MLP, make_adapter, merged
from tests.engine.families import make_family
from tests.engine.harness import GREEDY, Inbox, make_loop, make_prompts, make_sequence, run_until
from tests.engine.test_drafts import Oracle
from tests.engine.tiny_models import generate_greedy, make_model

PROMPTS = make_prompts(8, seed=8, shortest=3, longest=60)
HAS_NATIVE = {Family.ATTENTION, Family.ELEMENTWISE, Family.LINEAR_BF16} <= native_families()
Adapters = list[LoraAdapter | None]

PHI3 = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
TARGETS = {
    "gpt2": ("c_attn", "c_proj", "c_fc", "lm_head"),
    "phi3": PHI3,
    "qwen3_moe": ATTENTION,
    "gemma3_text": (*ATTENTION, *MLP, "lm_head"),
    "qwen3_next": ("q_proj", "o_proj", "in_proj_qkvz", "out_proj", "lm_head"),
    "mamba": ("in_proj", "x_proj", "out_proj"),
}

FAMILIES = ("llama", "qwen2", "gpt2", "qwen3_moe", "phi3", "gemma3_text", "qwen3_next", "mamba")


def targets_of(name: str) -> tuple[str, ...]:
    return TARGETS.get(name, (*ATTENTION, *MLP))


def packed(model: PreTrainedModel, quantization: str = "none") -> PreTrainedModel:
    LinearPacker(torch.device("cpu"), quantization).pack_writer(model, quantization, model.dtype)
    return model


def load(model: PreTrainedModel, *folders: Path) -> Adapters:
    """The adapters of these folders, and at the end None."""
    cache = AdapterCache(model, budget_bytes=2**30)
    return [*(cache.take(str(folder)) for folder in folders), None]


def answers(
    model: PreTrainedModel,
    prompts: list[list[int]],
    adapters: Adapters,
    sampling: SamplingParams = GREEDY,
    **options: Any,
) -> list[list[int]]:
    """Adapter i of those given has prompt i, and so on around; submitted a step apart."""
    inbox = Inbox()
    loop = make_loop(model, inbox, **options)
    sequences = [make_sequence(i, prompt, sampling) for i, prompt in enumerate(prompts)]
    for i, sequence in enumerate(sequences):
        sequence.adapter = adapters[i % len(adapters)]
        loop.submit(sequence)
        loop.run_once()
    run_until(loop, inbox, len(prompts))
    loop.close()
    return [sequence.output_token_ids for sequence in sequences]


@pytest.mark.parametrize(
    ("name", "is_packed"),
    [
        *((name, True) for name in FAMILIES),
        ("llama", False),
        ("gpt2", False),
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in FAMILIES if name not in ("llama", "gpt2")),
    ],
)
def test_a_mixed_batch_says_what_merged_models_say(name: str, is_packed: bool, tmp_path: Path) -> None:
    plain = make_family(name)
    folders = [
        make_adapter(tmp_path / "a", plain, targets_of(name), seed=1),
        make_adapter(tmp_path / "b", plain, targets_of(name)[:2], seed=2, rank=3, alpha=5),
        make_adapter(tmp_path / "c", plain, targets_of(name), seed=3, rank=9, use_rslora=True),
    ]
    models = [*(merged(plain, folder) for folder in folders), plain]
    expected = [generate_greedy(models[i % 4], prompt, 8) for i, prompt in enumerate(PROMPTS)]
    assert len({tuple(generate_greedy(model, PROMPTS[0], 8)) for model in models}) == 4, "all four differ"
    model = packed(plain) if is_packed else plain
    assert can_host(model)[0]
    assert answers(model, PROMPTS, load(model, *folders), max_num_seqs=6) == expected


@pytest.mark.skipif(not HAS_NATIVE, reason="there are no native kernels here")
@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_a_text_is_the_same_alone_and_in_any_batch_in_half_precision(
    name: str, quantization: str, tmp_path: Path
) -> None:
    plain = make_model(name, dtype=torch.bfloat16)
    folders = [make_adapter(tmp_path / str(i), plain, seed=i, rank=4 + i) for i in range(3)]
    model = packed(plain, quantization)
    assert can_host(model) == (True, "")
    assert any(isinstance(module, FusedLayer) for module in model.modules())
    without = answers(model, PROMPTS, [None])
    adapters = load(model, *folders)
    together = answers(model, PROMPTS, adapters, max_num_batched_tokens=48, max_num_seqs=8)
    for i, prompt in enumerate(PROMPTS):
        assert answers(model, [prompt], [adapters[i % 4]], max_num_batched_tokens=7)[0] == together[i]
    assert [together[3], together[7]] == [without[3], without[7]]
    assert together[:3] != without[:3]


@pytest.mark.skipif(not HAS_NATIVE, reason="there are no native kernels here")
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_the_kernels_compute_what_torch_computes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make_model(name, dtype=torch.bfloat16)
    folder = make_adapter(tmp_path, plain, (*ATTENTION, *MLP, "lm_head"), seed=1)
    model = packed(plain)
    assert can_host(model) == (True, "")
    native, none = load(model, folder)
    monkeypatch.setattr(factors_of_adapters, "native_families", frozenset)
    by_torch, _ = load(model, folder)
    assert native is not None
    assert by_torch is not None
    assert {type(factors) for factors in native.factors.values()} == {LowRankFactors}
    assert {type(factors) for factors in by_torch.factors.values()} == {TorchFactors}
    ours, theirs, without = (first_logits(model, PROMPTS[1], which) for which in (native, by_torch, none))
    assert is_within(*worst_and_most(ours, theirs), allowed_difference(torch.bfloat16))
    assert not is_within(*worst_and_most(ours, without), allowed_difference(torch.bfloat16))


def first_logits(model: PreTrainedModel, prompt: list[int], which: LoraAdapter | None) -> torch.Tensor:
    """Of all places of a prompt."""
    runner = make_model_runner(model)
    slot = runner.new_cache(capacity_tokens=1024, max_sequences=1).allocate(len(prompt))
    assert slot is not None
    return runner.compute([Chunk(slot, 0, prompt, num_logits=len(prompt), adapter=which)])


def three(model: PreTrainedModel, folder: Path) -> Adapters:
    """Two adapters and none."""
    return load(model, *(make_adapter(folder / str(seed), model, seed=seed) for seed in (1, 2)))


@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "packed"])
def test_long_and_short_sequences_with_longrope(is_packed: bool, tmp_path: Path) -> None:
    plain = make_model("phi3_longrope")
    folders = [make_adapter(tmp_path / str(seed), plain, PHI3, seed=seed) for seed in (1, 2)]
    models = [*(merged(plain, folder) for folder in folders), plain]
    prompts = make_prompts(6, seed=3, shortest=30, longest=60)
    expected = [generate_greedy(models[i % 3], prompt, 8) for i, prompt in enumerate(prompts)]
    model = packed(plain) if is_packed else plain
    assert can_host(model)[0]
    assert answers(model, prompts, load(model, *folders), max_num_seqs=6) == expected


def test_a_prefix_belongs_to_its_adapter(tmp_path: Path) -> None:
    model, inbox = make_model("llama"), Inbox()
    adapters = three(model, tmp_path)
    system = make_prompts(1, shortest=60, longest=60)[0]
    alone = [answers(model, [system], [adapter], max_prefixes=0)[0] for adapter in adapters]
    assert len({tuple(tokens) for tokens in alone}) == 3
    loop = make_loop(model, inbox, max_num_batched_tokens=32)
    cached = []
    for i in range(6):
        sequence = make_sequence(i, system)
        sequence.adapter = adapters[i % 3]
        loop.submit(sequence)
        run_until(loop, inbox, i + 1)
        assert sequence.output_token_ids == alone[i % 3]
        cached.append(sequence.num_cached_tokens)
    assert cached == [0, 0, 0, 59, 59, 59]
    loop.close()


def test_a_running_sequence_shares_its_beginning_with_those_of_its_adapter_only(tmp_path: Path) -> None:
    model, inbox = make_model("llama"), Inbox()
    adapters = three(model, tmp_path)
    system = make_prompts(1, shortest=120, longest=120)[0]
    loop = make_loop(model, inbox, max_num_seqs=8, max_num_batched_tokens=64)
    sequences = [make_sequence(i, [*system, 10 + i]) for i in range(6)]
    for i, sequence in enumerate(sequences):
        sequence.adapter = adapters[i // 2]
        loop.submit(sequence)
    run_until(loop, inbox, 6)
    for i, sequence in enumerate(sequences):
        assert (sequence.num_cached_tokens > 0) == (i % 2 == 1)
        assert sequence.output_token_ids == answers(model, [[*system, 10 + i]], [adapters[i // 2]])[0]
    loop.close()


def test_a_preempted_sequence_keeps_its_adapter(tmp_path: Path) -> None:
    model = make_model("llama")
    adapters = three(model, tmp_path)
    prompts = make_prompts(6, shortest=100, longest=180)
    sampled = SamplingParams(temperature=1.0, max_tokens=200, seed=7)
    plenty = answers(model, prompts, adapters, sampled, max_num_batched_tokens=64)
    inbox = Inbox()
    loop = make_loop(model, inbox, max_num_batched_tokens=64, capacity_tokens=1024)
    sequences = [make_sequence(i, prompt, sampled) for i, prompt in enumerate(prompts)]
    for i, sequence in enumerate(sequences):
        sequence.adapter = adapters[i % 3]
        loop.submit(sequence)
    run_until(loop, inbox, 6)
    assert loop.stats().preempted_total > 0
    assert [sequence.output_token_ids for sequence in sequences] == plenty
    loop.close()


def test_guesses_are_checked_with_the_adapter(tmp_path: Path) -> None:
    model, inbox = make_model("llama"), Inbox()
    adapters = three(model, tmp_path)
    sampling = SamplingParams(temperature=0.0, max_tokens=30)
    expected = answers(model, PROMPTS[:3], adapters, sampling)
    loop = make_loop(model, inbox, max_num_batched_tokens=64)
    sequences = [make_sequence(i, prompt, sampling) for i, prompt in enumerate(PROMPTS[:3])]
    for sequence, adapter, answer in zip(sequences, adapters, expected, strict=True):
        sequence.adapter = adapter
        sequence.drafts = Oracle(5, sequence.prompt_token_ids + answer)
        loop.submit(sequence)
    run_until(loop, inbox, 3)
    assert [sequence.output_token_ids for sequence in sequences] == expected
    assert loop.stats().drafted_tokens_total > loop.stats().accepted_tokens_total > 40
    loop.close()


def test_what_remains_of_a_shifted_context_is_computed_with_the_adapter(tmp_path: Path) -> None:
    model = make_model("llama")
    adapters = three(model, tmp_path)
    sampling = SamplingParams(temperature=0.0, max_tokens=60)

    def tokens(which: list[int]) -> list[list[int]]:
        inbox = Inbox()
        loop = make_loop(model, inbox, max_num_batched_tokens=64)
        sequences = [make_sequence(i, PROMPTS[i], sampling, context_length=64, shift=True) for i in which]
        for i, sequence in zip(which, sequences, strict=True):
            sequence.adapter = adapters[i]
            loop.submit(sequence)
        run_until(loop, inbox, len(which))
        loop.close()
        assert any(sequence.num_truncated_tokens for sequence in sequences)
        return [sequence.output_token_ids for sequence in sequences]

    assert tokens([0, 1, 2]) == [tokens([i])[0] for i in range(3)]


@pytest.mark.parametrize(("name", "kind"), [("qwen2", "batched"), ("mamba", "batched"), ("gptj", "generate")])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_beams_and_models_that_are_not_batched(name: str, kind: str, num_beams: int, tmp_path: Path) -> None:
    plain = make_family(name)
    targets = {"gptj": ("q_proj", "v_proj", "fc_in", "lm_head")}.get(name, targets_of(name))
    folders = [make_adapter(tmp_path / str(seed), plain, targets, seed=seed) for seed in (1, 2)]
    models = [*(merged(plain, folder) for folder in folders), plain]
    expected = [generate_beams(model, PROMPTS[1], num_beams) for model in models]
    assert len({tuple(tokens) for tokens in expected}) == 3
    inbox = Inbox()
    runner = make_runner(
        plain,
        settings=Settings(kv_cache_bytes=64 * 2**20),
        emit=inbox.emit,
        on_finished=inbox.on_finished,
        name="test",
    )
    assert runner.kind == kind
    params = SamplingParams(temperature=0.0, num_beams=num_beams, max_tokens=8)
    sequences = [make_sequence(i, PROMPTS[1], params) for i in range(3)]
    beside = make_sequence(9, PROMPTS[2], GREEDY)
    adapters = load(plain, *folders)
    for sequence, adapter in zip((*sequences, beside), (*adapters, adapters[0]), strict=True):
        sequence.adapter = adapter
        runner.submit(sequence)
    inbox.wait_finished(4)
    runner.close()
    assert [sequence.output_token_ids for sequence in sequences] == expected
    assert beside.output_token_ids == generate_greedy(models[0], PROMPTS[2], 8)


def generate_beams(model: PreTrainedModel, prompt: list[int], num_beams: int) -> list[int]:
    generate: Any = model.generate
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        out = generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=8,
            do_sample=False,
            num_beams=num_beams,
            pad_token_id=0,
        )
    tokens: list[int] = out[0, len(prompt) :].tolist()
    return tokens


def test_what_fails_with_an_adapter_fails_alone(tmp_path: Path) -> None:
    model, inbox = make_model("llama"), Inbox()
    good, _, none = three(model, tmp_path)
    assert good is not None
    expected = [answers(model, [prompt], [adapter])[0] for prompt, adapter in zip(PROMPTS, (good, none), strict=False)]
    module = next(iter(good.factors))
    broken = dataclasses.replace(good, factors={module: TorchFactors(torch.zeros(2, 3), torch.zeros(4, 2))})
    loop = make_loop(model, inbox)
    sequences = [make_sequence(i, prompt) for i, prompt in enumerate((PROMPTS[0], PROMPTS[2], PROMPTS[1]))]
    for sequence, adapter in zip(sequences, (good, broken, none), strict=True):
        sequence.adapter = adapter
        loop.submit(sequence)
    run_until(loop, inbox, 3)
    assert isinstance(inbox.ends(sequences[1].key)[0], GenerationError)
    assert [sequences[0].output_token_ids, sequences[2].output_token_ids] == expected
    loop.close()


def test_steps_with_adapters_take_no_graph(tmp_path: Path) -> None:
    class Graphs:
        num_steps = 0

        def run(self, step: object, token_ids: object, eager: Callable[[], torch.Tensor]) -> torch.Tensor:
            self.num_steps += 1
            return eager()

    model = make_model("llama")
    adapters = three(model, tmp_path)
    steps = []
    for adapter in (adapters[0], None):
        inbox, graphs = Inbox(), Graphs()
        loop = make_loop(model, inbox)
        model_runner: Any = loop._model_runner
        model_runner._graphs = graphs
        sequence = make_sequence(1, PROMPTS[0])
        sequence.adapter = adapter
        loop.submit(sequence)
        run_until(loop, inbox, 1)
        loop.close()
        steps.append(graphs.num_steps)
    assert steps[0] == 0 < steps[1]
