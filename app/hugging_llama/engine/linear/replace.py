"""A model's linear layers exchanged for packed ones, one by one, so that its weights are never in memory twice."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hugging_llama.engine.linear.joint import JointLinear, JointPart
from hugging_llama.engine.linear.packed import Kernel, PackedLinear
from hugging_llama.engine.linear.trace import Trace, matrix

_Place = tuple[nn.Module, str]


def pack_linears(model: nn.Module, trace: Trace, kernel: Kernel) -> None:
    """Exchanges the linear layers that the trace saw called; others, and those whose weight the model reads, stay.

    Layers beside each other that got the same input are joined. The trace is emptied. The compute lock need not be
    held: a head takes seconds, and other models' streams shall not stand still so long.
    """
    places = _places(model)
    groups = _groups(trace, places)
    trace.calls.clear()  # the layers are to go as soon as they are replaced
    groups.reverse()
    while groups:
        with torch.inference_mode():
            _replace(groups.pop(), places, kernel)
    _leave_files(model)


def packed_bytes(model: nn.Module) -> int:
    """Bytes that the packed layers of a model take, which are no parameters any more."""
    return sum(module.weight_bytes for module in model.modules() if isinstance(module, PackedLinear))


def _places(model: nn.Module) -> dict[nn.Module, list[_Place]]:
    """Where each module hangs; a shared one hangs at several places."""
    places: dict[nn.Module, list[_Place]] = {}
    for parent in model.modules():
        for name, child in parent._modules.items():  # named_children leaves out the second place
            if child is not None:
                places.setdefault(child, []).append((parent, name))
    return places


def _groups(trace: Trace, places: dict[nn.Module, list[_Place]]) -> list[list[nn.Module]]:
    """The layers to replace; those that were called one after the other on the same input are together."""
    groups: list[list[nn.Module]] = []
    known: set[nn.Module] = set()
    last: Tensor | None = None
    for module, x in trace.calls:
        if module not in known and _can_go(module, trace):
            if x is last and _are_siblings(groups[-1][-1], module, places):
                groups[-1].append(module)
            else:
                groups.append([module])
            known.add(module)
            last = x
        else:
            last = None
    return groups


def _can_go(module: nn.Module, trace: Trace) -> bool:
    weight, _ = matrix(module)
    return module not in trace.opened and weight.device.type == "cpu" and weight.is_floating_point()


def _are_siblings(first: nn.Module, second: nn.Module, places: dict[nn.Module, list[_Place]]) -> bool:
    """Whether two layers hang side by side, at one place each, and their weights can be one matrix."""
    weights = matrix(first)[0], matrix(second)[0]
    return (
        len(places[first]) == len(places[second]) == 1
        and places[first][0][0] is places[second][0][0]
        and weights[0].dtype == weights[1].dtype
        and weights[0].shape[1] == weights[1].shape[1]
    )


def _replace(group: list[nn.Module], places: dict[nn.Module, list[_Place]], kernel: Kernel) -> None:
    weights, biases = zip(*map(matrix, group), strict=True)
    if len(group) == 1:
        replacements: list[nn.Module] = [kernel.pack(weights[0], biases[0])]
    else:
        widths = [weight.shape[0] for weight in weights]
        joint = JointLinear(kernel.pack(torch.cat(weights), _joint_bias(weights, biases)), widths)
        replacements = [joint, *(JointPart(joint, i, widths[i]) for i in range(1, len(widths)))]
    for module, replacement in zip(group, replacements, strict=True):
        for parent, name in places.pop(module):
            setattr(parent, name, replacement)


def _leave_files(model: nn.Module) -> None:
    """Copies what is left of the weights out of the mapped files: a single tensor keeps a whole file mapped."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


def _joint_bias(weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Tensor | None:
    if all(bias is None for bias in biases):
        return None
    return torch.cat([w.new_zeros(w.shape[0]) if b is None else b for w, b in zip(weights, biases, strict=True)])
