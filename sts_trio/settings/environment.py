"""Settings out of the environment: its only reader.

A `.env` file in the working directory is read as well; the environment beats it. Containers and panels pass variables
that nobody filled in as an empty text, ``undefined`` or ``null``: all three mean unset.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import decouple

from sts_trio.errors import ConfigError
from sts_trio.settings import Settings
from sts_trio.settings.secret import HiddenValueError
from sts_trio.settings.setting import LONGEST_SHOWN, PROVIDERS

_UNSET = ("", "undefined", "null")


def load_settings() -> Settings:
    """Read the environment and `.env`.

    Raises:
        ConfigError: with a line for each variable that is missing or wrong.
    """
    source = _open_source()
    chosen: dict[str, Any] = {}
    problems: list[str] = []
    provider = _first_set(source, ("STS_PROVIDER",), empty_is_set=False)[1] or PROVIDERS[0]
    for each in fields(Settings):
        meta = each.metadata
        others = meta["provider"] not in ("", provider.lower())
        name, value = _first_set(source, (meta["name"], *meta["aliases"]), empty_is_set=meta["empty_is_set"])
        if value is None:
            if meta["required"] and not others:
                problems.append(f"{name} is not set; it is required: {meta['help']}")
            continue
        problem = ""
        try:
            chosen[each.name] = meta["parse"](value)
        except HiddenValueError as exc:
            problem = f"{name} has a value that is not shown here; it must be {exc}"
        except ValueError as exc:
            problem = f"{name} is {value[:LONGEST_SHOWN]!r}; it must be {exc}"
        if problem and not others:  # what belongs to a provider that is not in use may be wrong
            problems.append(problem)
    if problems:
        raise ConfigError(problems)
    settings = Settings(**chosen)
    if (unknown := settings.unknown_model()) is not None:
        raise ConfigError([unknown])
    return settings


def _open_source() -> decouple.Config:
    file = Path(".env")
    try:
        if not file.is_file():
            return decouple.Config(decouple.RepositoryEmpty())
        return decouple.Config(decouple.RepositoryEnv(str(file), encoding="utf-8-sig"))  # some editors add a mark
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError([f"the file .env cannot be read: {exc}"]) from exc


def _first_set(source: decouple.Config, names: tuple[str, ...], *, empty_is_set: bool) -> tuple[str, str | None]:
    for name in names:
        value = source(name, default=None)
        if value is None:
            continue
        value = value.strip()
        if value.lower() not in _UNSET or (value == "" and empty_is_set):
            return name, value
    return names[0], None
