"""What a script found: a table on the screen and a JSON file that says when, where and with what."""

import datetime
import json
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOREIGN_CORES_LIMIT = 0.1
"""More of the CPU in other hands than this and a run should be repeated."""

_PACKAGES = ("torch", "transformers", "gunicorn", "gevent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measure of one peer in one case, a value a round."""

    case: str
    who: str
    measure: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Over the rounds."""
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A quotient of medians, or a figure with a limit, and what it must reach if that is laid down."""

    what: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_met(self) -> bool | None:
        """None where nothing is laid down."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most

    def __str__(self) -> str:
        limits = (("at least", self.at_least), ("at most", self.at_most))
        wanted = "".join(f"   {word} {limit:g}" for word, limit in limits if limit is not None)
        verdict = {None: "", True: ": yes", False: ": NO"}[self.is_met]
        return f"{self.what}: {self.value:.3g}{wanted}{verdict}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All of one script. `name` is the file's; `foreign_cores` what other processes took meanwhile."""

    name: str
    title: str
    rows: Sequence[Row]
    ratios: Sequence[Ratio]
    arguments: Mapping[str, Any]
    versions: Mapping[str, str]
    foreign_cores: float

    def publish(self, folder: Path) -> None:
        """Print it and write `folder/NAME.json`."""
        print(f"\n{self.title}")
        print("\n".join(_table(self.rows)))
        for ratio in self.ratios:
            print(ratio)
        if self.foreign_cores > FOREIGN_CORES_LIMIT:
            print(f"DISTURBED: other processes took {self.foreign_cores:.2f} cores; run it again")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.json").write_text(json.dumps(self._json(), indent=1) + "\n")

    def _json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "date": datetime.date.today().isoformat(),
            "machine": machine(),
            "versions": {name: version(name) for name in _PACKAGES} | dict(self.versions),
            "arguments": dict(self.arguments),
            "foreign_cores": round(self.foreign_cores, 3),
            "rows": [asdict(row) | {"median": row.median} for row in self.rows],
            "ratios": [asdict(ratio) | {"is_met": ratio.is_met} for ratio in self.ratios],
        }


def machine() -> dict[str, Any]:
    """Cores and the CPU's name, with the instruction sets that decide on speed."""
    info = Path("/proc/cpuinfo")
    first = info.read_text().split("\n\n")[0] if info.exists() else ""
    lines = (line.partition(":") for line in first.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in lines}
    wanted = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")
    flags = set(fields.get("flags", "").split())
    return {
        "cpu": fields.get("model name", platform.processor() or platform.machine()),
        "cores": int(fields.get("siblings", 0)) or None,
        "instructions": [flag for flag in wanted if flag in flags],
        "system": platform.system(),
    }


def _table(rows: Sequence[Row]) -> Iterable[str]:
    widths = [max(len(getattr(row, name)) for row in rows) for name in ("case", "who", "measure")]
    for row in rows:
        head = "  ".join(
            f"{text:{width}}" for text, width in zip((row.case, row.who, row.measure), widths, strict=True)
        )
        yield f"{head}  {row.median:9.2f}   of {' '.join(f'{value:.2f}' for value in row.values)}"


def medians(rows: Sequence[Row], case: str, measure: str) -> dict[str, float]:
    """By peer, of those that ran."""
    return {row.who: row.median for row in rows if (row.case, row.measure) == (case, measure)}
