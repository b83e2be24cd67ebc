"""Has templates of callers rendered by a process of their own (template_worker.py), which may die of them."""

import signal
from typing import Any

from hugging_llama.engine.worker_process import WorkerProcess
from hugging_llama.errors import InvalidRequestError


class TemplateProcess(WorkerProcess):
    """Renders one template at a time."""

    def __init__(self) -> None:
        super().__init__("hugging_llama.engine.template_worker")

    def render(
        self,
        template: str,
        rows: Any,
        tools: Any,
        variables: dict[str, Any],
        *,
        longest_s: float,
        continues: bool = False,
    ) -> str:
        """The text that a Jinja template writes, all values being JSON; `continues` as in a ChatPrompt.

        Raises InvalidRequestError if it fails, or takes longer than `longest_s` or more memory than template_worker
        gives it, EngineShutdownError after `close`, ValueError where it has no place for an answer's beginning.
        """
        job = {"template": template, "rows": rows, "tools": tools, "variables": variables, "longest_s": longest_s}
        job["continues"] = continues
        answer = self.ask(job)
        if isinstance(answer, int):
            is_late = answer == -signal.SIGALRM
            answer = {"refusal": "takes too long" if is_late else "takes too much memory"}
        if "no_place" in answer:
            raise ValueError(answer["no_place"])
        if "text" not in answer:
            raise InvalidRequestError(f"this template {answer['refusal']}", param="template")
        return str(answer["text"])
