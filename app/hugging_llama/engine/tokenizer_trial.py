"""Has a model's tokenizers read by a process of their own (tokenizer_worker.py), in bounded time and memory."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hugging_llama.engine.worker_process import WorkerProcess
from hugging_llama.errors import ModelLoadError

_WORKER = "hugging_llama.engine.tokenizer_worker"


@dataclass(frozen=True, slots=True)
class TokenizerSource:
    """A file that the tokenizers library reads, and the tokens that files beside it add."""

    path: Path
    added: Sequence[str]


def try_tokenizers(sources: Sequence[TokenizerSource]) -> None:
    """Before the engine reads those of a model. Raises ModelLoadError for what takes too long, or too much memory."""
    if not sources:
        return
    with closing(WorkerProcess(_WORKER)) as process:
        answer = process.ask([{"path": str(source.path), "added": list(source.added)} for source in sources])
    if isinstance(answer, int):
        answer = {"refusal": "can't be tried out just now"}
    if "refusal" in answer:
        raise ModelLoadError(f"the model's tokenizer {answer['refusal']}")
