"""What is known of a call when its connection arrives, before the first message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Core sends seven short parameters, and one for each field that a webhook of the operator's adds
# (docs/protocols/core.md 6.1): of a whole record, perhaps. These bounds keep a hostile URL, 64 KiB at most
# (`web.guards.BoundedHeads`), from living on in a call.
MAX_PARAMETERS = 256
MAX_NAME = 64
MAX_VALUE = 1024


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a caller reached us.

    `query` holds the URL's parameters, unchecked: any name, any character. `uuid` is Core's id of the call, from the
    `X-UUID` header or else the parameter `uuid` (docs/protocols/core.md 1.3, 6.1); None when neither came. Both may be
    telephone numbers or nonsense: log and forward with care.
    """

    query: Mapping[str, str]
    uuid: str | None = None


def parse_query(query: bytes) -> dict[str, str]:
    """Read a query string leniently; never raises.

    The last of a repeated name wins; the first `MAX_PARAMETERS` names are kept, names cut at `MAX_NAME` and values at
    `MAX_VALUE` characters. Broken percent-encoding stays as it is, bytes that are no UTF-8 become U+FFFD.
    """
    kept: dict[str, str] = {}
    for name, value in parse_qsl(query.decode(errors="replace"), keep_blank_values=True, errors="replace"):
        short = name[:MAX_NAME]
        if short in kept or len(kept) < MAX_PARAMETERS:
            kept[short] = value[:MAX_VALUE]
    return kept


def parse_arrival(query: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Arrival:
    """Read what a request says of its call. Header names are expected in lower case, as ASGI gives them."""
    parameters = parse_query(query)
    uuid = next((value.decode("latin-1").strip() for name, value in headers if name == b"x-uuid"), "")
    return Arrival(parameters, uuid[:MAX_VALUE] or parameters.get("uuid") or None)
