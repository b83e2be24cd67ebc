"""`python -m hugging_llama.engine.grammars.trial_worker`: compiles grammars of strangers before the engine does.

The first line of standard input is the vocabulary: `{"size": …, "special_ids": {text: id}}`. Each line after it is a
grammar in JSON, one answer a line of standard output: `{"bytes": …}`, the memory that it took, or `{"refusal": …}`,
the end of a sentence. llguidance can't be interrupted, and a few hundred bytes of a schema can keep it busy for
minutes or fill gigabytes: so each grammar is compiled in a fork with little memory and an alarm clock that counts CPU
time. What takes so long does not depend on the vocabulary, so bytes and control tokens do here.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import llguidance

from hugging_llama.engine.bounded_fork import TOO_LONG, run_bounded
from hugging_llama.engine.grammars.limits import LONGEST_COMPILATION_S, MOST_MEMORY_BYTES, compiled, parser_limits
from hugging_llama.engine.process_memory import data_bytes

_LEAST_REPORTED_BYTES = 2**16


class _Bytes:
    """A tokenizer of bytes and control tokens, as llguidance asks for one."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, size: int, special_ids: Mapping[str, int]) -> None:
        self.tokens = [bytes([token_id]) if token_id < 256 else b"" for token_id in range(max(size, 258))]
        for text, token_id in special_ids.items():
            self.tokens[token_id] = text.encode()
        self.special_token_ids = sorted(special_ids.values())
        self.eos_token_id = self.special_token_ids[0] if special_ids else 257

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


def vocabulary_of(size: int, special_ids: Mapping[str, int]) -> Any:
    """Control tokens where the model has them, bytes in front of everything else."""
    tokenizer: Any = _Bytes(size, special_ids)
    return llguidance.LLTokenizer(tokenizer, n_vocab=len(tokenizer.tokens), slices=[])


def tried(vocabulary: Any, grammar: str) -> dict[str, Any]:
    """What became of the compilation in a fork."""
    found, fault = run_bounded(
        lambda: str(_bytes_taken(vocabulary, grammar)), longest_s=LONGEST_COMPILATION_S, most_bytes=MOST_MEMORY_BYTES
    )
    if fault:
        return {"refusal": "takes too long to prepare" if fault is TOO_LONG else "takes too much memory"}
    return {"bytes": int(found)}


def _bytes_taken(vocabulary: Any, grammar: str) -> int:
    before = data_bytes()
    # what is wrong with it the engine says; kept until it has been weighed
    kept = compiled(vocabulary, grammar, parser_limits())
    taken = data_bytes() - before
    del kept
    return max(taken, _LEAST_REPORTED_BYTES)


def main() -> None:
    """Until standard input ends, which it does with the engine."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all of its processes
    os.nice(5)  # running streams come first
    first = json.loads(sys.stdin.buffer.readline() or "{}")
    vocabulary = vocabulary_of(first.get("size", 0), first.get("special_ids", {}))
    for line in sys.stdin.buffer:
        print(json.dumps(tried(vocabulary, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
