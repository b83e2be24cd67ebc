"""What may be wrong with a model's files: values that nobody expects, and bytes that moved."""

import random
import struct
from typing import Any

ODD_VALUES: list[Any] = [
    None, 0, -1, 1, 7, 2**16, 100_000, 2**20, 2**27, 2**31, 2**63, 10**30, 1.5, float("inf"), float("nan"), "", "x",
    "../x", "os.system", "evil/repo", True, [], {}, [0], [1] * 5, ["x"], {"a": 1}, {"rope_type": "x"},
    {"quant_method": "gguf", "gguf_file": "/etc/passwd"}, {"quant_method": "torchao", "quant_type": {"_type": "x"}},
]  # fmt: skip
MORE_KEYS = [
    "num_labels", "attn_implementation", "_attn_implementation", "quantization_config", "dtype", "auto_map",
    "transformers_weights", "fusion_config", "layer_types", "sliding_window", "num_experts", "rope_parameters",
    "pruned_heads", "tokenizer_class", "to_dict", "__class__", "id2label", "text_config", "per_layer_config",
    "moe_intermediate_size", "n_inner", "n_positions", "ffn_dim", "head_dim", "partial_rotary_factor",
]  # fmt: skip


def mutate(content: bytearray, dice: random.Random, limit: int) -> None:
    """Change one to four places before `limit`, or cut or lengthen the file."""
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(max(min(limit, len(content)) - 8, 1))
        match dice.randrange(5):
            case 0 | 1:
                content[place] = dice.randrange(256)
            case 2:
                content[place : place + 8] = struct.pack("<Q", dice.choice([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]))
            case 3:
                content[place : place + 4] = struct.pack("<I", dice.choice([0, 1, 2, 9, 255, 2**16, 2**31, 2**32 - 1]))
            case _:
                del content[place : place + dice.randrange(1, 64)]


def change(value: Any, dice: random.Random) -> None:
    """Puts something odd somewhere into a JSON value."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = dice.choice(keys)
        if not isinstance(value[key], (dict, list)) or not value[key] or dice.random() < 0.2:
            break
        value = value[key]
    if dice.random() < 0.2:
        del value[key]
    else:
        value[key] = dice.choice(ODD_VALUES)


def swap_numbers(content: bytearray, dice: random.Random, limit: int) -> None:
    """Change a number that the metadata have under a name."""
    places = [place for place in range(limit - 12) if content[place : place + 4] == b"\x04\0\0\0"]
    place = dice.choice(places) + 4
    content[place : place + 4] = struct.pack("<I", dice.choice([0, 1, 3, 31, 33, 255, 511, 1000, 2**16, 2**31 - 1]))
