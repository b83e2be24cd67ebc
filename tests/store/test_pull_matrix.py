"""Every fault a Hub can have, at every request of a pull: once, and for ever.

A fault either heals or is told as the right error; a ref exists after a success only; and the pull after it is whole.
"""

import dataclasses
import gzip
from dataclasses import dataclass
from typing import Any

import pytest

from hugging_llama.errors import HuggingLlamaError, KeyRejectedError, ModelNotFoundError, TransferError
from tests.hub_server import Repo
from tests.store import models
from tests.store.conftest import QUICK, Workplace

REQUESTS = {
    "info": "GET /api/models/acme/tiny/revision/",
    "tree": "GET /api/models/acme/tiny/tree/",
    "file": "GET /acme/tiny/resolve/.*/model.safetensors",  # answers with a redirect
    "content": "GET /_cdn/",
}
FILES = models.chat_model(300_000)
WEIGHTS = FILES["model.safetensors"]
CORRUPT = bytes([WEIGHTS[0] ^ 255]) + WEIGHTS[1:]
BOMB = gzip.compress(b" " * 2**26)


@dataclass(frozen=True)
class Cell:
    """A fault at a request, and how the pull ends: `once` and `always` are None where it succeeds."""

    fault: str
    request: str
    mode: str
    arg: Any
    once: tuple[type[HuggingLlamaError], str] | None
    always: tuple[type[HuggingLlamaError], str] | None
    headers: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.fault}-{self.request}"


def _cells() -> list[Cell]:
    cells: list[Cell] = []

    def add(fault: str, request: str, mode: str, arg: Any, *, heals: bool, told: Any, **headers: str) -> None:
        if isinstance(told, str):
            told = (TransferError, told)
        cells.append(Cell(fault, request, mode, arg, None if heals else told, told, tuple(headers.items())))

    for request in REQUESTS:
        is_file, is_content = request in ("file", "content"), request == "content"
        for status in (500, 502, 503, 504, 429):
            add(str(status), request, "status", status, heals=True, told=f"answered {status}")
        add(
            "401",
            request,
            "status",
            401,
            heals=is_content,
            told="answered 401" if is_content else (ModelNotFoundError, "acme/tiny"),
        )
        add(
            "403",
            request,
            "status",
            403,
            heals=is_content,
            told="answered 403" if is_content else (KeyRejectedError, "refuses access"),
        )
        missing = {"file": "lists model.safetensors but", "content": "answered 404"}
        add(
            "404",
            request,
            "status",
            404,
            heals=is_content,
            told=missing.get(request, (ModelNotFoundError, "acme/tiny")),
        )
        add("416", request, "status", 416, heals=is_content, told="answered 416")
        cut = None if is_content else "the connection was cut|reset by peer"  # each time some of the content arrives
        add(
            "cut",
            request,
            *(("reset", None) if request == "file" else ("cut", 100_000 if is_content else 10)),
            heals=True,
            told=cut,
        )
        add(
            "stall",
            request,
            *(("mute", None) if request == "file" else ("stall", 100_000 if is_content else 0)),
            heals=True,
            told=cut and "timed out",
        )
        short, corrupt = (WEIGHTS[:100_000], CORRUPT) if is_file else (b'{"id": "acme/ti', b'\xff"id": "acme/tiny"}')
        add(
            "short",
            request,
            "body",
            short,
            heals=is_file,
            told="cut a file short" if is_file else "not what was asked for",
        )
        add("corrupt", request, "body", corrupt, heals=is_file, told="digest" if is_file else "not what was asked for")
        add(
            "gzip bomb",
            request,
            "body",
            BOMB,
            heals=False,
            told="packs" if is_file else "too big",
            Content_Encoding="gzip",
        )
        for fault, body in (("bad JSON", b"{"), ("wrong type", b"[1]")):
            add(
                fault,
                request,
                "body",
                body,
                heals=is_file,
                told="cut a file short" if is_file else "not what was asked for",
            )
        add("redirect loop", request, "redirect", "", heals=True, told="redirects without end")
    return cells


CELLS = _cells()


def _policy(cell: Cell, *, fails: bool) -> Any:
    """For a Hub that stalls impatient, and then with tries to spare for what is late without a fault."""
    quick = dataclasses.replace(QUICK, attempts=3, first_wait_s=0.001, max_wait_s=0.001)
    if cell.fault != "stall":
        return quick
    return dataclasses.replace(quick, attempts=3 if fails else 10, read_timeout_s=0.3)


def test_the_matrix_is_whole() -> None:
    assert len(CELLS) == len({str(cell) for cell in CELLS}) == 17 * len(REQUESTS)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_fault_once(work: Workplace, cell: Cell) -> None:
    _pull_with(work, cell, times=1, told=cell.once)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_fault_for_ever(work: Workplace, cell: Cell) -> None:
    _pull_with(work, cell, times=10_000, told=cell.always)


def _pull_with(work: Workplace, cell: Cell, *, times: int, told: tuple[type[HuggingLlamaError], str] | None) -> None:
    work.hub.repos["acme/tiny"] = Repo(FILES)
    work.hub.fault(REQUESTS[cell.request], cell.mode, cell.arg, times, **dict(cell.headers))
    if told:
        with pytest.raises(HuggingLlamaError, match=told[1]) as caught:
            work.pull("acme/tiny", policy=_policy(cell, fails=True))
        assert type(caught.value) is told[0]
        assert "0x" not in caught.value.message
        assert str(work.cache) not in caught.value.message
        assert work.refs() == []
        assert [model.ref.name for model in work.store.list()] == ["hugging-llama/demo:latest"]
        work.hub.faults.clear()
    assert work.pull("acme/tiny", policy=_policy(cell, fails=False))[-1].status == "success"
    assert all(fault.times < times for fault in work.hub.faults)  # it did happen
    assert work.files("acme/tiny") == {path: FILES[path] for path in models.KEPT}
    assert work.parts() == []
