"""The native CPU kernels beside torch's own, same shapes, same run, in turn: milliseconds a call.

python -m benchmarks.kernels [--rows 1 4 16] [--linear-only]

Each linear layer exists often enough to outgrow the caches, as the layers of a model do. Shapes are Qwen2 0.5B's.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from hugging_llama.engine.native.attention import DecodePlaces, LayerCache, chunk_attention, decode_attention
from hugging_llama.engine.native.elementwise import add_rms_norm, rotate, silu_mul
from hugging_llama.engine.native.linear import BFloat16Linear, Int4Linear, Int8Linear
from hugging_llama.engine.native.lora import LowRankFactors, LowRankPart, RowGroups, add_lora

SHAPES = {"qkv": (896, 1152), "o": (896, 896), "gate/up": (896, 9728), "down": (4864, 896), "head": (896, 151936)}
ROWS = (1, 4, 16, 64, 256)
HEAD_ROWS = 16
BEYOND_CACHES_BYTES = 128 * 2**20
INT4_GROUP = 32
ADAPTER_RANK = 16
ROUNDS = 7
BITS = {"bf16": 16.0, "int8": 8.0, "int4": 4.5}

Call = Callable[[Tensor], Tensor]
Pack = Callable[[Tensor], Call]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--linear-only", action="store_true")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, ms a call (GiB/s of weights, GFLOP/s)")
    with torch.inference_mode():
        for name, (k, n) in SHAPES.items():
            compare_linears(name, k, n, arguments.rows)
        if not arguments.linear_only:
            for m in (1, 16):
                compare_steps(m)
            for name, (k, n) in SHAPES.items():
                if name != "head":
                    compare_adapters(name, k, n, num_adapters=4, rows_each=4)
            for lengths in ([128], [2000], [8000], [128] * 16, [2000] * 16, [8000] + [128] * 15):
                compare_attention(lengths)
            for n, num_keys in ((5, 2000), (37, 2000), (512, 512), (512, 4096), (2048, 8192)):
                compare_chunk(n, num_keys)


def compare_linears(name: str, k: int, n: int, rows: list[int]) -> None:
    weight = torch.randn(n, k).bfloat16()
    kinds: dict[str, tuple[Pack, Pack]] = {
        "bf16": (BFloat16Linear.pack, torch_bf16),
        "int8": (Int8Linear.pack, torch_int8),
        "int4": (Int4Linear.pack, torch_int4),
    }
    for kind, (ours, torchs) in kinds.items():
        copies = int(max(1, BEYOND_CACHES_BYTES // (n * k * BITS[kind] / 8)))
        both: list[list[Call]] = [[make(weight) for _ in range(copies)] for make in (ours, torchs)]
        for m in rows:
            if n > 100_000 and m > HEAD_ROWS:
                continue
            compare_products(
                f"{name:8} {k}x{n} {kind} M={m:<4}", both, m, k, n * k * BITS[kind] / 8 / 2**30, 2e-9 * m * n * k
            )


def compare_products(name: str, layers: list[list[Call]], m: int, k: int, gib: float, gflop: float) -> None:
    x = torch.randn(m, k).bfloat16()
    calls = [functools.partial(all_of, part, x) for part in layers]
    native, other = (ms / len(layers[0]) / 1e3 for ms in in_turn(calls))
    print(
        f"{name} native {native * 1e3:8.4f} ({gib / native:5.1f}, {gflop / native:6.0f})"
        f"  torch {other * 1e3:8.4f} ({gib / other:5.1f}, {gflop / other:6.0f})  x{other / native:.2f}",
        flush=True,
    )


def all_of(layers: list[Call], x: Tensor) -> None:
    for layer in layers:
        layer(x)


def in_turn(calls: Sequence[Callable[[], object]]) -> list[float]:
    """The median milliseconds of each call, over rounds in which all have their turn."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS + 1):
        for call, mine in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            mine.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(mine[1:]) for mine in times]


def torch_bf16(weight: Tensor) -> Call:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, 1)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")


def torch_int8(weight: Tensor) -> Call:
    """oneDNN's product, and rows with a scale of their own around it."""
    scales = weight.float().abs().amax(1) / 127
    packed = torch.ops.onednn.qlinear_prepack((weight.float() / scales[:, None]).round().to(torch.int8), None)
    zeros = torch.zeros(weight.shape[0], dtype=torch.int64)

    def call(x: Tensor) -> Tensor:
        scale = x.abs().amax(dim=1, keepdim=True).float() / 127
        rows = (x / scale).round_().add_(128).to(torch.uint8)
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            rows, 1.0, 128, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return y.mul_(scale).bfloat16()

    return call


