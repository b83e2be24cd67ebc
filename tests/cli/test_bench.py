"""`hugging-llama bench`: what is asked, what is printed. How fast anything is, no test can say."""

import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.stub_server import StubServer

_QUICK = ("--streams", "3", "--tokens", "5", "--rounds", "2", "--prompt-tokens", "50")


def test_what_is_asked(invoke: Invoke, server: StubServer) -> None:
    code, out, _ = invoke("bench", "demo", *_QUICK)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["MEASURE", server.url.removeprefix("http://")]
    assert [line.split("    ")[0] for line in lines[1:]] == [
        "1 stream", "first token", "3 streams", "first token of 3", "prompt of 50"
    ]  # fmt: skip
    bodies = [body for body in server.bodies("/api/generate") if body["stream"]]
    assert len(bodies) == 1 + 2 * (1 + 3 + 1)
    assert len({body["prompt"][:20] for body in bodies}) == len(bodies), "a cache would know the prompt"
    assert [body["options"]["num_predict"] for body in bodies[1:6]] == [5, 5, 5, 5, 1]
    assert 40 <= len(bodies[5]["prompt"].split()) <= 50


def test_two_servers_in_turn(invoke: Invoke, server: StubServer) -> None:
    with StubServer() as other:
        code, out, _ = invoke("bench", "demo", *_QUICK, "--compare", other.url, "--compare-model", "theirs", "--json")
        assert code == 0
        assert {body["model"] for body in other.bodies("/api/generate")} == {"theirs"}
        told = json.loads(out)
        assert [(s["url"], s["model"]) for s in told["servers"]] == [(server.url, "demo"), (other.url, "theirs")]
        assert all(len(rates) == 2 for s in told["servers"] for rates in s["rounds"].values())
        assert all(median > 0 for s in told["servers"] for median in s["medians"].values())
        table = invoke("bench", "demo", *_QUICK, "--compare", other.url)[1]
    assert table.splitlines()[0].split()[-1] == "RATIO"
    assert float(table.splitlines()[1].split()[-1]) > 0


def test_a_picture(invoke: Invoke, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "speed.png"
    assert invoke("bench", "demo", *_QUICK, "--rounds", "1", "--png", str(path))[0] == 0
    assert path.read_bytes().startswith(b"\x89PNG")


def test_no_picture_without_matplotlib(
    invoke: Invoke, server: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = invoke("bench", "demo", "--png", str(tmp_path / "speed.png"))
    assert (code, err) == (1, "Error: --png needs matplotlib: pip install 'hugging-llama[bench]'\n")
    assert server.requests == [], "nothing is measured in vain"


def test_no_place_for_the_picture(invoke: Invoke, server: StubServer, tmp_path: Path) -> None:
    for path, why in (
        (tmp_path / "none" / "x.png", f"there is no folder '{tmp_path / 'none'}'"), (tmp_path, "it is a folder")
    ):  # fmt: skip
        expected = f"Error: '{path}' can't be written: {why}\n"
        assert invoke("bench", "demo", "--png", str(path)) == (1, "", expected)
    assert server.requests == [], "nothing is measured in vain"


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--streams", "0"], 2, "'0' is not a number from 1"),
        (["--compare-model", "x"], 2, "--compare-model is the model of --compare"),
        (["--compare", "127.0.0.1:1"], 1, "at http://127.0.0.1:1; is it running, and is the address right?"),
    ],
)
def test_what_can_not_be(argv: list[str], code: int, message: str, invoke: Invoke) -> None:
    found = invoke("bench", "demo", *argv)
    assert (found[0], found[1]) == (code, "")
    assert message in found[2]
    assert invoke("bench", "some/gated")[2] == "Error: access to 'gated' is restricted\n"
