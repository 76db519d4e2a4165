"""What a check finds: how bad it is, what happened, which setting to look at, what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sts_trio.settings.variable import variables
from sts_trio.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sts_trio.settings import Settings


class Level(StrEnum):
    """How bad it is: `NOTE` is worth knowing, and `WRONG` what calls would suffer from."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `name` is what was looked at, `setting` the variable to look at; nothing if all is well."""

    level: Level
    name: str
    message: str
    setting: str = ""

    def __post_init__(self) -> None:
        """Keep it a line: file names and peers' words may hold anything."""
        object.__setattr__(self, "message", one_line(self.message))

    def __str__(self) -> str:
        return f"{self.level}: {self.message}"


Report = Callable[[Finding], object]

# What can be done about a file or an address, by what the system says of it.
_REMEDIES = {
    os.strerror(errno.ENOENT): "make it, or correct the name; in a container it must be mounted",
    os.strerror(errno.EACCES): f"let user {os.getuid()}, who we are, read it, and enter its directories",
    os.strerror(errno.EPERM): f"let user {os.getuid()}, who we are, read it",
    os.strerror(errno.EISDIR): "name a file; Docker makes a directory where the file to mount is missing",
    os.strerror(errno.ENOTDIR): "correct the path: a part of it is no directory",
    os.strerror(errno.ELOOP): "mend its links, which lead in a circle",
    os.strerror(errno.ENOSPC): "make room",
    "is not UTF-8": "save it as UTF-8",
    "it is empty": "write something into it",
    "it is longer than": "shorten it",
    "Name or service not known": "correct the host name, or mend DNS; in a container the other must be on its network",
    "No address associated with hostname": "correct the host name, or mend DNS",
    "Temporary failure in name resolution": "mend DNS: no name server answers",
    os.strerror(errno.ECONNREFUSED): "start what should listen there, or correct host and port",
    os.strerror(errno.EHOSTUNREACH): "mend the way there: route, firewall",
    os.strerror(errno.ENETUNREACH): "mend the way there: route, network",
    os.strerror(errno.ECONNRESET): "look at that service's log",
    "did not answer within": "see why that service is slow, or unreachable behind a firewall",
    "no answer in time": "see why it is slow, or give it longer by INSTRUCTIONS_SECONDS",
    "certificate is not trusted": "give that service a certificate of a known authority, or take http://",
    "TLS failed": "check if it is to be http:// and not https://",
    "answered HTTP 401": "let this in without a password, or put user and password into the URL",
    "answered HTTP 403": "let this in",
    "answered HTTP 404": "correct the path",
    "answered HTTP 3": "name the address that it points to: redirects are not followed",
    "answered HTTP 5": "look at that service's log",
}


def remedy(reason: str) -> str:
    """Say what can be done about a file or an address that fails for this reason; nothing, if it is not known."""
    return next((do for words, do in _REMEDIES.items() if words in reason), "")


def setting_in(text: str, names: Iterable[str]) -> str:
    """Return the first of these variables' names that the text has; nothing if it has none."""
    known = set(names)
    words = "".join(each if each.isalnum() or each == "_" else " " for each in text).split()
    return next((word for word in words if word in known), "")


def setting_names(settings: Settings) -> list[str]:
    """Return the name of every variable."""
    return ["STS_PROVIDER", *(variable.name for variable, _ in settings.values())]


def name_settings(settings: Settings, *fields: str) -> str:
    """Return the variables of these fields, in words, as far as the provider has them."""
    known = variables(type(settings.provider))
    names = [known[field].name for field in fields if field in known]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def with_setting(text: str, hint: str, settings: Settings) -> str:
    """Add the hint, unless the text names a setting by itself."""
    return text if setting_in(text, setting_names(settings)) else f"{text}; {hint}"
