"""What a service answers in place of the upgrade, and what an operator can do about it in any protocol. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from sts_trio.settings.parsers import shown_url
from sts_trio.text import one_line

if TYPE_CHECKING:
    from sts_trio.providers.dial import Endpoint

_LONGEST_PLACE = 200  # characters of where a redirect points
_LOCATION = re.compile(rb"\r\nlocation:[ \t]*([^\r\n]*)", re.IGNORECASE)
# What OpenSSL says when the other side does not speak TLS.
_NO_TLS = re.compile(
    r"wrong version number|record layer failure|packet length too long|unexpected message|http request", re.IGNORECASE
)
# What nginx, Go and Envoy say to plain HTTP on a port with TLS.
_WANTS_TLS = re.compile(r"HTTPS (?:port|server)|plain HTTP|requires TLS", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no upgrade.

    `status`: of HTTP; None if none came, and `body` says what was wrong. `location`: where a redirect points.
    """

    status: int | None
    body: str = ""
    location: str = ""


# Says in a few words which setting to look at, and what for; nothing, if it has no idea.
Advise = Callable[[Refusal], str]


def no_advice(_: Refusal) -> str:
    """Have no idea."""
    return ""


def find_location(head: bytes) -> str:
    """Return where the head of an answer points to; nothing if it does not."""
    found = _LOCATION.search(head)
    return one_line(found[1].decode("latin-1"), 10 * _LONGEST_PLACE) if found else ""


def common_advice(refusal: Refusal, endpoint: Endpoint, asked: str, setting: str) -> str:
    """What can be done whatever is spoken: after a redirect, and with the wrong scheme.

    `asked` is the path of the upgrade, `setting` has the URL.
    """
    if refusal.status is not None and 300 <= refusal.status < 400:
        return _follow(refusal.location, endpoint, asked, setting)
    if endpoint.tls and refusal.status is None and _NO_TLS.search(refusal.body):
        return f"is there TLS at this port? {setting} asks for it by https:// or wss://; without it is http:// or ws://"
    if not endpoint.tls and (refusal.status is None or _WANTS_TLS.search(refusal.body)):
        return f"check {setting}: it begins with http:// or ws://, which is without TLS; https:// may be wanted"
    return f"check {setting}" if refusal.status is None else ""


def _follow(location: str, endpoint: Endpoint, asked: str, setting: str) -> str:
    """No redirect is followed: the key would go wherever the answer says."""
    if not location:
        return f"it says not where to; check {setting}"
    here = f"{'https' if endpoint.tls else 'http'}://{endpoint.host_header}{asked}"
    try:
        place = shown_url(urljoin(here, location))
        same = urlsplit(place).path.rstrip("/").endswith(asked.rstrip("/"))
    except ValueError:
        return f"it points to a broken URL; check {setting}"
    place = place[:_LONGEST_PLACE]
    if same:
        return f"it points to {place}: set {setting} to that"
    return f"it points to {place}, which may be a page to log in; check {setting}"
