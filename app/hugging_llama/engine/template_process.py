"""Has templates rendered by a process of their own (template_worker.py), which may die of them."""

import signal
from typing import Any

from hugging_llama.engine.worker_process import WorkerProcess
from hugging_llama.errors import GenerationError


class TemplateFaultError(Exception):
    """A template fails on what it was given. The text ends a sentence about it; `is_costly`: it took too much."""

    def __init__(self, text: str, *, is_costly: bool = False) -> None:
        super().__init__(text)
        self.is_costly = is_costly


class TemplateProcess(WorkerProcess):
    """Renders one template at a time."""

    def __init__(self) -> None:
        super().__init__("hugging_llama.engine.template_worker")
        self.took_s = 0.0
        """Of the CPU's time, by the last template that was not ended."""

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

        Raises TemplateFaultError if it fails, or takes longer than `longest_s` or more memory than its worker gives
        it, EngineShutdownError after `close`, GenerationError if the worker itself fails, ValueError where it has no
        place for an answer's beginning.
        """
        job = {"template": template, "rows": rows, "tools": tools, "variables": variables, "longest_s": longest_s}
        job["continues"] = continues
        answer = self.ask(job)
        if isinstance(answer, int):
            if answer >= 0:
                raise GenerationError("chat templates can't be rendered here just now")
            is_late = answer == -signal.SIGALRM
            raise TemplateFaultError("takes too long" if is_late else "takes too much memory", is_costly=True)
        self.took_s = float(answer.get("took_s", 0.0))
        if "no_place" in answer:
            raise ValueError(answer["no_place"])
        if "text" not in answer:
            raise TemplateFaultError(answer["refusal"], is_costly=answer.get("is_costly", False))
        return str(answer["text"])
