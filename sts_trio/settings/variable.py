"""How one environment variable is described. A table of settings is a dataclass whose fields are these. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from sts_trio.settings.parsers import shown_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REQUIRED = object()
LONGEST_SHOWN = 60  # characters of a value, in a log or a complaint


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable: its name, and all that is said of it anywhere.

    `parse` makes the value of the text, or raises a `ValueError` that says what the text must be. `show` makes of the
    value what a log may have; None is never given to it. With `empty_is_set` an empty text is a value. `example` are
    lines that `.env.example` has beneath the meaning. `forwarded`: compose passes it from outside into the container.
    What is `required` is not where the variable `unless` is set.
    """

    name: str
    default: object
    parse: Callable[[str], object]
    help: str
    aliases: tuple[str, ...] = ()
    required: bool = False
    empty_is_set: bool = False
    show: Callable[[Any], str] = str
    example: tuple[str, ...] = ()
    forwarded: bool = True
    unless: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its aliases, in the order in which they count."""
        return (self.name, *self.aliases)

    @property
    def is_url(self) -> bool:
        """Whether the value may hold a user, a password or a token that is shown nowhere."""
        return self.show is shown_url

    def shown(self, value: object) -> str:
        """Return what a log may have of a value: secrets starred, long texts cut."""
        words = str(None) if value is None else self.show(value)
        return words if len(words) <= LONGEST_SHOWN else words[:LONGEST_SHOWN] + "…"


def setting(
    name: str,
    default: object,
    parse: Callable[[str], object],
    meaning: str,
    *aliases: str,
    empty_is_set: bool = False,
    show: Callable[[Any], str] = str,
    example: tuple[str, ...] = (),
    forwarded: bool = True,
    unless: str = "",
) -> Any:
    """Describe a field of a table by its `Variable`. One that is `REQUIRED` must be set, and is None before."""
    required = default is REQUIRED
    value = None if required else default
    variable = Variable(name, value, parse, meaning, aliases, required, empty_is_set, show, example, forwarded, unless)
    return field(metadata={"variable": variable}, repr=not variable.is_url, default=value)


def variables(table: type[Any]) -> Mapping[str, Variable]:
    """Return the variables that a table itself declares (not those of its bases), by field and in its order."""
    found = {each.name: each.metadata["variable"] for each in fields(table) if "variable" in each.metadata}
    return {name: found[name] for name in table.__annotations__ if name in found}
