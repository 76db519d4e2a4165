"""The Realtime protocol as its server reads it: the upgrade request, and what a client says. Pure.

Unknown fields, types and sizes are errors, as in the real service (docs/protocols/realtime.md 5.1). This codec is the
emulator's own: one shared with the client would hide a mistake made on both sides. `session` has the session.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from sts_trio.lab.emulator.evi.handshake import MAX_FIELDS, ChatQuery, Handshake

if TYPE_CHECKING:
    from collections.abc import Iterable


class ClientError(Exception):
    """A client message that is answered with an `error`: its `code`, text, and the field that it is about."""

    def __init__(self, code: str, message: str, event_id: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.event_id = event_id
        self.param = param


class _FromClient(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    event_id: str | None = None


class SessionUpdate(_FromClient, frozen=True, tag="session.update"):
    """`session` is read as the service's own shape."""

    session: dict[str, Any]


class Append(_FromClient, frozen=True, tag="input_audio_buffer.append"):
    """Caller audio, in base64 on the wire."""

    audio: bytes


class ItemCreate(_FromClient, frozen=True, tag="conversation.item.create"):
    item: dict[str, Any]
    previous_item_id: str | None = None


class ItemRetrieve(_FromClient, frozen=True, tag="conversation.item.retrieve"):
    item_id: str


class ItemDelete(_FromClient, frozen=True, tag="conversation.item.delete"):
    item_id: str


class Truncate(_FromClient, frozen=True, tag="conversation.item.truncate"):
    item_id: str
    content_index: int
    audio_end_ms: int


class Clear(_FromClient, frozen=True, tag="input_audio_buffer.clear"):
    """Forget the caller's audio that is no turn yet."""


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a response is to be, in place of what the session says."""

    instructions: str | None = None
    input: list[dict[str, Any]] | None = None
    conversation: Literal["auto", "none"] | None = None
    metadata: dict[str, str] | None = None
    output_modalities: list[Literal["audio", "text"]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    audio: dict[str, Any] | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1, le=4096)] | Literal["inf"] | None = None
    reasoning: dict[str, str] | None = None
    parallel_tool_calls: bool | None = None


class ResponseCreate(_FromClient, frozen=True, tag="response.create"):
    response: Wanted | None = None


class ResponseCancel(_FromClient, frozen=True, tag="response.cancel"):
    response_id: str | None = None


ClientMessage = (
    SessionUpdate | Append | Clear | ItemCreate | ItemRetrieve | ItemDelete | Truncate | ResponseCreate | ResponseCancel
)

_client: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)


class _AnyMessage(msgspec.Struct):
    event_id: str | None = None


_any_message = msgspec.json.Decoder(_AnyMessage)


def parse_client(data: str | bytes) -> ClientMessage:
    """Read one frame of a client.

    Raises:
        ClientError: it is binary, no JSON, or no message of the protocol.
    """
    if isinstance(data, bytes):
        raise ClientError("invalid_event", "Binary frames are not part of the protocol.")
    try:
        return _client.decode(data)
    except msgspec.ValidationError as exc:
        try:
            event_id = _any_message.decode(data).event_id
        except msgspec.MsgspecError:
            event_id = None
        raise refusal(exc, event_id) from exc
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise ClientError("invalid_json", "The message is not valid JSON.") from exc


_PLACE = re.compile(r"(?s)(.*) - at `(?:key )?\$\.?(.*?)`.*")
_FIELD = re.compile(r".*field `(.+)`")


def refusal(exc: msgspec.ValidationError, event_id: str | None, root: str = "") -> ClientError:
    """Say what is wrong with a message as the service does: a code, a text, and the field below `root`."""
    text, place = found.groups() if (found := _PLACE.fullmatch(str(exc))) else (str(exc), "")
    named = found[1] if (found := _FIELD.fullmatch(text)) else ""
    param = ".".join(part for part in (root, place, named) if part)
    if "unknown field" in text:
        return ClientError("unknown_parameter", f"Unknown parameter: '{param}'.", event_id, param)
    if "missing required" in text:
        return ClientError("missing_required_parameter", f"Missing required parameter: '{param}'.", event_id, param)
    code = "invalid_type" if text.startswith("Expected") and ", got" in text else "invalid_value"
    return ClientError(code, f"Invalid '{param or 'event'}': {text}", event_id, param or None)


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
