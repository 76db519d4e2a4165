"""How `sts-trio check` shows what it finds: as lines for a pipe, in colours on a terminal, as one JSON object.

A line comes as soon as it is known: what is looked at may take seconds.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sts_trio import __version__
from sts_trio.check.finding import Finding, Level
from sts_trio.cli.running import open_console
from sts_trio.errors import StsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console


class CannotPrint(StsError):
    """What was found cannot be written where our output goes."""


@contextmanager
def printing() -> Iterator[None]:
    """Print in this context; a disk that is full is one line, and not also one of Python's own at its end.

    Raises:
        CannotPrint: for that, and the like.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # nobody reads any more, and click ends us quietly
    except OSError as exc:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise CannotPrint(f"what was found cannot be printed: {exc.strerror}; make room, or print elsewhere") from exc


_STYLES = {Level.OK: "green", Level.NOTE: "yellow", Level.WRONG: "bold red"}
_LEVEL_WIDTH = max(map(len, Level))


class Printed:
    """Takes findings one by one, and shows them as lines."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    @staticmethod
    def choose(*, as_json: bool) -> Printed:
        """Choose the form: JSON where it was asked for, colours where somebody looks."""
        if as_json:
            return PrintedJson()
        return PrintedPretty() if sys.stdout.isatty() else Printed()

    def add(self, finding: Finding) -> None:
        """Show a finding."""
        self.findings.append(finding)
        self.show(finding)

    def show(self, finding: Finding) -> None:
        """Print it, and what stands in a buffer, so that a full disk is known at once."""
        with printing():
            click.echo(str(finding))

    def end(self, provider: str | None = None) -> None:
        """Say that there are no more; `provider` is the one that was chosen."""

    def count(self, level: Level) -> int:
        """How many findings are of this level."""
        return sum(finding.level is level for finding in self.findings)


class PrintedPretty(Printed):
    """On a terminal: the level in its colour, and the line wrapped beside it."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._console = console or open_console()

    def show(self, finding: Finding) -> None:
        """See `Printed.show`."""
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=_LEVEL_WIDTH)
        grid.add_column(overflow="fold")
        grid.add_row(Text(finding.level, _STYLES[finding.level]), Text(finding.message))
        with printing():
            self._console.print(grid)

    def end(self, provider: str | None = None) -> None:
        """See `Printed.end`."""
        del provider  # a line has told it
        wrong, notes = self.count(Level.WRONG), self.count(Level.NOTE)
        text = f"{wrong} to mend" if wrong else "All is well"
        also = f", {notes} to know" if notes else ""
        self._console.print(f"\n{text}{also}.", style=_STYLES[Level.WRONG if wrong else Level.OK], highlight=False)


class PrintedJson(Printed):
    """One object at the end, with all of them."""

    def show(self, finding: Finding) -> None:
        """See `Printed.show`: nothing yet."""

    def end(self, provider: str | None = None) -> None:
        """See `Printed.end`."""
        told = {
            "version": __version__,
            "provider": provider,
            "ok": not self.count(Level.WRONG),
            "findings": [asdict(finding) for finding in self.findings],
        }
        with printing():
            click.echo(json.dumps(told, indent=2))
