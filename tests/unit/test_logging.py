"""Lines for people and for machines, and levels that change while a process runs."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from hugging_llama.dialects.request_facts import AnswerFacts, RequestFacts
from hugging_llama.neutral.events import Usage
from hugging_llama.web.access_log import log_request, request_fields
from hugging_llama_config.env import ConfigError, load_settings
from hugging_llama_config.log_levels import PARTS, apply_levels, parse_levels
from hugging_llama_config.logging import FIELDS, JsonFormatter, TextFormatter


def record(message: str, **extra: object) -> logging.LogRecord:
    return logging.getLogger("hugging_llama.web").makeRecord(
        "hugging_llama.web", logging.INFO, "f", 1, message, (), None, extra=extra or None
    )


def test_a_line_of_json_is_one_line_whatever_is_in_it() -> None:
    line = JsonFormatter("web").format(record("a\nb\u2028\r\x00é", **{FIELDS: {"status": 200, "message": "mine"}}))
    assert line.isascii()
    assert len(line.splitlines()) == 1
    found = json.loads(line)
    assert found["message"] == "a\nb\u2028\r\x00é"
    assert (found["process"], found["level"], found["logger"]) == ("web", "info", "hugging_llama.web")
    assert found["status"] == 200


def test_exceptions_are_part_of_the_object() -> None:
    try:
        raise ValueError("oops")
    except ValueError:
        import sys as system

        found = record("failed")
        found.exc_info = system.exc_info()
    assert "ValueError: oops" in json.loads(JsonFormatter("web").format(found))["exception"]


def facts() -> RequestFacts:
    usage = Usage(num_prompt_tokens=3, queue_ns=2_000_000, decode_ns=30_000_000)
    answer = AnswerFacts(kind="generate", model="m", begun_at_ns=0, ended_at_ns=1, outcome="stop", usage=usage)
    return RequestFacts(
        method="POST", path="/api/chat\r\nFAKE line", endpoint="/api/chat", status=200, request_id="r1", key_id="k1",
        model="m:latest", duration_s=1.5, prompt_tokens=3, output_tokens=4, first_token_s=0.25, answers=[answer] * 2,
    )  # fmt: skip


def test_no_text_of_a_strangers_passes_for_a_line() -> None:
    forged = "evil\n2026-11-26 22:00:00,000 web[1] ERROR hugging_llama: FORGED\r\x1b[31mRED\u2028x\x85"
    first, *rest = TextFormatter("web").format(record(forged)).splitlines()
    assert first.endswith(": evil")
    assert rest == ["  2026-11-26 22:00:00,000 web[1] ERROR hugging_llama: FORGED\\u000d\\u001b[31mRED\\u2028x\\u0085"]


def test_what_is_told_has_an_end() -> None:
    text = "a" * 100_000 + "b" * 100_000
    told = TextFormatter("web").format(record(text))
    assert len(told) < 33_000
    assert "a\n  [1672" in told
    assert told.endswith("b")
    assert len(JsonFormatter("web").format(record(text))) < 34_000


def test_a_request_is_told_with_its_key_model_and_times() -> None:
    fields = request_fields(facts())
    assert fields == {
        "method": "POST", "path": "/api/chat%0D%0AFAKE%20line", "status": 200, "duration_s": 1.5, "request_id": "r1",
        "key_id": "k1", "model": "m:latest", "prompt_tokens": 3, "output_tokens": 4, "first_token_s": 0.25,
        "queue_s": 0.002, "decode_s": 0.03,
    }  # fmt: skip


def test_the_line_for_people_holds_the_same(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "hugging_llama.access"):
        log_request(facts())
        log_request(RequestFacts(method="GET", path="/health", endpoint="/health", status=200))
    (line,) = [entry.getMessage() for entry in caplog.records]
    assert line.startswith("POST /api/chat%0D%0AFAKE%20line 200 duration_s=1.5 request_id=r1 key_id=k1 model=m:latest ")


def test_levels_of_parts() -> None:
    assert parse_levels(["engine=debug", " store = error "]) == {"engine": "debug", "store": "error"}
    for wrong in ("engine=loud", "kitchen=debug"):
        with pytest.raises(ValueError, match="is none of"):
            parse_levels([wrong])
    with pytest.raises(ValueError, match="'engine' is no PART=LEVEL"):
        parse_levels(["engine"])
    with pytest.raises(ConfigError, match="HUGGING_LLAMA_LOG_LEVELS: 'kitchen' is none of"):
        load_settings(environ={"HUGGING_LLAMA_LOG_LEVELS": "kitchen=debug"})
    assert load_settings(environ={"HUGGING_LLAMA_LOG_LEVELS": "ipc=info"}).log_levels == ("ipc=info",)


def test_levels_are_applied_and_taken_back() -> None:
    try:
        apply_levels({"store": "debug"})
        assert logging.getLogger("hugging_llama.store.pull").getEffectiveLevel() == logging.DEBUG
        apply_levels({})
        assert all(logging.getLogger(f"hugging_llama.{part}").level == logging.NOTSET for part in PARTS)
    finally:
        apply_levels({})


WATCH = """
import logging, sys
from hugging_llama_config import log_levels
from hugging_llama_config.logging import configure_logging
log_levels._EVERY_S = 0.01
configure_logging("info", "test", "json")
log_levels.watch_levels(sys.argv[1], ["engine=error"])
print(logging.getLogger("hugging_llama.engine").level, flush=True)
sys.stdin.read()
"""


def test_a_file_changes_them_while_a_process_runs(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WATCH, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        out, err = process.stdout, process.stderr
        assert out is not None
        assert err is not None
        assert int(out.readline()) == logging.ERROR

        def told(text: str) -> str:
            new = tmp_path / "new"
            new.write_text(text)
            new.rename(tmp_path / "log-levels")
            return str(json.loads(err.readline())["message"])

        assert told("engine=debug\nstore=info\n") == "log levels: engine=debug, store=info"
        assert told("store=info store=loud").startswith("log-levels: 'loud' is none of")
        assert told("store=warning") == "log levels: engine=error, store=warning"
        process.kill()
