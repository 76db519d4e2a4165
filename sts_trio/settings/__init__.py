"""What the operator chose: every environment variable, its name, default, check and help.

This is the environment's only reader.

A table for each topic: each provider has its own beside its code (`providers/*/settings.py`), how a call goes is in
`calls`, the service itself in `service`. `FORMATS` makes of them what people read: docs/reference/settings.md,
`.env.example`, compose's environment.

A `.env` file in the working directory is read as well; the environment beats it. Containers and panels pass variables
that nobody filled in as an empty text, ``undefined`` or ``null``: all three mean unset.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import decouple

from sts_trio.errors import ConfigError
from sts_trio.settings.calls import CallSettings
from sts_trio.settings.dotenv_file import DotenvFile
from sts_trio.settings.headers import SecretHeaders
from sts_trio.settings.parsers import HiddenValueError, Secret, url_secrets
from sts_trio.settings.service import ServiceSettings, provider_variable
from sts_trio.settings.variable import LONGEST_SHOWN, variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date

    from sts_trio.settings.service import ProviderSettings
    from sts_trio.settings.variable import Variable


Table = TypeVar("Table")

_CHOICE = "STS_PROVIDER"
FILE = ".env"
UNSET = ("", "undefined", "null")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All of it, in one value.

    `provider` is the table of the provider that was chosen. `others` are those that were not: nothing in them counts,
    but their secrets are not shown either. `unread` says what is set and not read, a line each. `chosen_by` is the
    variable that made the choice: a provider's key, where nothing else was said.
    """

    provider: ProviderSettings
    calls: CallSettings = field(default_factory=CallSettings)
    service: ServiceSettings = field(default_factory=ServiceSettings)
    others: tuple[ProviderSettings, ...] = field(default=(), repr=False, compare=False)
    unread: tuple[str, ...] = ()
    chosen_by: str = field(default=_CHOICE, repr=False, compare=False)

    def values(self) -> Iterator[tuple[Variable, object]]:
        """Every variable with its value, but for the one that chooses the provider."""
        for part in (self.provider, *self.others, self.calls, self.service):
            for name, variable in variables(type(part)).items():
                yield variable, getattr(part, name)

    def shown(self) -> dict[str, str]:
        """Every setting by its variable's name, fit for a log.

        Secrets are starred, long texts cut; URLs come without user, password and query, rules as their number.
        """
        shown = {variable.name: variable.shown(value) for variable, value in self.values()}
        return {_CHOICE: self.provider.name} | shown

    def notes(self, today: date) -> list[str]:
        """What an operator should know though all is right: one line each."""
        return [*self.unread, *self.provider.warnings(today)]

    def secrets(self) -> list[str]:
        """Every text that no log may have, whatever quotes it: keys, and the secret parts of URLs."""
        values = list(self.values())
        keys = [value.reveal() for _, value in values if isinstance(value, Secret)]
        keys += [text for _, value in values if isinstance(value, SecretHeaders) for text in value.secrets()]
        whole = [str(value) for variable, value in values if variable.is_url and value]
        whole += [rule.webhook for rule in self.calls.emotion_rules if rule.webhook]
        return keys + [text for url in whole for text in url_secrets(url)]


def load_call_settings() -> CallSettings:
    """Read what holds for every provider's calls: no key is needed for that.

    Raises:
        ConfigError: with a line for each variable that is wrong.
    """
    problems: list[str] = []
    calls = _read_table(_open_source(), CallSettings, problems)
    if problems:
        raise ConfigError(problems)
    return calls


def load_settings(tables: Sequence[type[ProviderSettings]]) -> Settings:
    """Read the environment and `.env`. `tables` are those of the providers that there are.

    What belongs to a provider that is not chosen may be missing or wrong; its default then holds.

    Raises:
        ConfigError: with a line for each variable that is missing or wrong.
    """
    source = _open_source()
    problems: list[str] = []
    chosen = _read(source, provider_variable(tables), problems)  # if that is wrong, nothing is required of any provider
    if chosen is None and not problems:
        chosen = _by_key(source, tables, problems)
    providers = [_read_table(source, table, problems if table.name == chosen else []) for table in tables]
    calls = _read_table(source, CallSettings, problems)
    service = _read_table(source, ServiceSettings, problems)
    if problems:
        raise ConfigError(problems)
    (provider,) = [each for each in providers if each.name == chosen]
    chosen_by = _CHOICE if _set(source, _CHOICE) else variables(type(provider))["api_key"].name
    if (problem := provider.problem()) is not None:
        raise ConfigError([problem])
    others = tuple(each for each in providers if each is not provider)
    unread = tuple(f"{name} is set and not read: {why}" for name, why in provider.ignored.items() if _set(source, name))
    return Settings(provider=provider, calls=calls, service=service, others=others, unread=unread, chosen_by=chosen_by)


def _by_key(source: decouple.Config, tables: Sequence[type[ProviderSettings]], problems: list[str]) -> str | None:
    """Choose the provider whose key is set: the first of all, or the only one of the others."""
    keys = {table.name: variables(table)["api_key"] for table in tables}
    found = [name for name, key in keys.items() if _first_set(source, key)[1] or _set(source, key.unless or key.name)]
    if found and (len(found) == 1 or found[0] == tables[0].name):
        return found[0]
    names = ", ".join(key.name for key in keys.values())
    if found:
        problems.append(f"more than one key is set; set STS_PROVIDER to {' or '.join(found)}")
    else:
        problems.append(
            f"no key of a provider is set; set one of {names}. Without a key, `sts-trio demo` shows what it does"
        )
    return None


def _read_table(source: decouple.Config, table: type[Table], problems: list[str]) -> Table:
    values: dict[str, Any] = {name: _read(source, each, problems) for name, each in variables(table).items()}
    make: Callable[..., Table] = table
    return make(**values)


def _read(source: decouple.Config, variable: Variable, problems: list[str]) -> object:
    """Return the value, or the default for what is unset or wrong; the latter is a line in `problems`."""
    name, text = _first_set(source, variable)
    if text is None:
        if variable.required and not _set(source, variable.unless or name):
            problems.append(f"{name} is not set; it is required: {variable.help}")
        return variable.default
    try:
        return variable.parse(text)
    except HiddenValueError as exc:
        problems.append(f"{name} has a value that is not shown here; it must be {exc}")
    except ValueError as exc:
        problems.append(f"{name} is {text[:LONGEST_SHOWN]!r}; it must be {exc}")
    return variable.default


def _open_source() -> decouple.Config:
    file = Path(FILE)
    try:
        if not file.is_file():
            return decouple.Config(decouple.RepositoryEmpty())
        return decouple.Config(DotenvFile(file))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError([f"the file .env cannot be read: {exc}"]) from exc


def _first_set(source: decouple.Config, variable: Variable) -> tuple[str, str | None]:
    """Return the first of a variable's names that is set, and its text; else its own name and None."""
    for name in variable.names:
        if (value := _set(source, name, empty_is_set=variable.empty_is_set)) is not None:
            return name, value
    return variable.name, None


def _set(source: decouple.Config, name: str, *, empty_is_set: bool = False) -> str | None:
    """Return the text of the variable of this name; None if it is unset."""
    value: str | None = source(name, default=None)
    value = value.strip() if value is not None else "null"
    return value if value.lower() not in UNSET or (value == "" and empty_is_set) else None


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
    """Make the page of settings: a heading and a table for each topic."""
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
