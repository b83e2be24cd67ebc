"""What a server's /metrics says, and how two looks at it differ."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[1]
TABLE = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\| [^|]+ \|$", re.MULTILINE)
TYPE = re.compile(r"^# TYPE (\w+) (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Scrape:
    """One look. Series that are not there are 0."""

    text: str
    series: dict[tuple[str, frozenset[tuple[str, str]]], float]

    @classmethod
    def of(cls, text: str) -> "Scrape":
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return cls(text, {(s.name, frozenset(s.labels.items())): s.value for s in samples})

    def get(self, name: str, **labels: str) -> float:
        """The sum over all series with these labels."""
        wanted = frozenset(labels.items())
        return sum(
            value
            for (found, given), value in self.series.items()
            if found == f"hugging_llama_{name}" and wanted <= given
        )

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Sums by the values of these labels."""
        found: dict[tuple[str, ...], float] = {}
        for (full, given), value in self.series.items():
            if full == f"hugging_llama_{name}":
                key = tuple(dict(given).get(label, "") for label in labels)
                found[key] = found.get(key, 0.0) + value
        return found

    def gained(self, before: "Scrape", name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """By how much each sum has grown, without those that have not."""
        old = before.by(name, *labels)
        gains = {key: value - old.get(key, 0) for key, value in self.by(name, *labels).items()}
        return {key: gain for key, gain in gains.items() if gain}


def settled(scrape: Callable[[], Scrape]) -> Scrape | None:
    """A look at a server that answers nobody but us, None while it does."""
    found = scrape()
    return found if found.get("requests_in_progress") == 1 else None


def documented() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each family in docs/metrics.md."""
    rows = TABLE.findall((ROOT / "docs" / "metrics.md").read_text())
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def served(text: str) -> dict[str, tuple[str, set[str]]]:
    """The same of what is served; a family without a series has no labels."""
    types = {name: kind for name, kind in TYPE.findall(text) if not name.endswith("_created")}
    found: dict[str, tuple[str, set[str]]] = {name: (kind, set()) for name, kind in types.items()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            base = re.sub(r"_(bucket|sum|count)$", "", sample.name) if family.type == "histogram" else sample.name
            if base in found:
                found[base][1].update(sample.labels.keys() - {"le"})
    return found
