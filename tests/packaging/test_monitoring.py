"""What is handed to Prometheus and Grafana speaks of metrics that there are, and is what these programs take."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scrape import ROOT, documented

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "hugging-llama.json"
NAME = re.compile(r"\b(?:hugging_llama|flask)_[a-z_]+\b")
SELECTOR = re.compile(r"\b((?:hugging_llama|flask)_\w+)\{([^}]*)\}")
GROUPING = re.compile(r"by \(([^)]*)\) \((?:rate|increase)?\(?((?:hugging_llama|flask)_\w+)")
SCRAPED = {"instance", "job"}

promtool = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    promtool is None, reason="promtool is not here (Debian: apt-get install prometheus)"
)


def names() -> dict[str, set[str]]:
    """What can stand in an expression, and its labels."""
    found: dict[str, set[str]] = {}
    for name, (kind, labels) in documented().items():
        if kind == "histogram":
            found |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            found[name] = labels
    return found


def dashboard() -> dict[str, Any]:
    found = json.loads(DASHBOARD.read_text())
    assert isinstance(found, dict)
    return found


def expressions() -> Iterator[str]:
    """All of the dashboard, of its panels, variables and annotations."""
    board = dashboard()
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    yield from (variable["definition"] for variable in board["templating"]["list"] if "definition" in variable)
    yield from (annotation["expr"] for annotation in board["annotations"]["list"])


def plain(expression: str) -> str:
    """As Prometheus gets it, with Grafana's variables filled in."""
    return expression.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$model", ".*")


def test_the_table_is_read() -> None:
    assert len(documented()) > 40


def test_the_dashboard_speaks_of_metrics_and_labels_that_there_are() -> None:
    known, seen = names(), 0
    for expression in expressions():
        found = NAME.findall(expression)
        assert found, expression
        assert set(found) <= known.keys(), expression
        for name, selector in SELECTOR.findall(expression):
            assert set(re.findall(r"(\w+)(?:=~|!~|!=|=)", selector)) <= known[name] | SCRAPED, expression
        for labels, name in GROUPING.findall(expression):
            assert set(re.split(r",\s*", labels)) <= known[name] | SCRAPED, expression
            seen += 1
    assert seen > 10


def test_every_panel_of_the_dashboard_has_a_place_of_its_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_the_alerts_speak_of_metrics_that_there_are() -> None:
    known = names().keys() | documented().keys()
    for file in ("alerts.yml", "alerts_test.yml"):
        found = set(NAME.findall((PROMETHEUS / file).read_text()))
        assert len(found) > 5
        assert found <= known


def test_every_alert_is_tried_both_ways() -> None:
    alerts = re.findall(r"alert: (\w+)", (PROMETHEUS / "alerts.yml").read_text())
    tests = (PROMETHEUS / "alerts_test.yml").read_text()
    assert len(alerts) == len(set(alerts)) > 5
    for alert in alerts:
        assert re.search(rf"alertname: {alert}\b\}}", tests), f"{alert} is never silent"
        assert re.search(rf"alertname: {alert}\n\s+exp_alerts:", tests), f"{alert} never fires"


def run_promtool(*arguments: str, folder: Path = PROMETHEUS) -> str:
    assert promtool
    done = subprocess.run([promtool, *arguments], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_prometheus_takes_the_alerts_and_they_do_as_their_tests_say() -> None:
    assert "rules found" in run_promtool("check", "rules", "alerts.yml")
    assert "SUCCESS" in run_promtool("test", "rules", "alerts_test.yml")


@needs_promtool
def test_prometheus_takes_the_configuration(tmp_path: Path) -> None:
    for file in ("prometheus.yml", "alerts.yml"):
        shutil.copy(PROMETHEUS / file, tmp_path)
    (tmp_path / "hugging-llama.key").write_text("hl-secret")
    assert "SUCCESS" in run_promtool("check", "config", "prometheus.yml", folder=tmp_path)


@needs_promtool
def test_prometheus_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    queries = [plain(expression) for expression in expressions() if "label_values" not in expression]
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    # YAML holds JSON
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(queries)} rules found" in run_promtool("check", "rules", "panels.yml", folder=tmp_path)
