"""Write what the code says of itself into the pages: settings, commands, metrics, log events, ends of calls.

    .venv/bin/python docs/generate.py           # after a change of a setting, a command, a series or a log line

A part of a page stands between two comments, as `<!-- metrics -->` and `<!-- /metrics -->`; `PARTS` says who makes it.
tests/docs/test_generated.py compares.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for this directory's neighbours, when it is run as a script

from docs import log_events
from sts_trio import errors
from sts_trio.call.handler import OTHER_REASONS, REASONS
from sts_trio.call.meter import CANCELLED, CallCounts, Cause, Series
from sts_trio.cli import main as sts_trio
from sts_trio.providers import SETTINGS
from sts_trio.settings import FORMATS
from sts_trio.workers.metrics import MetricsCollector
from sts_trio.workers.pool import WorkerPool
from tests.fakes.metrics import used

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client import Metric

WIDTH = 100  # columns of a command's help


def table(heads: str, rows: Iterable[Sequence[object]]) -> str:
    """Make a table of Markdown; `heads` with bars between them."""
    lines = [f"| {heads} |", "|" + "---|" * len(heads.split(" | "))]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)]) + "\n"


def settings() -> str:
    """Each topic's variables."""
    return FORMATS["markdown"](SETTINGS).rstrip("\n") + "\n\n"


def compose() -> str:
    """What compose hands on."""
    return FORMATS["compose"](SETTINGS)


def commands() -> str:
    """The help of each command, as the terminal shows it."""
    text = ""
    width = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    above = sts_trio.make_context("sts-trio", ["--help"], resilient_parsing=True, **width)
    for name, command in sts_trio.commands.items():
        if not command.hidden:
            on = click.Context(command, parent=above, info_name=name)
            text += f"\n### sts-trio {name}\n\n```text\n{command.get_help(on)}\n```\n"
    return text + "\n"


def _series(family: Metric) -> str:
    return f"`{family.name}{'_total' if family.type == 'counter' else ''}`"


def metrics() -> str:
    """Every series of a process."""

    async def collect() -> list[Metric]:
        return list(used().registry.collect())

    def rows() -> Iterator[tuple[str, ...]]:
        for family in trio.run(collect):
            if family.name.startswith("sts_"):
                labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
                yield _series(family), family.type, ", ".join(labels), family.documentation

    return table("Series | Type | Labels | Meaning", rows())


def workers() -> str:
    """What the supervisor tells beside them."""

    async def collect() -> list[Metric]:
        return list(MetricsCollector(WorkerPool([0])).collect())

    rows = ((_series(family), family.type, family.documentation) for family in trio.run(collect))
    return table("Series | Type | Meaning", rows)


def events() -> str:
    """What may be logged."""

    def rows() -> Iterator[tuple[str, ...]]:
        for event in log_events.events():
            names = [name if name == log_events.UNKNOWN else f"`{name}`" for name in event.fields]
            levels = [level for level in log_events.LEVELS if level in event.levels]
            yield (
                f"`{event.name}`",
                " or ".join(levels),
                f"`{event.logger.removeprefix('sts_trio.')}`",
                ", ".join(names),
            )

    return table("`event` | `level` | `logger`, after `sts_trio.` | Fields", rows())


def counts() -> str:
    """The counts in the line `call ended`, and the series that has their sum."""

    def rows() -> Iterator[tuple[str, str]]:
        for count in fields(CallCounts):
            series = count.metadata.get("series")
            if isinstance(series, Series):
                name = series.name if series.buckets else f"{series.name}_total"
                value = count.metadata["value"]
                labelled = f'{{{series.label}="{value}"}}' if value else ""
                yield f"`{count.name}`", f"`{name}{labelled}`"
            else:
                yield f"`{count.name}`", '`sts_tool_runs_total{result="failed"}`'

    return table("Field | Its sum over all calls", rows())


def causes() -> str:
    """Why calls end, and how Core's side is then closed: what the source makes a `CallOutcome` of."""
    codes: dict[str, set[str]] = {cause.name: set() for cause in Cause}
    for path in sorted((ROOT / "sts_trio").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Name(id="CallOutcome"),
                    args=[ast.Attribute(value=ast.Name(id="Cause"), attr=name), ast.Constant(value=code), *_],
                ):
                    codes[name].add(str(code))
    rows = ((f"`{cause}`", ", ".join(sorted(codes[cause.name])) or "they close") for cause in Cause)
    return table("Cause | Close code", (*rows, (f"`{CANCELLED}`", "1001")))


def reasons() -> str:
    """Why somebody is turned away at the door."""
    refused = ((f"`{reason}`", "`sts_calls_refused_total`") for reason in REASONS)
    others = ((f"`{reason}`", "`sts_refused_total`") for reason in OTHER_REASONS)
    return table("Reason | Counted by", (*refused, *others))


def faults() -> str:
    """The classes of faults, for those who read a traceback."""

    def rows() -> Iterator[tuple[str, str, str]]:
        for name, fault in vars(errors).items():
            if inspect.isclass(fault) and issubclass(fault, errors.StsError):
                again = "yes" if getattr(fault, "retryable", False) else "no"
                meaning = re.sub(r"\s+", " ", (fault.__doc__ or "").strip())
                yield f"`{name}`", again, meaning

    return table("Fault | Another session is tried | Meaning", rows())


PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("docs/reference/settings.md", "settings"): settings,
    ("compose.yml", "settings"): compose,
    ("docs/reference/commands.md", "commands"): commands,
    ("docs/reference/metrics.md", "metrics"): metrics,
    ("docs/reference/metrics.md", "workers"): workers,
    ("docs/reference/log-events.md", "events"): events,
    ("docs/reference/log-events.md", "counts"): counts,
    ("docs/reference/errors.md", "causes"): causes,
    ("docs/reference/errors.md", "reasons"): reasons,
    ("docs/reference/errors.md", "faults"): faults,
}
WHOLE = {".env.example": lambda: FORMATS["env"](SETTINGS)}


def with_part(text: str, mark: str, part: str) -> str:
    """Put a part between its marks, each of which is a comment on a line of its own."""
    lines = text.split("\n")
    (begin,) = [number for number, line in enumerate(lines) if re.match(rf" *(<!--|#) {mark}\b", line)]
    (end,) = [number for number, line in enumerate(lines) if re.match(rf" *(<!--|#) /{mark}\b", line)]
    return "\n".join([*lines[: begin + 1], *part.removesuffix("\n").split("\n"), *lines[end:]])


def generated() -> dict[str, str]:
    """Each file that has generated parts, as it should be."""
    files = {name: make() for name, make in WHOLE.items()}
    for (name, mark), make in PARTS.items():
        text = files.get(name) or (ROOT / name).read_text(encoding="utf-8")
        files[name] = with_part(text, mark, make())
    return files


def main() -> None:
    """Write them, and say which were not up to date."""
    for name, text in generated().items():
        if (ROOT / name).read_text(encoding="utf-8") != text:
            (ROOT / name).write_text(text, encoding="utf-8")
            print(name)


if __name__ == "__main__":
    main()
