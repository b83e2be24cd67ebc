"""One logging set-up for server, supervisor and engine: a line a record on stderr, for people or as JSON."""

import json
import logging
import logging.config
from datetime import UTC, datetime
from typing import Any

from hugging_llama_config.redaction import redacted

_OWN = ("hugging_llama", "hugging_llama_config")
FIELDS = "fields"
"""The key in a record's `extra` of a mapping that a line of JSON holds beside the text."""


_LONGEST = 2**15
"""Characters: a model's files are quoted by what fails on them, and may have names of megabytes."""
_CONTROLS = {
    code: f"\\u{code:04x}" for code in (*range(32), *range(127, 160), 0x2028, 0x2029) if chr(code) not in "\n\t"
}


def _bounded(text: str) -> str:
    text = redacted(text)
    left_out = len(text) - _LONGEST
    half = _LONGEST // 2
    return f"{text[:half]}\n[{left_out} characters are left out]\n{text[-half:]}" if left_out > 0 else text


class TextFormatter(logging.Formatter):
    """A line for people. What has several goes on in indented ones, so that no text of a stranger's passes for a line
    of its own."""

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s {process}[%(process)d] %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return _bounded(super().format(record)).translate(_CONTROLS).replace("\n", "\n  ")


class JsonFormatter(logging.Formatter):
    """One object a record, in ASCII, so that nothing in it can end the line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "message": _bounded(record.getMessage()),
        }
        fields = getattr(record, FIELDS, None)
        if isinstance(fields, dict):
            line |= {name: value for name, value in fields.items() if name not in line}
        if record.exc_info:
            line["exception"] = _bounded(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


class Redaction(logging.Filter):
    """For what others log in lines of their own: gunicorn's have the paths that callers choose."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            text = record.getMessage()
        except Exception:  # arguments that do not fit: who logs must not fail, and what he said stays to be read
            text = f"{record.msg} {record.args!r}"
        record.msg, record.args = redacted(text), None
        return True


def configure_logging(level: str, process: str, style: str = "text") -> None:
    """In a process that is all ours: log to stderr at `level`; `process` (supervisor, engine) stands in every line.

    `style` is `text` or `json`.
    """
    _configure(level, process, style, "")


def configure_own_logging(level: str, process: str, style: str = "text") -> None:
    """In a process that may be another application's too: our loggers only, and not if it has seen to them."""
    if not any(logging.getLogger(name).hasHandlers() for name in _OWN):
        _configure(level, process, style, *_OWN)


def logging_table(level: str, process: str, style: str, *names: str) -> dict[str, Any]:
    """What `logging.config.dictConfig` takes, for the loggers of these names."""
    formatter = JsonFormatter if style == "json" else TextFormatter
    logger = {"level": level.upper(), "handlers": ["stderr"], "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter, "process": process}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": dict.fromkeys(names, logger),
    }


def _configure(level: str, process: str, style: str, *names: str) -> None:
    logging.config.dictConfig(logging_table(level, process, style, *names))
