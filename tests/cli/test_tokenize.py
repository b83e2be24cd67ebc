"""The command `tokenize`: one line of ids, or their number."""

import pytest

from tests.cli.conftest import Invoke
from tests.cli.stub_server import StubServer

DEMO = "hugging-llama/demo:latest"


@pytest.mark.parametrize(
    ("argv", "stdin", "sent", "printed"),
    [
        (["hi"], "", "hi", "104 105\n"),
        (["hi", "--count"], "", "hi", "2\n"),
        (["-"], "a\n", "a\n", "97 10\n"),
        ([], "a\n", "a\n", "97 10\n"),
        (["", "--count"], "not this", "", "0\n"),
    ],
)
def test_a_text(invoke: Invoke, server: StubServer, argv: list[str], stdin: str, sent: str, printed: str) -> None:
    assert invoke("tokenize", DEMO, *argv, stdin=stdin) == (0, printed, "")
    body = {"model": DEMO, "content": sent, "add_special_tokens": True}
    assert server.requests == [("/api/tokenize", body)]


def test_the_text_alone(invoke: Invoke, server: StubServer) -> None:
    assert invoke("tokenize", DEMO, "hi", "--no-special-tokens")[0] == 0
    assert server.requests[0][1]["add_special_tokens"] is False


def test_no_such_model(invoke: Invoke) -> None:
    code, out, err = invoke("tokenize", "no/such", "hi")
    assert (code, out) == (1, "")
    assert "not found" in err
