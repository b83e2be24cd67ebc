"""A soak's table, and what in it is not as it should be."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable

from tests.soak.exchange import End, Outcome
from tests.soak.killer import ROLES
from tests.soak.measures import Measure
from tests.soak.run import Plan, Record

FLAT_FROM_S = 300.0
FLAT_WITHIN = 0.05
MORE_DESCRIPTORS = 8
"""So many more than before are no leak: what is opened once and kept."""
RECOVERY_S = 60.0


def breaches(plan: Plan, record: Record) -> list[str]:
    """One line each; none if all is well."""
    found = list(record.trouble)
    lost = [outcome for outcome in record.outcomes if outcome.end is End.LOST]
    found += [f"lost: {outcome.kind} after {outcome.seconds:.1f} s: {outcome.detail}" for outcome in lost]
    if plan.kill_every_s and not record.kills:
        found.append("nothing was killed")
    found += [
        f"a killed {kill.role} cost {kill.recovery_s:.1f} s" for kill in record.kills if kill.recovery_s > RECOVERY_S
    ]
    found += [f"left behind: {path}" for path in record.leftover_files]
    found += [f"still running: {command}" for command in record.leftover_processes]
    if record.before and record.after:
        found += _leaks(record.before, record.after)
    spread = memory_spread(record.marks, plan)
    if spread is not None and spread > FLAT_WITHIN:
        found.append(f"memory is not flat: its marks from minute 5 on differ by {spread:.1%}")
    growth = memory_growth(record.loaded, plan)
    if growth is not None and growth > FLAT_WITHIN:
        found.append(f"memory under load grows by {growth:.1%} from minute 5 on")
    return found


def _leaks(before: Measure, after: Measure) -> list[str]:
    found = [f"{name} of the engine is {value:g} at the end" for name, value in after.figures.items() if value]
    for role, count in after.descriptors.items():
        if role in before.descriptors and count > before.descriptors[role] + MORE_DESCRIPTORS:
            found.append(f"a {role} has {count} descriptors, {before.descriptors[role]} before")
    for role, count in after.processes.items():
        if count > before.processes.get(role, 0):
            found.append(f"{count} processes are {role}, {before.processes.get(role, 0)} before")
    return found


def late_marks(marks: list[Measure], plan: Plan) -> list[Measure]:
    """Those from the fifth minute on; none of a run that is too short to say anything."""
    first = math.ceil(FLAT_FROM_S / plan.measure_every_s) - 1
    return marks[first:] if plan.seconds >= 2 * FLAT_FROM_S else []


def memory_spread(marks: list[Measure], plan: Plan) -> float | None:
    """By how much of their mean the marks from the fifth minute to the end differ, the largest from the smallest."""
    sizes = [mark.total_bytes for mark in late_marks(marks, plan)]
    return (max(sizes) - min(sizes)) / statistics.fmean(sizes) if len(sizes) > 1 else None


def memory_growth(marks: list[Measure], plan: Plan) -> float | None:
    """By how much of the first one the last mark from the fifth minute on is larger."""
    sizes = [mark.total_bytes for mark in late_marks(marks, plan)]
    return sizes[-1] / sizes[0] - 1 if len(sizes) > 1 else None


def table(plan: Plan, record: Record, problems: list[str]) -> str:
    """Everything on one page, in Markdown."""
    lines = [f"{plan.clients} clients, {plan.seconds / 60:g} min, seed {plan.seed}", ""]
    lines += _of_requests(record.outcomes)
    lines += ["", "| killed | times | worst recovery s | median s |", "|---|---|---|---|"]
    for role in ROLES:
        times = sorted(kill.recovery_s for kill in record.kills if kill.role == role)
        if times:
            lines.append(f"| {role} | {len(times)} | {times[-1]:.2f} | {times[len(times) // 2]:.2f} |")
    lines += ["", "| memory (PSS, MiB) | web | engine | standby | pulls | all |", "|---|---|---|---|---|---|"]
    named = [("before", record.before)]
    for n, (loaded, mark) in enumerate(zip(record.loaded, record.marks, strict=False)):
        named += [(f"mark {n + 1}, under load", loaded), (f"mark {n + 1}, at rest", mark)]
    lines += [_memory_row(name, found) for name, found in [*named, ("after", record.after)] if found]
    for when, marks in (("under load", record.loaded), ("at rest", record.marks)):
        if spread := memory_spread(marks, plan):
            growth = memory_growth(marks, plan)
            lines.append(f"| from minute 5 on, {when} | | | | | spread {spread:.1%}, growth {growth:+.1%} |")
    if record.before and record.after:
        lines += ["", f"descriptors before {record.before.descriptors}, after {record.after.descriptors}"]
        lines += [f"processes before {record.before.processes}, after {record.after.processes}"]
        lines += [f"the engine at the end: {record.after.figures}"]
    lines += ["", *([f"BREACH {problem}" for problem in problems] or ["no breach"])]
    return "\n".join(lines)


def _of_requests(outcomes: list[Outcome]) -> list[str]:
    lines = [f"| requests | all | {' | '.join(end.value for end in End)} | p50 s | p99 s | worst s |"]
    lines += ["|---" * (len(End) + 5) + "|"]
    for kind in [*sorted({outcome.kind for outcome in outcomes}), None]:
        some = [outcome for outcome in outcomes if kind in (outcome.kind, None)]
        ends = Counter(outcome.end for outcome in some)
        times = percentiles(outcome.seconds for outcome in some)
        cells = [kind or "all", len(some), *(ends[end] for end in End), *(f"{time:.2f}" for time in times)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def percentiles(seconds: Iterable[float]) -> tuple[float, float, float]:
    """The median, the 99th percentile and the largest."""
    found = sorted(seconds)
    if not found:
        return math.nan, math.nan, math.nan
    return found[len(found) // 2], found[min(len(found) - 1, int(len(found) * 0.99))], found[-1]


def _memory_row(name: str, found: Measure) -> str:
    mib = {role: size / 2**20 for role, size in found.pss_bytes.items()}
    web = mib.get("master", 0) + mib.get("worker", 0)
    engine = mib.get("engine", 0) + mib.get("template", 0)
    cells = [name, *(f"{size:.0f}" for size in (web, engine, mib.get("standby", 0), mib.get("pull", 0)))]
    return f"| {' | '.join(cells)} | {found.total_bytes / 2**20:.0f} |"
