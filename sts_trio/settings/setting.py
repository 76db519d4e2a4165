"""How one environment variable is described; the other modules here are tables of these."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

from sts_trio.settings.urls import shown_url

if TYPE_CHECKING:
    from collections.abc import Callable

PROVIDERS = ("humeai", "openai", "xai")
REQUIRED = object()
LONGEST_SHOWN = 60  # characters of a value, in a log or a complaint


def setting(
    name: str,
    default: object,
    parse: Callable[[str], object],
    meaning: str,
    *aliases: str,
    empty_is_set: bool = False,
    show: Callable[[Any], str] = str,
) -> Any:
    """Describe a variable. `show` makes of its value what a log may have; None is never given to it.

    One whose name begins with that of a provider is of use to that one only: it is required, or wrong, only then.
    """
    family = name.partition("_")[0].lower()
    metadata = {
        "name": name,
        "parse": parse,
        "help": meaning,
        "aliases": aliases,
        "empty_is_set": empty_is_set,
        "show": show,
        "provider": family if family in PROVIDERS else "",
        "required": default is REQUIRED,
    }
    hidden = show is shown_url  # such a URL may hold a password, so it stays out of repr, too
    return field(metadata=metadata, repr=not hidden, default=None if default is REQUIRED else default)
