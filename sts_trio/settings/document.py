"""What people read of the settings, made of the tables: README's section, `.env.example`, compose's environment. Pure.

`sts-trio settings --format markdown|env|compose` prints them, and a test compares the files with what it prints.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sts_trio.settings.calls import CallSettings
from sts_trio.settings.service import ServiceSettings, provider_variable
from sts_trio.settings.variable import variables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sts_trio.settings.service import ProviderSettings
    from sts_trio.settings.variable import Variable

    Tables = Sequence[type[ProviderSettings]]

_COMMENT_WIDTH = 118
_COMPOSE_INDENT = " " * 6


@dataclass(frozen=True, slots=True)
class Topic:
    """The variables of one table; `needed_with` is the provider that needs those of them that are required."""

    title: str
    variables: tuple[Variable, ...]
    needed_with: str = ""


def topics(tables: Tables) -> list[Topic]:
    """Return every variable, by topic; `tables` are those of the providers."""
    return [
        Topic("The provider", (provider_variable(tables),)),
        *(Topic(table.title, tuple(variables(table).values()), table.name) for table in tables),
        *(Topic(table.title, tuple(variables(table).values())) for table in (CallSettings, ServiceSettings)),
    ]


def markdown(tables: Tables) -> str:
    """Make README's section: a heading and a table for each topic."""
    lines: list[str] = []
    for topic in topics(tables):
        lines += ["", f"### {topic.title}", "", "| Variable | Default | Meaning |", "|---|---|---|"]
        for variable in topic.variables:
            aliases = ", ".join(f"`{alias}`" for alias in variable.aliases)
            meaning = variable.help + (f" (also {aliases})" if aliases else "")
            text = default_text(variable.default)
            default = f"required with `{topic.needed_with}`" if variable.required else f"`{text}`" if text else "none"
            lines.append(f"| `{variable.name}` | {default} | {meaning} |")
    return "\n".join([*lines, "", ""])


def env(tables: Tables) -> str:
    """Make `.env.example`: every variable with its default, all commented out but for the default provider's key."""
    lines = ["# Settings of sts_trio. Copy to .env and fill in the key; the rest has these defaults."]
    for topic in topics(tables):
        lines += ["", "", f"# == {topic.title} =="]
        for variable in topic.variables:
            sign = "" if variable.required and topic.needed_with == tables[0].name else "#"
            meaning = textwrap.wrap(variable.help.replace("`", ""), _COMMENT_WIDTH)
            lines += ["", *(f"# {line}" for line in (*meaning, *variable.example))]
            lines.append(f"{sign}{variable.name}={default_text(variable.default)}")
    return "\n".join([*lines, ""])


def compose(tables: Tables) -> str:
    """Make the part of compose's `environment` that is passed from outside: every name, and no value."""
    every = [variable for topic in topics(tables) for variable in topic.variables]
    names = [name for variable in every if variable.forwarded for name in variable.names]
    return "".join(f"{_COMPOSE_INDENT}- {name}\n" for name in names)


def default_text(default: object) -> str:
    """Write a default as an operator would; nothing for one that is unset."""
    match default:
        case None | ():
            return ""
        case bool():
            return str(default).lower()
        case float():
            return f"{default:.15g}"
        case _:
            return str(default)


FORMATS = {"markdown": markdown, "env": env, "compose": compose}
