"""docs/reliability.md: the rows that must be there are, and every test that they name exists."""

from tests.named_tests import RELIABILITY, missing_tests, table_of

ROWS = {
    "idle connections", "streams", "queue", "soak", "kill -9 engine", "kill -9 worker", "SIGSTOP engine",
    "SIGTERM server", "pull: kill -9", "pull: faults of the Hub", "full disk", "read-only or deleted", "OOM on load",
    "client leaves", "slow readers", "descriptors run out", "clock jumps", "schemathesis", "byte fuzz", "raw HTTP",
    "properties", "schemas", "model files", "races", "upgrade",
    *(f"I{number}" for number in range(1, 6)),
    *(f"S{number}" for number in range(1, 13)),
    *(f"P{number}" for number in range(1, 9)),
    *(f"6{letter}" for letter in "abcde"),
}  # fmt: skip


def test_every_row_is_there() -> None:
    assert ROWS - table_of(RELIABILITY).keys() == set()


def test_every_test_exists() -> None:
    assert missing_tests(RELIABILITY) == []
