"""Tokens a second of the step loop itself with streams over several LoRA adapters, in turn with none; no server.

python -m benchmarks.adapters [--weights bf16] [--streams 16] [--adapters 4] [--rank 16]

Prompts of 64 tokens, 32 new tokens, greedy; the adapters change all linear layers of Qwen2 0.5B's decoder.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.bench_model import make_model, make_prompts
from hugging_llama.engine.core import StepLoop
from hugging_llama.engine.kv_cache import KVCache
from hugging_llama.engine.loader import Loader
from hugging_llama.engine.lora.adapter import LoraAdapter
from hugging_llama.engine.lora.cache import AdapterCache
from hugging_llama.engine.model_runner import ModelRunner
from hugging_llama.engine.prefix_cache import PrefixCache
from hugging_llama.engine.scheduler import Scheduler
from hugging_llama.engine.self_test import can_host
from hugging_llama.engine.sequence import Sequence
from hugging_llama.engine.step_budget import StepBudget
from hugging_llama.neutral.events import GenerateEvent
from hugging_llama.neutral.requests import SamplingParams
from hugging_llama_config.settings import Settings

PROMPT_TOKENS, NEW_TOKENS = 64, 32
NUM_LAYERS, HIDDEN, KEYS, INTERMEDIATE = 24, 896, 128, 4864
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, KEYS),
    "self_attn.v_proj": (HIDDEN, KEYS),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (HIDDEN, INTERMEDIATE),
    "mlp.up_proj": (HIDDEN, INTERMEDIATE),
    "mlp.down_proj": (INTERMEDIATE, HIDDEN),
}
QUANTIZE = {"bf16": "none", "int8": "int8", "int4": "int4"}


class _Silent:
    """Shows nothing."""

    stop = None
    num_thinking_tokens = 0
    is_aside = False
    is_whole = False

    def push(self, token_id: int) -> list[GenerateEvent]:
        return []

    def finish(self) -> list[GenerateEvent]:
        return []


def make_adapter(folder: Path, rank: int, seed: int) -> str:
    """Small random factors in the layout of peft. Returns the folder."""
    random = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for layer in range(NUM_LAYERS):
        for module, (in_features, out_features) in SHAPES.items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = 0.01 * torch.randn(rank, in_features, generator=random)
            tensors[f"{name}.lora_B.weight"] = 0.01 * torch.randn(out_features, rank, generator=random)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": rank}))
    return str(folder)


def make_loop(model: torch.nn.Module, ended: list[Sequence]) -> StepLoop:
    """A step loop that the caller drives."""
    runner = ModelRunner(model)  # type: ignore[arg-type]
    cache = KVCache(runner.probe().shapes, dtype=runner.dtype, device=runner.device, capacity_tokens=1 << 14)
    budget = StepBudget(fixed=2048, lowest=64, highest=2048, target_s=1.0)
    scheduler = Scheduler(cache, PrefixCache(cache, max_entries=0), budget, max_num_seqs=64, max_queue=64)
    return StepLoop(runner, scheduler, cache, emit=lambda events: None, on_finished=ended.append, name="benchmark")


def decode_rate(loop: StepLoop, ended: list[Sequence], streams: int, seed: int, of: list[LoraAdapter | None]) -> float:
    """Tokens by the time from where all streams have their first one to the end; stream i has adapter i of `of`."""
    ended.clear()
    sequences = []
    for stream, prompt in enumerate(make_prompts(streams, PROMPT_TOKENS, seed=seed)):
        params = SamplingParams(temperature=0.0, max_tokens=NEW_TOKENS)
        sequence = Sequence(
            key=(1, stream),
            prompt_token_ids=list(prompt.token_ids),
            sampling=params,
            context_length=4096,
            output=_Silent(),
        )
        sequence.adapter = of[stream % len(of)]
        sequences.append(sequence)
        loop.submit(sequence)
    while not all(sequence.output_token_ids for sequence in sequences):
        loop.run_once()
    started, before = time.perf_counter(), sum(len(sequence.output_token_ids) for sequence in sequences)
    while len(ended) < streams:
        loop.run_once()
    return (streams * NEW_TOKENS - before) / (time.perf_counter() - started)


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("bench-cache"))
    parser.add_argument("--weights", default="bf16", choices=list(QUANTIZE))
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--adapters", type=int, default=4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    checkpoint = Loader(Settings(device="cpu", dtype="bfloat16")).load(
        str(make_model(arguments.cache)), QUANTIZE[arguments.weights]
    )
    hosted, reason = can_host(checkpoint.model)
    if not hosted:
        raise SystemExit(reason)
    ended: list[Sequence] = []
    loop = make_loop(checkpoint.model, ended)
    decode_rate(loop, ended, arguments.streams, 999, [None])
    before = [decode_rate(loop, ended, arguments.streams, n, [None]) for n in range(arguments.rounds)]
    adapters = AdapterCache(checkpoint.model, budget_bytes=2**31)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        taken = [
            adapters.take(make_adapter(Path(folder, str(n)), arguments.rank, n)) for n in range(arguments.adapters)
        ]
        load_s = (time.perf_counter() - started) / arguments.adapters
    cases: dict[str, list[LoraAdapter | None]] = {
        "none, once adapters are loaded": [None],
        "one adapter": [taken[0]],
        f"{arguments.adapters} adapters": list(taken),
        f"{arguments.adapters} adapters and none": [*taken, None],
    }
    rates: dict[str, list[float]] = {"none, before the first adapter": before} | {name: [] for name in cases}
    for number in range(arguments.rounds):
        for name, of in cases.items():
            rates[name].append(decode_rate(loop, ended, arguments.streams, 100 + number, of))
    size = adapters.size_bytes / len(taken) / 2**20
    print(f"{arguments.weights}, {arguments.streams} streams, rank {arguments.rank}, {torch.get_num_threads()} threads")
    print(f"an adapter takes {size:.1f} MiB and {1000 * load_s:.0f} ms with the making of its file")
    for name, found in rates.items():
        print(f"{name}: {statistics.median(found):.1f} tokens/s while decoding ({min(found):.1f} to {max(found):.1f})")


if __name__ == "__main__":
    main()
