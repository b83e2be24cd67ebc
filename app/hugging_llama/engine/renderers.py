"""Who writes the prompts of a model: each for one request at a time, so what takes seconds has one of its own."""

import copy
import threading
from typing import Any

from hugging_llama.engine.prompt import PromptRenderer
from hugging_llama.engine.request_weight import is_slow
from hugging_llama.engine.template_process import TemplateProcess
from hugging_llama.errors import EngineShutdownError
from hugging_llama.neutral.requests import GenerateRequest, TokenizeRequest


class Renderers:
    """Made as a PromptRenderer is. The one for what is slow has a copy of the tokenizer, made when it is needed."""

    def __init__(self, tokenizer: Any, **facts: Any) -> None:
        self._facts = facts
        self._tokenizer = tokenizer
        self._processes = [TemplateProcess()]
        self.usual = PromptRenderer(tokenizer, templates=self._processes[0], **facts)
        if self.usual.has_template:
            self._processes[0].start()
        self._lock = threading.Lock()
        self._slow: PromptRenderer | None = None
        self._is_closed = False

    def of(self, request: GenerateRequest | TokenizeRequest) -> PromptRenderer:
        """The one to be used for this request. Raises EngineShutdownError after `close`."""
        if not is_slow(request):
            return self.usual
        with self._lock:
            if self._is_closed:
                raise EngineShutdownError("the model is being unloaded")
            if self._slow is None:
                with self.usual.lock:
                    tokenizer = copy.deepcopy(self._tokenizer)
                self._processes.append(TemplateProcess())
                self._slow = PromptRenderer(tokenizer, templates=self._processes[-1], **self._facts)
            return self._slow

    def close(self) -> None:
        """Ends what is being rendered; nothing is afterwards."""
        self._processes[0].close()  # whoever waits for the usual one holds the lock
        with self._lock:
            self._is_closed = True
            for process in self._processes:
                process.close()
