"""What is taken out of a text that goes into a log, and what stays."""

import json
import logging
import sys

import pytest

from hugging_llama_config.keys import new_key
from hugging_llama_config.logging import FIELDS, JsonFormatter, Redaction, TextFormatter
from hugging_llama_config.redaction import redacted

TOKEN = "hf_" + "aB3" * 11


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"https://user:{TOKEN}@huggingface.co/acme/x", "https://***@huggingface.co/acme/x"),
        ("https://user:p@ss@host/a@b", "https://***@host/a@b"),
        ("/v1/https:/user:pass@host", "/v1/https:/***@host"),
        (f"acme/{TOKEN}:latest", "acme/hf_***:latest"),
        (f"{TOKEN} and {TOKEN}", "hf_*** and hf_***"),
        ("me@example.com https://host/a", "me@example.com https://host/a"),
        ("acme/hf_tiny", "acme/hf_tiny"),
        ("hl-chat-7b", "hl-chat-7b"),
        ("dhl-tracking-assistant-2024", "dhl-tracking-assistant-2024"),
        ("", ""),
    ],
)
def test_secrets_go_and_names_stay(text: str, found: str) -> None:
    assert redacted(text) == found


def test_a_key_of_ours_goes() -> None:
    _, secret = new_key("a", roles=("use",))
    assert redacted(f"GET /v1/{secret} 404") == "GET /v1/hl-*** 404"


def test_no_line_of_our_own_processes_holds_one() -> None:
    try:
        raise ValueError(TOKEN)
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "", 1, "%s failed", (TOKEN,), sys.exc_info())
    setattr(record, FIELDS, {"status": 404})
    text = TextFormatter("web").format(record)
    line = JsonFormatter("web").format(record)
    assert TOKEN not in text + line
    assert text.count("hf_***") == 2
    assert json.loads(line)["message"] == "hf_*** failed"


@pytest.mark.parametrize(("text", "args"), [("GET %s", (TOKEN,)), ("GET %s %s", (TOKEN,)), (f"GET {TOKEN}", ())])
def test_what_others_log_in_any_way(text: str, args: tuple[str, ...]) -> None:
    record = logging.LogRecord("gunicorn.error", logging.DEBUG, "x.py", 1, text, args, None)
    assert Redaction().filter(record)
    assert "hf_***" in record.getMessage()
    assert TOKEN not in record.getMessage()
