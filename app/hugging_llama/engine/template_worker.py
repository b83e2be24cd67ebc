"""`python -m hugging_llama.engine.template_worker`: renders chat templates, by transformers' renderer.

One job in JSON a line of standard input, one answer a line of standard output, with the CPU's time that it `took_s`. A
template is code by a stranger that may ask for all time and memory there is, even in one call into C: so this process
has a limit of memory, and an alarm clock that ends it. It holds nothing that would be missed.
"""

import json
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import jinja2

from hugging_llama.engine.process_memory import limit_data
from hugging_llama.engine.template_renderer import render_jinja_template

MEMORY_BYTES = 512 * 2**20
"""For a template's own values, beside what the interpreter has by then."""
_LONGEST_REASON = 1000
"""In characters, of what a template says itself."""
_TOO_MUCH = {"refusal": "takes too much memory", "is_costly": True}
_SHORTEST_S = 0.001
"""An alarm in 0 s never comes."""


def render(job: Mapping[str, Any]) -> dict[str, Any]:
    """`{"text": …}`, or `{"refusal": …}`, the end of a sentence about the template, or `{"no_place": …}` where it shows
    nothing of the answer's beginning."""
    try:
        texts, _ = render_jinja_template(
            conversations=[job["rows"]],
            tools=job["tools"],
            chat_template=job["template"],
            add_generation_prompt=not job["continues"],
            continue_final_message=job["continues"],
            **job["variables"],
        )
        return {"text": texts[0]}
    except MemoryError:
        return _TOO_MUCH
    except jinja2.TemplateError as error:
        return {"refusal": f"refuses these messages: {str(error)[:_LONGEST_REASON]}"}
    except ValueError as error:
        is_placed = not job["continues"] or "continue_final_message" not in str(error)
        return {"refusal": "can't render these messages"} if is_placed else {"no_place": "continue_final_message"}
    except Exception:
        return {"refusal": "can't render these messages"}


def main() -> None:
    """Until standard input ends, which it does with the engine."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all of its processes
    limit_data(MEMORY_BYTES)
    for line in sys.stdin.buffer:
        try:
            job = json.loads(line)
            signal.setitimer(signal.ITIMER_REAL, max(job["longest_s"], _SHORTEST_S))
            began_s = time.process_time()
            found = render(job)
            answer = json.dumps(found | {"took_s": time.process_time() - began_s})
        except MemoryError:
            answer = json.dumps(_TOO_MUCH)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(answer, flush=True)


if __name__ == "__main__":
    main()
