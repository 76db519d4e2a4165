"""The upgrade request: path, credential and query string, and what a chat is told by them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from sts_trio.lab.emulator.evi.settings import SessionSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_FIELDS = 1000  # a query has a few dozen; the rest of a hostile one is refused
_LEAF = re.compile(r"session_settings((?:\[[^\[\]]*\])+)")
_KEY = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True, slots=True)
class ChatQuery:
    """What the query of an upgrade asks for.

    `raw` has every parameter but the credentials, decoded, last one wins. `problem` says what was wrong with the
    session settings, if anything; they are empty then.
    """

    config_id: str | None = None
    config_version: str | None = None
    verbose_transcription: bool = False
    resumed_chat_group_id: str | None = None
    settings: SessionSettings = field(default_factory=SessionSettings)
    raw: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Handshake:
    """A parsed upgrade: the decoded path, the credential (never logged), and the query."""

    path: str
    key: str | None = field(repr=False)
    query: ChatQuery


def parse_handshake(target: str, headers: Iterable[tuple[bytes, bytes]]) -> Handshake:
    """Read the request target and headers of an upgrade.

    The key comes from `X-Hume-Api-Key`, `api_key` or `access_token`, in this order; EVI's order is not documented.

    Raises:
        ValueError: the query has more than `MAX_FIELDS` fields.
    """
    parts = urlsplit(target)
    pairs = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    header = next((value.decode("latin-1") for name, value in headers if name.lower() == b"x-hume-api-key"), None)
    key = header or pairs.get("api_key") or pairs.get("access_token") or None
    raw = {name: value for name, value in pairs.items() if name not in ("api_key", "access_token")}
    settings, problem = _settings(raw)
    query = ChatQuery(
        config_id=raw.get("config_id") or None,
        config_version=raw.get("config_version") or None,
        verbose_transcription=raw.get("verbose_transcription", "").lower() == "true",
        resumed_chat_group_id=raw.get("resumed_chat_group_id") or None,
        settings=settings,
        raw=raw,
        problem=problem,
    )
    return Handshake(unquote(parts.path), key, query)


def _settings(raw: Mapping[str, str]) -> tuple[SessionSettings, str | None]:
    """Gather `session_settings[a][b]=…`; also the older form with all variables as one JSON text."""
    tree: dict[str, Any] = {}
    try:
        for name, value in raw.items():
            if match := _LEAF.fullmatch(name):
                *branch, leaf = _KEY.findall(match[1])
                node = tree
                for step in branch:
                    node = node.setdefault(step, {})
                node[leaf] = value
        variables = tree.pop("variables", {})
        if isinstance(variables, str):
            variables = msgspec.json.decode(variables, type=dict[str, str | bool | int | float])
        settings = msgspec.convert(tree, SessionSettings, strict=False)
        if variables:  # not with the rest: lax conversion would turn "1e3" into a number
            settings = msgspec.structs.replace(settings, variables=dict(variables))
        return SessionSettings().updated(settings), None
    except (msgspec.MsgspecError, TypeError, AttributeError) as exc:  # the last two: a leaf where a branch is
        return SessionSettings(), f"session_settings in the query: {exc}"
