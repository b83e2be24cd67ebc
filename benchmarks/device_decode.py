"""Tokens a second of the step loop itself on a CUDA device, with CUDA graphs and without; no server, no peer.

python -m benchmarks.device_decode --layers 32 --hidden 4096

The weights are random and of Llama's shape. Prompts of 64 tokens, 128 new tokens, greedy; the best of two rounds.
"""

import argparse
import random
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hugging_llama.engine.core import StepLoop
from hugging_llama.engine.kv_cache import KVCache
from hugging_llama.engine.model_runner import ModelRunner
from hugging_llama.engine.prefix_cache import PrefixCache
from hugging_llama.engine.scheduler import Scheduler
from hugging_llama.engine.self_test import can_host
from hugging_llama.engine.sequence import Sequence
from hugging_llama.engine.step_budget import StepBudget
from hugging_llama.neutral.events import GenerateEvent
from hugging_llama.neutral.requests import SamplingParams

PROMPT_TOKENS, NEW_TOKENS, ROUNDS = 64, 128, 2
VOCAB_SIZE = 128_256


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


def make_model(layers: int, hidden: int) -> LlamaForCausalLM:
    """Random bf16 weights on the device, eight key heads of 128."""
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=hidden,
        intermediate_size=hidden * 7 // 2,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 128,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        eos_token_id=None,
    )
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        model = LlamaForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    return model.requires_grad_(False)


def rate(model: LlamaForCausalLM, streams: int, *, graphs: bool) -> float:
    """Generated tokens by the time of the whole run."""
    runner = ModelRunner(model)
    if graphs:
        runner.use_graphs()
    cache = KVCache(runner.probe().shapes, dtype=runner.dtype, device=runner.device, capacity_tokens=1 << 17)
    budget = StepBudget(fixed=4096, lowest=256, highest=8192, target_s=0.2)
    scheduler = Scheduler(cache, PrefixCache(cache, max_entries=0), budget, max_num_seqs=64, max_queue=64)
    ended: list[Sequence] = []
    loop = StepLoop(runner, scheduler, cache, emit=lambda events: None, on_finished=ended.append, name="benchmark")
    best = 0.0
    for number in range(ROUNDS):
        random_ids = random.Random(number)
        ended.clear()
        torch.cuda.synchronize()
        started = time.perf_counter()
        for stream in range(streams):
            prompt = [random_ids.randrange(1000, VOCAB_SIZE) for _ in range(PROMPT_TOKENS)]
            params = SamplingParams(temperature=0.0, max_tokens=NEW_TOKENS)
            loop.submit(
                Sequence(
                    key=(1, stream), prompt_token_ids=prompt, sampling=params, context_length=4096, output=_Silent()
                )
            )
        while len(ended) < streams:
            loop.run_once()
        best = max(best, streams * NEW_TOKENS / (time.perf_counter() - started))
    loop.close()
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64])
    arguments = parser.parse_args()
    model = make_model(arguments.layers, arguments.hidden)
    model.train(False)
    hosted, reason = can_host(model)
    if not hosted:
        raise SystemExit(reason)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {model.num_parameters() / 1e9:.1f} B parameters")
    for streams in arguments.streams:
        eager, captured = (rate(model, streams, graphs=graphs) for graphs in (False, True))
        print(f"{streams} streams: eager {eager:.0f}, graphs {captured:.0f} tokens/s, {captured / eager:.2f} times")


if __name__ == "__main__":
    main()
