"""The Realtime protocol as its server reads it: the upgrade request, client messages, the session they ask for. Pure.

Unknown fields are errors, as in the real service: an update with one is refused as a whole
(docs/protocols/realtime.md 2). This codec is the emulator's own: one shared with the client would hide a mistake made
on both sides.
"""

from __future__ import annotations

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


class ItemDelete(_FromClient, frozen=True, tag="conversation.item.delete"):
    item_id: str


class Truncate(_FromClient, frozen=True, tag="conversation.item.truncate"):
    item_id: str
    content_index: int
    audio_end_ms: int


class ResponseCreate(_FromClient, frozen=True, tag="response.create"):
    response: dict[str, Any] | None = None


class ResponseCancel(_FromClient, frozen=True, tag="response.cancel"):
    response_id: str | None = None


ClientMessage = SessionUpdate | Append | ItemCreate | ItemDelete | Truncate | ResponseCreate | ResponseCancel

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
        raise ClientError("unknown_parameter", str(exc), event_id) from exc
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise ClientError("invalid_json", "The message is not valid JSON.") from exc


# The session, as the two services have it.


class Format(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
    rate: int | None = None


class Detection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["server_vad", "semantic_vad"]
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500
    idle_timeout_ms: int | None = None
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Format = Format("audio/pcm", 24_000)
    noise_reduction: dict[str, Any] | None = None
    transcription: dict[str, Any] | None = None
    turn_detection: Detection | None = None


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Format = Format("audio/pcm", 24_000)
    voice: str = "alloy"
    speed: float = 1.0


class Audio(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    input: Input = Input()
    output: Output = Output()


class FunctionTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["function"]
    name: str
    parameters: dict[str, Any]
    description: str = ""


class Session(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The session of OpenAI."""

    type: Literal["realtime"]
    instructions: str = ""
    output_modalities: tuple[Literal["audio", "text"], ...] = ("audio",)
    audio: Audio = Audio()
    tools: list[FunctionTool] = []
    tool_choice: Literal["auto", "none", "required"] = "auto"
    max_output_tokens: int | Literal["inf"] = "inf"
    truncation: Literal["auto", "disabled"] = "auto"
    reasoning: dict[str, str] | None = None

    @property
    def detection(self) -> Detection | None:
        """When a turn is over."""
        return self.audio.input.turn_detection


class FlatSession(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The session of xAI: voice and turn detection are top fields."""

    instructions: str = ""
    voice: str = "eve"
    turn_detection: Detection | None = None
    audio: Audio = Audio()
    tools: list[FunctionTool] = []
    resumption: dict[str, bool] = {}

    @property
    def detection(self) -> Detection | None:
        """When a turn is over."""
        return self.turn_detection


def read_session(fields: dict[str, Any], *, flat: bool, event_id: str | None) -> Session | FlatSession:
    """Read a session.

    Raises:
        ClientError: a field is unknown or wrong, or the service has no such format.
    """
    try:
        session = msgspec.convert(fields, FlatSession) if flat else msgspec.convert(fields, Session)
    except msgspec.ValidationError as exc:
        text, _, place = str(exc).partition(" - at `$.")
        code = "unknown_parameter" if "unknown field" in text else "invalid_value"
        raise ClientError(code, text, event_id, f"session.{place.rstrip('`')}") from exc
    for side, format_ in (("input", session.audio.input.format), ("output", session.audio.output.format)):
        if format_.type == "audio/pcm" and not flat and format_.rate != 24_000:
            raise ClientError("invalid_value", "PCM has 24000 Hz.", event_id, f"session.audio.{side}.format")
    return session


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
