"""The timer goes on after an error: without it no model would ever leave."""

import math
import threading

import pytest

from hugging_llama.engine import expiry
from hugging_llama.engine.expiry import ExpiryTimer


def test_an_error_does_not_end_the_timer(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(expiry, "_AFTER_ERROR_S", 0.001)
    errors, is_asked_again = [OSError("too many open files")], threading.Event()

    def expire() -> float:
        if errors:
            raise errors.pop()
        is_asked_again.set()
        return math.inf

    timer = ExpiryTimer(expire)
    timer.start()
    assert is_asked_again.wait(60)
    timer.close()
    assert "too many open files" in caplog.text
