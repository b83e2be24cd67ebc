"""Train the demo model from scratch: `python -m tools.demo_model.train --out demo-model`.

The data, the tokenizer and the order of the batches are the same for a seed; the weights differ in their last
bits with the number of threads and the kind of CPU.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads are ruinous on a shared machine
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf
from tools.demo_model.batches import Batch, batches
from tools.demo_model.tokenizer import CONTEXT, END_OF_TEXT, END_OF_TURN, build_tokenizer, saved_tokenizer
from tools.demo_model.wiring import wire_copying
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HEAD_SIZE = 32
WARM_UP = 200
DECAY = 0.6
"""The share of the steps over which the learning rate falls to zero."""
Plan = list[tuple[int, int]]
"""(from this step on, the last step is this one): a run can be made shorter or longer while the rate falls."""
LOG_EVERY, SAVE_EVERY = 50, 500


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the demo model.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=float, default=14, help="millions of tokens of data")
    parser.add_argument("--steps", type=int, required=True, help="the last step, where the learning rate is zero")
    parser.add_argument(
        "--replan",
        type=replanned,
        nargs="*",
        default=[],
        metavar="STEP:LAST",
        help="from STEP on, LAST is the last step",
    )
    parser.add_argument("--batch", type=int, default=2048, help="tokens per step")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="use torch.compile (needs a C++ compiler)")
    parser.add_argument("--practise", type=Path, help="another stage: go on with the model in this folder")
    parser.add_argument("--general", action="store_true", help="with --practise: the documents of the first stage")
    return parser.parse_args()


def replanned(text: str) -> tuple[int, int]:
    step, last = text.split(":")
    return int(step), int(last)


def new_model(vocabulary: int, seed: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=256,
        num_hidden_layers=5,
        intermediate_size=576,
        num_attention_heads=256 // HEAD_SIZE,
        num_key_value_heads=256 // HEAD_SIZE // 2,
        head_dim=HEAD_SIZE,
        initializer_range=0.06,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=END_OF_TURN,
        pad_token_id=END_OF_TEXT,
    )
    model = LlamaForCausalLM(config)
    wire_copying(model, seed)
    return model


def new_optimizer(model: LlamaForCausalLM, rate: float) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": 0.1},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def rate_factor(step: int, plan: Plan) -> float:
    last = next(last for start, last in reversed(plan) if start <= step)
    return min(1.0, step / WARM_UP, (last - step + 1) / (DECAY * last))


def loss_of(model: LlamaForCausalLM, body: Callable[..., Any], batch: Batch) -> torch.Tensor:
    """Cross entropy of the tokens to learn; the vocabulary's logits are computed for those only."""
    ids, mask = batch
    tokens = torch.from_numpy(ids.astype(np.int64))
    learn = torch.from_numpy(mask[:, 1:].astype(bool))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = body(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1][learn]
        return nnf.cross_entropy(model.lm_head(hidden).float(), tokens[:, 1:][learn])


def train(
    model: LlamaForCausalLM,
    todo: list[Batch],
    rate: float,
    plan: Plan,
    body: Callable[..., Any],
    save: Callable[[], None],
) -> None:
    optimizer = new_optimizer(model, rate)
    steps, seen, start = len(todo), 0, time.monotonic()
    losses: list[float] = []
    for step, batch in enumerate(todo, 1):
        for group in optimizer.param_groups:
            group["lr"] = rate * rate_factor(step, plan)
        loss = loss_of(model, body, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen += batch[0].size
        losses.append(loss.item())
        if step % LOG_EVERY == 0 or step == steps:
            took = time.monotonic() - start
            mean = sum(losses[-LOG_EVERY:]) / len(losses[-LOG_EVERY:])
            speed = f"{took:.0f} s, {seen / took:.0f} tok/s"
            print(f"step {step}/{steps} loss {mean:.4f}, {seen / 1e6:.2f} M tokens, {speed}", flush=True)
        if step % SAVE_EVERY == 0 or step == steps:
            save()


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    tokenizer.save_pretrained(out)
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half.generation_config = GenerationConfig(
        eos_token_id=[END_OF_TURN, END_OF_TEXT],
        pad_token_id=END_OF_TEXT,
        do_sample=True,
        temperature=0.3,
        top_p=0.9,
        max_new_tokens=512,
    )
    half.to(torch.bfloat16).save_pretrained(out)


def main() -> None:
    options = arguments()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    before: Path | None = options.practise
    tokenizer = saved_tokenizer(before) if before else build_tokenizer(options.seed)
    rng = random.Random(options.seed)
    todo = batches(
        tokenizer, rng, options.tokens * 1e6, options.batch, practice=before is not None and not options.general
    )
    plan: Plan = [(0, options.steps), *options.replan]
    todo = todo[: plan[-1][1]]
    if before:
        model = LlamaForCausalLM.from_pretrained(before, dtype=torch.float32)
    else:
        model = new_model(len(tokenizer), options.seed)
    print(f"{model.num_parameters() / 1e6:.2f} M parameters, {len(todo)} steps", flush=True)
    body = torch.compile(model.model, dynamic=True) if options.compile else model.model
    train(model, todo, options.lr, plan, body, lambda: save_model(model, tokenizer, options.out))


if __name__ == "__main__":
    main()
