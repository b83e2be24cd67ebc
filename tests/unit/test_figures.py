"""What bounds the figures of the web side, and what makes the engine's go on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Histogram

from hugging_llama.dialects.request_facts import RequestFacts
from hugging_llama.errors import HuggingLlamaError
from hugging_llama.neutral.events import EngineStatus
from hugging_llama.web.bounded_names import LONGEST, OTHER, BoundedNames, shown
from hugging_llama.web.engine_ledger import EngineLedger
from hugging_llama.web.figures import MAX_KEYS, MAX_PAIRS, BatchHistogram
from hugging_llama_config import metrics_files


def status(started_ns: int, tokens: int, counts: tuple[int, ...] = ()) -> EngineStatus:
    return EngineStatus(
        pid=1, device="cpu", started_ns=started_ns, output_tokens_total=tokens, batch_size_counts=counts
    )


@pytest.mark.parametrize("is_shared", [True, False])
def test_names_that_come_first_are_kept(tmp_path: Path, is_shared: bool) -> None:
    path = tmp_path / "names" if is_shared else None
    names = BoundedNames(2, path)
    assert [names.holds(name) for name in ("a", "b\n", "c", "a", "b\n", "c")] == [True, True, False, True, True, False]
    if is_shared:
        after = BoundedNames(2, path)
        assert [after.holds(name) for name in ("c", "b\n", "a")] == [False, True, True]


def test_a_name_that_a_full_disk_cut_off_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_bytes(b'"a"\n"bcdefghijkl')
    for name in ("d", "e"):
        assert BoundedNames(3, path).holds(name)
    assert [BoundedNames(3, path).holds(name) for name in ("a", "d", "e", "bcdefghijkl")] == [True, True, True, False]


def test_without_a_folder_names_are_among_the_others(tmp_path: Path) -> None:
    assert not BoundedNames(3, tmp_path / "gone" / "names").holds("a")


def test_long_values_are_cut() -> None:
    assert shown("x" * LONGEST) == "x" * LONGEST
    for text in ("x" * 500, "é" * 500, "é" * 40, "x" * LONGEST + "y"):
        cut = shown(text)
        assert cut[0] == "…"
        assert text.endswith(cut[1:])
        assert LONGEST / 2 < len(json.dumps(cut)) <= LONGEST + 2


@pytest.mark.parametrize("is_shared", [True, False])
def test_counters_of_engines_are_added_up(tmp_path: Path, is_shared: bool) -> None:
    path = tmp_path / "engine" if is_shared else None
    one = EngineLedger(path)
    other = EngineLedger(path) if is_shared else one

    def tokens(ledger: EngineLedger, found: EngineStatus) -> tuple[float, list[float], int]:
        counts, engines = ledger.total(found)
        return counts["output_tokens_total"][0], counts["batch_size_counts"], engines

    assert tokens(one, status(10, 5, (1, 0))) == (5, [1, 0], 1)
    assert tokens(other, status(10, 7, (1, 2))) == (7, [1, 2], 1)
    assert tokens(one, status(10, 6, (1, 1))) == (7, [1, 2], 1), "an older look changes nothing"
    assert tokens(other, status(20, 1, (1, 0))) == (8, [2, 2], 2)
    assert tokens(one, status(10, 9, (9, 9))) == (8, [2, 2], 2), "an engine that was taken over from adds nothing"
    assert tokens(one, status(20, 3, (2, 0))) == (10, [3, 2], 2)


def test_a_damaged_ledger_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "engine").write_text("nonsense")
    assert EngineLedger(tmp_path / "engine").total(status(1, 5))[0]["output_tokens_total"] == [5]


def test_many_observations_at_once_count_as_one_by_one() -> None:
    registry = CollectorRegistry()
    one_by_one = Histogram("one", "Same", ("model",), buckets=(0.1, 0.5, 2), registry=registry).labels("m")
    at_once = BatchHistogram("all", "Same", ("model",), buckets=(0.1, 0.5, 2), registry=registry).labels("m")
    assert isinstance(at_once, BatchHistogram)
    amounts = [0.0, 0.1, 0.125, 0.5, 0.5, 3.0, 2.0]
    for amount in amounts:
        one_by_one.observe(amount)
    for some in (amounts[:4], [], amounts[4:]):
        at_once.observe_all(some)
    found = []
    for family in registry.collect():
        kept = [sample for sample in family.samples if not sample.name.endswith("_created")]
        found.append({(s.name.removeprefix(family.name), s.labels.get("le")): s.value for s in kept})
    assert found[0] == found[1]
    assert found[0]["_count", None] == len(amounts)


FILL = """
import os, sys
os.read(int(sys.argv[1]), 1)
from prometheus_client import CollectorRegistry, Histogram
from hugging_llama.dialects.request_facts import RequestFacts
from hugging_llama.web.figures import Figures
from hugging_llama_config.metrics_files import shared_folder
endpoints, codes = eval(sys.stdin.read())
figures = Figures(CollectorRegistry(), shared_folder())
figures.begin(RequestFacts())
for number in range(1000):
    endpoint, key = endpoints[number % len(endpoints)], f"{number:08x}"
    facts = RequestFacts(endpoint=endpoint, key_id=key, key_name="k" * 200 + key, model="m" * 100 + f"{number:020}")
    pair = figures.pair(endpoint, facts.model)
    for histogram in (pair.request, pair.first_token, pair.inter_token, pair.queue, pair.generation):
        histogram.observe(1)
    figures.count_tokens(facts, pair, 1, 1, 1)
