"""Decode over a whole slab by torch's own operators, with nothing that waits for the device: CUDA graphs hold it.

All rows of the slab attend, to the end of its capacity, and those that don't decode are dropped. That is at most a
slab's worth of keys too many, and their masks are made on the device.
"""

from torch import Tensor

from hugging_llama.engine.device_step import DeviceRows
from hugging_llama.engine.padded_attention import Attend, AttentionKind


def slab_attention(group: DeviceRows, layer: int, query: Tensor, kind: AttentionKind) -> Tensor:
    """`query` `[n, num_heads, head_dim]` of the group; returns `[n, num_heads, value_head_dim]`."""
    keys, values = group.slab.keys[layer], group.slab.values[layer]
    num_slots, num_kv_heads = keys.shape[:2]
    _, num_heads, head_dim = query.shape
    everybody = query.new_zeros(num_slots, num_heads, head_dim)
    everybody[group.rows] = query
    packed = everybody.view(num_slots, num_kv_heads, num_heads // num_kv_heads, head_dim)
    mask = group.mask(kind.window, query)
    attend = Attend(query, kind)
    if attend.is_plain:
        out = attend.fused(packed, keys, values, mask.expand(-1, num_kv_heads, packed.shape[2], -1))
    else:
        out = attend.explicit(packed.unsqueeze(3), keys, values, mask).squeeze(3)
    return out.reshape(num_slots, num_heads, -1)[group.rows]
