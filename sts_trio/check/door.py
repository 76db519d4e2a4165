"""Who is asked, and who may call: the version, the provider that was chosen and why, misspelt names, callers."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from sts_trio import __version__
from sts_trio.check.finding import Finding, Level
from sts_trio.settings import FILE
from sts_trio.settings.names import read_foreign
from sts_trio.settings.variable import variables
from sts_trio.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sts_trio.check.finding import Report
    from sts_trio.settings import Settings
    from sts_trio.settings.names import UnknownName

_MOST_NAMES = 8  # of those that are like none of ours, in one line
_LONGEST_SHOWN = 80
_LOOPBACK = ("127.", "::1", "localhost")


def check_version(report: Report) -> None:
    """Tell what runs."""
    report(Finding(Level.OK, "version", f"sts-trio {__version__}, Python {platform.python_version()}"))


def check_file(report: Report) -> None:
    """Tell if there is a file of settings here."""
    path = Path(FILE)
    if path.is_dir():
        told = f"{FILE} is a directory, and nothing is read of it: Docker makes one where the file to mount is missing"
        report(Finding(Level.WRONG, "settings", f"{told}; remove it, and write the file"))
    elif path.is_file():
        report(Finding(Level.OK, "settings", f"settings are read from the environment and from {path.absolute()}"))
    else:
        report(Finding(Level.OK, "settings", f"settings are read from the environment; there is no {FILE} here"))


def check_names(unknown: Iterable[UnknownName], report: Report) -> None:
    """Tell of names that no table of settings knows: a line for each that was meant for one, and one for the rest."""
    strange: dict[str, list[str]] = {}
    for each in unknown:
        if each.meant:
            report(Finding(Level.WRONG if each.counts else Level.NOTE, "names", str(each), each.meant))
        else:
            strange.setdefault(each.place, []).append(each.name)
    for place, names in strange.items():
        listed = ", ".join(names[:_MOST_NAMES]) + (f" and {len(names) - _MOST_NAMES} more" * (len(names) > _MOST_NAMES))
        told = f"nothing here reads these of {place}: {listed}; `sts-trio settings` prints all names that are read"
        report(Finding(Level.NOTE, "names", told))


def check_choice(settings: Settings, report: Report) -> None:
    """Tell who the agent is, by what choice, with which model and voice."""
    provider = settings.provider
    known = variables(type(provider))
    asked = parse_qs(urlsplit(provider.url).query)
    told = [f"provider {provider.name} ({provider.title}), as {settings.chosen_by} is set"]
    for field, word in (("config_id", "configuration"), ("model", "model"), ("voice", "voice"), ("voice_id", "voice")):
        value = getattr(provider, field, None)
        if field == "model" and (asked.keys() & {"model", "deployment"}):
            told.append(f"the model that {known['url'].name} names")
        elif value and (field in ("config_id", "model") or not provider.config_id):
            told.append(f"{word} {one_line(str(value), _LONGEST_SHOWN)}")
    report(Finding(Level.OK, "provider", ", ".join(told)))
    if settings.chosen_by != "STS_PROVIDER":
        keys = [variables(type(other))["api_key"].name for other in settings.others if other.has_credentials]
        for key in keys:
            told_of = f"{key} is set too, and nothing of it counts: STS_PROVIDER chooses"
            report(Finding(Level.NOTE, "provider", told_of, "STS_PROVIDER"))


def check_callers(settings: Settings, report: Report) -> None:
    """Tell who may call, and whether Core's own setting, where we can see it, leads here."""
    service = settings.service
    pages = f"pages of {', '.join(service.allowed_origins)}, and of our own host" if service.allowed_origins else ""
    if service.sts_token is not None:
        told = "callers must bring the secret that STS_TOKEN holds"
        report(Finding(Level.OK, "callers", f"{told}; of browsers, {pages}" if pages else told))
    elif service.host.startswith(_LOOPBACK):
        report(Finding(Level.OK, "callers", f"only this machine may call, as HOST is {service.host}"))
    else:
        told = f"everybody who reaches PORT {service.port} may call: set STS_TOKEN, or keep the port off other networks"
        report(Finding(Level.NOTE, "callers", told, "STS_TOKEN"))
    if (url := read_foreign("STS_URL")) is not None:
        _check_core(url, settings, report)


def _check_core(url: str, settings: Settings, report: Report) -> None:
    """Compare Core's STS_URL, in an environment or a file that we share with it, with our settings.

    Whether it can be reached from where Core is, nobody can tell here.
    """
    service = settings.service
    try:
        parts = urlsplit(url)
        port = parts.port or {"ws": 80, "http": 80}.get(parts.scheme)
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("ws", "http", "wss", "https") or not parts.hostname:
        told = f"STS_URL, which Core reads, is no URL such as ws://dsai-sts-humeai:{service.port}; correct it"
        report(Finding(Level.WRONG, "core", told, "STS_URL"))
    elif service.sts_token is not None and "token" not in parse_qs(parts.query):
        told = "STS_URL, which Core reads, brings no token, and STS_TOKEN asks for one: add ?token=SECRET to STS_URL"
        report(Finding(Level.WRONG, "core", told, "STS_TOKEN"))
    elif port is not None and service.port and port != service.port and parts.scheme in ("ws", "http"):
        told = f"STS_URL, which Core reads, leads to port {port}, and PORT is {service.port}; make them the same"
        report(Finding(Level.NOTE, "core", told, "PORT"))  # a proxy may be between the two
    else:
        report(Finding(Level.OK, "core", "STS_URL, which Core reads, leads to our port"))