for endpoint in endpoints:
    for code in codes:
        figures.errors.labels(endpoint, code).inc()
        figures.generations.labels(endpoint, code).inc()
    for status in (200, 400, 401, 403, 404, 405, 413, 429, 499, 500, 502, 503, 504, 507, 529):
        figures.end(RequestFacts(endpoint=endpoint, status=status))
http = Histogram("flask_http_request_duration_seconds", "Flask HTTP request duration in seconds",
                 ("method", "url_rule", "status"), buckets=(0.01, 0.1, 1.0, 10.0))
for endpoint in endpoints:
    for status in range(400, 412):
        http.labels("DELETE", endpoint, status).observe(1)
for code in codes:
    figures.pulls.labels(code).inc()
    figures.pushes.labels(code).inc()
"""


def codes(base: type[HuggingLlamaError] = HuggingLlamaError) -> set[str]:
    return {base.code}.union(*(codes(child) for child in base.__subclasses__()))


def test_all_series_that_there_can_be_fit_into_the_space_that_is_taken(tmp_path: Path) -> None:
    """Beyond it a worker would end on a full disk."""
    endpoints = [f"/a/route/as/long/as/ours/{number:010}" for number in range(50)]
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", FILL, str(reading)],
        env={**os.environ, metrics_files.FOLDER_VARIABLE: str(tmp_path)},
        pass_fds=[reading],
        stdin=subprocess.PIPE,
        text=True,
    ) as process:
        assert metrics_files.reserve(tmp_path, process.pid)
        os.write(writing, b"x")
        process.communicate(repr((endpoints, sorted(codes()))), timeout=120)
    os.close(reading)
    os.close(writing)
    assert process.returncode == 0
    sizes = {path.name.removesuffix(f"_{process.pid}.db"): path.stat().st_size for path in tmp_path.glob("*.db")}
    assert sizes == metrics_files.BYTES
    used = {kind: (tmp_path / f"{kind}_{process.pid}.db").read_bytes()[:4] for kind in metrics_files.BYTES}
    assert int.from_bytes(used["histogram"], "little") > MAX_PAIRS * 5 * 1000, "the test fills it"
    text = (tmp_path / f"counter_{process.pid}.db").read_bytes()
    assert text.count(b'"hugging_llama_key_prompt_tokens_total"') == MAX_KEYS + 1, OTHER


def test_the_first_error_of_a_request_is_kept() -> None:
    facts = RequestFacts()
    facts.fail("model_not_found")
    facts.fail("internal")
    assert facts.error == "model_not_found"
