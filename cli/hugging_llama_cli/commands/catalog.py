"""List well-known models with the memory that each needs, as far as they fit.

The estimate is the weights, the KV cache of a sequence of --context tokens, and the engine around them: what a server
says of the same model on its disk. What fits is judged by the largest GPU, or by the machine's memory where there is
none.
"""

import argparse
import json
import sys

from hugging_llama_cli import render
from hugging_llama_cli.errors import CliError, UsageError
from hugging_llama_cli.machine_memory import MachineMemory, machine_memory
from hugging_llama_cli.model_catalog import DEFAULT_CONTEXT, CatalogModel, load_catalog
from hugging_llama_config.units import format_bytes, parse_size

_HEADERS = ("NAME", "PARAMS", "MEMORY", "CONTEXT", "LICENSE", "NOTES")


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("--memory", metavar="SIZE", help="the memory to fit into, such as 24GB (default: detected)")
    parser.add_argument("--all", action="store_true", help="list all models, whether they fit or not")
    parser.add_argument(
        "--context", type=int, default=DEFAULT_CONTEXT, metavar="TOKENS",
        help=f"the context to estimate for (default: {DEFAULT_CONTEXT})",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON, sizes in bytes")


def run(args: argparse.Namespace) -> int:
    """Print the models that fit; how that was judged goes to stderr."""
    if args.context < 1:
        raise UsageError("--context must be at least 1")
    limit = None if args.all else _limit(args.memory)
    device = limit.device if limit else "cpu"
    sized = [(model.memory(args.context, device).total_bytes, model) for model in load_catalog()]
    fitting = sorted((pair for pair in sized if limit is None or pair[0] <= limit.num_bytes), key=lambda pair: pair[0])
    if args.json:
        print(json.dumps([model.to_json(args.context, device) for _, model in fitting], indent=2))
        return 0
    print(_preface(limit, args.context), file=sys.stderr)
    print(render.table(_HEADERS, (_row(model, memory_bytes) for memory_bytes, model in fitting)))
    return 0


def _limit(text: str | None) -> MachineMemory:
    if text is not None:
        try:
            return MachineMemory(parse_size(text), "--memory")
        except ValueError as error:
            raise UsageError(f"--memory: {error}") from None
    memory = machine_memory()
    if memory is None:
        raise CliError("this machine's memory can't be found out; name it with --memory, or use --all")
    return memory


def _preface(limit: MachineMemory | None, context: int) -> str:
    which = "All models" if limit is None else f"Models that fit {format_bytes(limit.num_bytes)} ({limit.owner})"
    return f"{which}, estimated for a context of {context} tokens"


def _row(model: CatalogModel, memory_bytes: int) -> tuple[str, ...]:
    notes = ["embedding"] * (model.kind == "embedding") + ["gated"] * model.gated
    # one unit and one digit throughout: these are compared with each other, and rounding down would promise too much
    memory = f"{memory_bytes / 1e9:.1f} GB"
    return (model.id, _count(model.parameters), memory, str(model.context), model.license, ", ".join(notes))


def _count(parameters: int) -> str:
    """`8.2B`, `596M`."""
    if parameters >= 999_500_000:
        return f"{parameters / 1e9:.1f}B"
    return f"{parameters / 1e6:.0f}M"
