"""Row "byte fuzz" of docs/reliability.md: bodies that were JSON before some of their bytes were changed."""

import itertools
import json
import random
import threading
from collections import Counter

from tests.bar import Note, times
from tests.functional.field_probes import ENDPOINTS, Endpoint, World

BODIES = times(400, 100_000)
# transfers start processes; what is mutated there is a name, of which tests/functional/test_hostile_names.py has many
LEFT_OUT = ("/api/pull", "/api/push")
PIECES = (
    b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\0", b"\xef\xbb\xbf", b"1e999", b"-1e-999", b"NaN", b"Infinity",
    b"1" * 400, b"-0", b"0x1", b"1_0", b"null", b"true", b"{}", b"[]", b'""', b"[" * 300, b'{"a":' * 300, b"]" * 5,
    b"}" * 5, b'"', b"\\", b",", b":", b"//", b"/*", b" " * 2000, b"'", b"\r\n", b'"model":', b"\xf0\x9f\xa6\x99",
)  # fmt: skip
ALLOWED = {200, 400, 403, 404, 413, 501}


def body_of(endpoint: Endpoint, dice: random.Random) -> bytes:
    """A good one, with some fields more than it needs."""
    names = dice.sample(sorted(endpoint.values), min(2, len(endpoint.values)))
    return json.dumps({**endpoint.base, **{name: endpoint.values[name] for name in names}}).encode()


def mutated(body: bytes, dice: random.Random) -> bytes:
    data = bytearray(body)
    for _ in range(dice.choice((1, 1, 2, 5))):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(6):
            case 0 if at < len(data):
                data[at] = dice.randrange(256)
            case 1:
                del data[at : at + dice.randint(1, 12)]
            case 2:
                data[at:at] = data[max(0, at - 40) : at]
            case 3:
                del data[at:]
            case _:
                data[at : at + dice.choice((0, 0, 1, 4))] = dice.choice(PIECES)
    return bytes(data)


def test_changed_bytes_are_the_clients_fault_or_none(world: World, note: Note) -> None:
    dice = random.Random(BODIES)
    endpoints = [endpoint for endpoint in ENDPOINTS if endpoint.path not in LEFT_OUT]
    seen: Counter[int] = Counter()
    threads = threading.active_count()
    for endpoint in itertools.islice(itertools.cycle(endpoints), BODIES):
        body = mutated(body_of(endpoint, dice), dice)
        found = world.client.open(endpoint.path, method=endpoint.method, data=body)
        seen[found.status_code] += 1
        assert found.status_code in ALLOWED, (endpoint.path, body, found.text)
        if found.status_code != 200 and found.data:
            assert "error" in found.get_json(), (endpoint.path, body)
    assert seen[200]
    assert seen[400] > BODIES / 4
    assert threading.active_count() <= threads + 2
    note("byte fuzz of JSON bodies", BODIES, more=f"statuses {dict(sorted(seen.items()))}")
