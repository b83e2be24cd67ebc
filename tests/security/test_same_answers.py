"""Row S4: an answer does not tell what else is on the server's disk, nor where anything lies in its memory."""

import re
from pathlib import Path

import pytest

from tests.functional.field_probes import ENDPOINTS, Endpoint, World

PAIRS = [
    ("/etc/passwd", "/etc/nopass"),
    ("/etc", "/ets"),
    ("../../../../etc/passwd", "../../../../etc/nopass"),
    ("file:///etc/passwd", "file:///etc/nopass"),
    ("~/.ssh", "~/.shs"),
    ("/dev/zero", "/dev/zora"),
    ("/proc/self/mem", "/proc/self/mom"),
    (str(Path(__file__)), str(Path(__file__).with_suffix(".pz"))),
]
ADDRESS = re.compile(r"0x[0-9a-f]{6,}|site-packages|Traceback|/home/|/usr/|/tmp/|\.py\b")


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.path)
def test_s4_there_or_not_is_the_same(world: World, endpoint: Endpoint) -> None:
    base = {**endpoint.base, "stream": False}
    for name in ("model", "name", "from", "source", "destination", "files", "adapters", "path", "modelfile", "images"):
        if name not in endpoint.fields:
            continue
        more = {"model": ""} if name == "name" else {}
        for there, absent in PAIRS:
            answers = []
            for text in (there, absent):
                for value in (text, [text], {text: "sha256:" + "0" * 64}, {"a.json": text}):
                    response = world.client.open(
                        endpoint.path, method=endpoint.method, json=base | more | {name: value}
                    )
                    assert response.status_code >= 400 or endpoint.path == "/api/create" or name == "images"
                    body = response.text.replace(text, "NAME")
                    assert not ADDRESS.search(body), body
                    answers.append((response.status_code, re.sub(r'"(request_id|created_at)":"[^"]*"', "", body)))
            half = len(answers) // 2
            assert answers[:half] == answers[half:], (name, there)
