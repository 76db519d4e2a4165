"""The upgrade request of the Realtime protocol: path, credential, model, and the conversation that xAI may resume."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from sts_trio.lab.emulator.query import MAX_FIELDS, ChatQuery, Handshake

if TYPE_CHECKING:
    from collections.abc import Iterable


def parse_realtime(target: str, headers: Iterable[tuple[bytes, bytes]]) -> Handshake:
    """Read the request target and headers of an upgrade.

    Raises:
        ValueError: the query has more than `MAX_FIELDS` fields.
    """
    parts = urlsplit(target)
    raw = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    given = {name.lower(): value.decode("latin-1") for name, value in headers}
    kind, _, key = given.get(b"authorization", "").partition(" ")
    query = ChatQuery(resumed_chat_group_id=raw.get("conversation_id") or None, raw=raw)
    return Handshake(unquote(parts.path), key if kind.lower() == "bearer" else given.get(b"api-key"), query)
