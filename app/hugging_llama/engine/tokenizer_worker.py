"""`python -m hugging_llama.engine.tokenizer_worker`: reads tokenizers of strangers before the engine does.

A line of standard input has a model's: `[{"path": …, "added": […]}]`, the texts of tokens that other files add. One
answer a line of standard output: `{}`, or `{"refusal": …}`, the end of a sentence about the tokenizer. While the
tokenizers library makes a tokenizer of a file, no other thread of the process gets its turn, and where memory is short
it ends the process: so all are made in a fork first, and tried.
"""

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tokenizers import AddedToken, Tokenizer

from hugging_llama.engine.bounded_fork import TOO_LONG, run_bounded

LONGEST_S = 5.0
"""Of CPU time, for all of a model. The largest real ones, of 900,000 tokens, take two seconds, one of 260,000 less
than one."""
MOST_BYTES = 4 * 2**30
_TEXT = "A word or two, 12 \u00e9\u4e2d.\n\n"


def tried(sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What became of them in a fork. One that fails passes: the engine's own reading tells of that."""
    _, fault = run_bounded(lambda: _read(sources), longest_s=LONGEST_S, most_bytes=MOST_BYTES)
    if fault:
        return {"refusal": "takes too long to be read" if fault is TOO_LONG else "takes too much memory to be read"}
    return {}


def _read(sources: Sequence[Mapping[str, Any]]) -> str:
    for source in sources:
        with suppress(BaseException):  # a panic of the library, too, is none of the exceptions
            tokenizer = Tokenizer.from_file(source["path"])
            tokenizer.add_tokens([AddedToken(text, normalized=True) for text in source["added"]])
            tokenizer.decode(tokenizer.encode(_TEXT).ids, skip_special_tokens=False)
            tokenizer.to_str()
    return "read"


def main() -> None:
    """Until standard input ends, which it does with the engine."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all of its processes
    for line in sys.stdin.buffer:
        print(json.dumps(tried(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
