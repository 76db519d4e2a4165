"""Options that several commands have, and the types of their values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sts_trio.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Callable


class Number(click.ParamType):  # type: ignore[type-arg]  # generic in newer clicks only
    """A number within bounds; NaN is none."""

    name = "N"

    def __init__(self, least: float, most: float = math.inf, *, whole: bool = False) -> None:
        self._least = least
        self._most = most
        self._whole = whole

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See `click.ParamType`."""
        try:
            number = int(value) if self._whole else float(value)
        except ValueError:
            number = math.nan
        if not self._least <= number <= self._most:
            kind = "a whole number" if self._whole else "a number"
            to = "" if self._most == math.inf else f" to {self._most:g}"
            self.fail(f"{value!r} is not {kind} from {self._least:g}{to or ' on'}", param, ctx)
        return number


def output(*names: str, help: str, default: Path | None = None) -> Callable[[Any], Any]:  # noqa: A002 - click's word
    """Make an option for a file to write."""
    kind = click.Path(dir_okay=False, path_type=Path)
    return click.option(*names, type=kind, default=default, show_default=default is not None, help=help)


provider = click.option(
    "--provider",
    default=next(iter(PROVIDERS)),
    metavar="NAME",
    type=click.Choice(list(PROVIDERS)),
    help=f"Whose protocol the agent speaks: {' or '.join((', '.join(list(PROVIDERS)[:-1]), list(PROVIDERS)[-1]))}.",
)
