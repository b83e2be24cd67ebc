"""`python -m hugging_llama.engine.tokenizer_worker`: reads tokenizers of strangers before the engine does.

One path in JSON a line of standard input, one answer a line of standard output: `{}`, or `{"refusal": …}`, the end of a
sentence about the file. While the tokenizers library makes a tokenizer of a file, no other thread of the process gets
its turn, and where memory is short it ends the process: so each one is made in a fork first, and tried.
"""

import json
import signal
import sys
from typing import Any

from tokenizers import Tokenizer

from hugging_llama.engine.bounded_fork import TOO_LONG, run_bounded

LONGEST_S = 5.0
"""Of CPU time. The largest real ones, of 900,000 tokens, take two seconds, one of 260,000 less than one."""
MOST_BYTES = 4 * 2**30
_TEXT = "A word or two, 12 \u00e9\u4e2d.\n\n"


def tried(path: str) -> dict[str, Any]:
    """What became of it in a fork. One that can't be read, or fails, passes: of that the engine's own reading tells."""
    _, fault = run_bounded(lambda: _read(path), longest_s=LONGEST_S, most_bytes=MOST_BYTES)
    if fault:
        return {"refusal": "takes too long to be read" if fault is TOO_LONG else "takes too much memory to be read"}
    return {}


def _read(path: str) -> str:
    try:
        tokenizer = Tokenizer.from_file(path)
        tokenizer.decode(tokenizer.encode(_TEXT).ids, skip_special_tokens=False)
        tokenizer.to_str()
    except BaseException as error:  # a panic of the library, too, is none of the exceptions
        return type(error).__name__
    return "read"


def main() -> None:
    """Until standard input ends, which it does with the engine."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all of its processes
    for line in sys.stdin.buffer:
        print(json.dumps(tried(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