def torch_int4(weight: Tensor) -> Call:
    n, k = weight.shape
    groups = weight.float().view(n, k // INT4_GROUP, INT4_GROUP)
    low, high = groups.amin(2, keepdim=True), groups.amax(2, keepdim=True)
    scale = (high - low) / 15
    numbers = ((groups - low) / scale).round().clamp(0, 15).to(torch.int32).view(n, k)
    packed = torch._convert_weight_to_int4pack_for_cpu(numbers, 2)
    table = torch.stack([scale[..., 0].t(), (low + 8 * scale)[..., 0].t()], -1).bfloat16().contiguous()
    return lambda x: torch._weight_int4pack_mm_for_cpu(x, packed, INT4_GROUP, table)


def compare_steps(m: int) -> None:
    x, residual, weight = torch.randn(m, 896).bfloat16(), torch.randn(m, 896).bfloat16(), torch.ones(896).bfloat16()
    show(
        f"add + rms_norm M={m}",
        lambda: add_rms_norm(x, residual, weight, 1e-6),
        lambda: plain_norm(x, residual, weight),
    )
    joint = torch.randn(m, 9728).bfloat16()
    show(f"silu * up M={m}", lambda: silu_mul(joint), lambda: functional.silu(joint[:, :4864]) * joint[:, 4864:])
    heads, angles = torch.randn(m, 14, 64).bfloat16(), torch.randn(m, 64).bfloat16()
    show(f"rotary M={m}", lambda: rotate(heads, angles, angles), lambda: plain_rotation(heads, angles, angles))


def compare_adapters(name: str, k: int, n: int, *, num_adapters: int, rows_each: int) -> None:
    """Low-rank changes, each adapter's rows against torch's two products and an addition."""
    x, y = torch.randn(num_adapters * rows_each, k).bfloat16(), torch.randn(num_adapters * rows_each, n).bfloat16()
    parts = [
        LowRankPart(torch.randn(ADAPTER_RANK, k).bfloat16() / k, torch.randn(n, ADAPTER_RANK).bfloat16() / k, 0)
        for _ in range(num_adapters)
    ]
    rows = [torch.arange(i, len(x), num_adapters) for i in range(num_adapters)]
    groups, factors = RowGroups.of([part.tolist() for part in rows]), [LowRankFactors.pack([p], n) for p in parts]

    def by_torch() -> None:
        for place, part in zip(rows, parts, strict=True):
            y.index_add_(0, place, functional.linear(functional.linear(x[place], part.down), part.up))

    show(f"{num_adapters} adapters, {len(x)} rows of {name} {k}x{n}", lambda: add_lora(y, x, groups, factors), by_torch)


def plain_norm(x: Tensor, residual: Tensor, weight: Tensor) -> Tensor:
    total = (x + residual).float()
    return weight * (total * torch.rsqrt(total.pow(2).mean(-1, keepdim=True) + 1e-6)).bfloat16()


def plain_rotation(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    turned = torch.cat((-x[..., 32:], x[..., :32]), dim=-1)
    return x * cos[:, None] + turned * sin[:, None]


def compare_attention(lengths: list[int]) -> None:
    """Against fused attention over the rows padded to the longest, with a mask where they differ."""
    n, longest = len(lengths), max(lengths)
    keys, values = (torch.randn(n, 2, longest, 64).bfloat16() for _ in range(2))
    query = torch.randn(n, 14, 64).bfloat16()
    cache, places = LayerCache.of([keys], [values]), DecodePlaces.of([0] * n, list(range(n)), lengths)
    mask = None
    if min(lengths) < longest:
        hidden = torch.arange(longest)[None] >= torch.tensor(lengths)[:, None]
        mask = (
            torch.zeros(n, 1, 1, longest)
            .bfloat16()
            .masked_fill_(hidden[:, None, None], torch.finfo(torch.bfloat16).min)
        )
    grouped = query.view(n, 2, 7, 64)
    show(
        f"attention over {lengths[0]} + {n - 1} x {lengths[-1]} keys",
        lambda: decode_attention(query, cache, places, scaling=0.125),
        lambda: functional.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=0.125),
    )


def compare_chunk(n: int, num_keys: int) -> None:
    """Against fused attention with a causal mask; the heads that share keys are a batch over them."""
    keys, values = (torch.randn(2, num_keys, 64).bfloat16() for _ in range(2))
    query, first = torch.randn(n, 14, 64).bfloat16(), num_keys - n
    hidden = torch.arange(num_keys)[None] > torch.arange(first, num_keys)[:, None]
    mask = torch.zeros(n, num_keys).bfloat16().masked_fill_(hidden, torch.finfo(torch.bfloat16).min)
    grouped = query.view(n, 2, 7, 64).permute(2, 1, 0, 3)
    shared_keys, shared_values = (x.expand(7, -1, -1, -1) for x in (keys, values))
    show(
        f"attention of {n} tokens over {num_keys} keys",
        lambda: chunk_attention(query, keys, values, first, scaling=0.125),
        lambda: functional.scaled_dot_product_attention(
            grouped, shared_keys, shared_values, attn_mask=mask, scale=0.125
        ),
        repeats=1 if n >= 512 else 20,
    )


def show(name: str, ours: Callable[[], object], torchs: Callable[[], object], repeats: int = 20) -> None:
    def repeated(call: Callable[[], object]) -> Callable[[], object]:
        return lambda: [call() for _ in range(repeats)]

    native, other = (ms / repeats for ms in in_turn([repeated(ours), repeated(torchs)]))
    print(f"{name:40} native {native:8.4f}  torch {other:8.4f}  x{other / native:.2f}", flush=True)


if __name__ == "__main__":
    main()
