"""List well-known models with the memory that each needs, as far as they fit.

The estimate is the weights, the KV cache of a sequence of --context tokens, and the engine around them: what a server
says of the same model on its disk. What fits is judged by the largest GPU, or by the machine's memory where there is
none; on a CPU, a model that is too large may fit with int8 or int4 weights (`create NAME --from MODEL -q int8`).
"""

import argparse
import json
import sys
from dataclasses import dataclass
from typing import Any

from hugging_llama_cli import render
from hugging_llama_cli.errors import CliError, UsageError
from hugging_llama_cli.machine_memory import MachineMemory, machine_memory
from hugging_llama_cli.model_catalog import DEFAULT_CONTEXT, CatalogModel, load_catalog
from hugging_llama_cli.terminal import columns
from hugging_llama_config.client import load_client_settings
from hugging_llama_config.hardware import runs_native_kernels
from hugging_llama_config.units import format_bytes, parse_size

_HEADERS = ("NAME", "PARAMS", "MEMORY", "FIT", "CONTEXT", "LICENSE", "NOTES")
_LEAST = ("NOTES", "LICENSE", "CONTEXT", "PARAMS")
_FITS = {"none": "fits", "int8": "fits with int8", "int4": "fits with int4", "": "does not fit"}


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("--memory", metavar="SIZE", help="the memory to fit into, such as 24GB (default: detected)")
    parser.add_argument("--all", action="store_true", help="list all models, whether they fit or not")
    parser.add_argument(
        "--context", type=int, default=DEFAULT_CONTEXT, metavar="TOKENS",
        help=f"the context to estimate for (default: {DEFAULT_CONTEXT})",
    )  # fmt: skip
    parser.add_argument("--update", action="store_true", help="ask the Hub first what the models are today")
    parser.add_argument("--json", action="store_true", help="print JSON, sizes in bytes")


@dataclass(frozen=True, slots=True)
class Fit:
    """A model and the weights with which it fits, "" for none; the memory is that of these, else of exact ones."""

    model: CatalogModel
    quantization: str
    memory_bytes: int

    @property
    def order(self) -> tuple[int, int]:
        """The better the fit the earlier, then by memory."""
        return list(_FITS).index(self.quantization), self.memory_bytes


def run(args: argparse.Namespace) -> int:
    """Print the models that fit; how that was judged goes to stderr."""
    if args.context < 1:
        raise UsageError("--context must be at least 1")
    limit = _limit(args.memory, is_needed=not args.all)
    settings = load_client_settings(args.url)
    models = load_catalog(settings.home)
    if args.update:
        # requests is loaded for this alone
        from hugging_llama_cli.catalog_update import update_catalog

        models = update_catalog(models, settings, sys.stderr)
    fits = [_fit(model, limit, args.context) for model in models]
    shown = sorted((fit for fit in fits if args.all or fit.quantization), key=lambda fit: fit.order)
    if args.json:
        print(json.dumps([_json(fit, args.context, limit) for fit in shown], indent=2))
        return 0
    print(_preface(limit, args.context, is_all=args.all), file=sys.stderr)
    rows = [_row(fit, is_judged=limit is not None) for fit in shown]
    print(render.table(_HEADERS, rows, columns(sys.stdout), _LEAST))
    return 0


def _limit(text: str | None, *, is_needed: bool) -> MachineMemory | None:
    machine = machine_memory()
    if text is not None:
        try:
            return MachineMemory(parse_size(text), "--memory", machine.device if machine else "cpu")
        except ValueError as error:
            raise UsageError(f"--memory: {error}") from None
    if machine is None and is_needed:
        raise CliError("this machine's memory can't be found out; name it with --memory, or use --all")
    return machine


def _fit(model: CatalogModel, limit: MachineMemory | None, context: int) -> Fit:
    device = limit.device if limit else "cpu"
    exact = model.memory(context, model.runtime(device)).total_bytes
    if limit is None or exact <= limit.num_bytes:
        return Fit(model, "none", exact)
    for quantization in ("int8", "int4") if device == "cpu" else ():
        runtime = model.runtime(device, quantization, has_native_linears=runs_native_kernels())
        memory = model.memory(context, runtime).total_bytes
        if memory <= limit.num_bytes:
            return Fit(model, quantization, memory)
    return Fit(model, "", exact)


def _preface(limit: MachineMemory | None, context: int, *, is_all: bool) -> str:
    judged = f"{format_bytes(limit.num_bytes)} ({limit.owner})" if limit else ""
    if not is_all:
        which = f"Models that fit {judged}"
    else:
        which = f"All models, and whether they fit {judged}" if limit else "All models"
    return f"{which}, estimated for a context of {context} tokens"


def _row(fit: Fit, *, is_judged: bool) -> tuple[str, ...]:
    model = fit.model
    notes = ["embedding"] * (model.kind == "embedding") + ["gated"] * model.gated
    # one unit and one digit throughout: these are compared with each other, and rounding down would promise too much
    memory = f"{fit.memory_bytes / 1e9:.1f} GB"
    verdict = _FITS[fit.quantization] if is_judged else "-"
    context = str(model.size.context_length)
    return (model.id, _count(model.parameters), memory, verdict, context, model.license, ", ".join(notes))


def _json(fit: Fit, context: int, limit: MachineMemory | None) -> dict[str, Any]:
    model = fit.model
    return {
        "id": model.id,
        "kind": model.kind,
        "parameters": model.parameters,
        "dtype": model.dtype,
        "weight_bytes": model.weight_bytes,
        "kv_bytes_per_token": model.kv_bytes_per_token,
        "memory_bytes": fit.memory_bytes,
        "fit": _FITS[fit.quantization] if limit else None,
        "quantization": fit.quantization if limit and fit.quantization else None,
        "context": model.size.context_length,
        "license": model.license,
        "gated": model.gated,
        "commit": model.commit or None,
        "download_bytes": model.download_bytes or None,
    }


def _count(parameters: int) -> str:
    """`8.2B`, `596M`."""
    if parameters >= 999_500_000:
        return f"{parameters / 1e9:.1f}B"
    return f"{parameters / 1e6:.0f}M"
