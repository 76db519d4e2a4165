"""EVI's messages, seen from the server: client JSON in, server JSON out. Nothing here waits.

Names and required fields follow the published EVI schema (`publish_event`, `subscribe_event`). This codec is the
emulator's own, on purpose: one shared with the client would hide a mistake made on both sides.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from typing import Any, Literal

import msgspec

from sts_trio.lab.emulator.evi.settings import SessionSettings


class WireError(Exception):
    """A client message that EVI answers with an `error` message: `code`, `slug` and text are that message's."""

    def __init__(self, code: str, slug: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.slug = slug
        self.message = message


class BadAnswer(WireError):
    """An unreadable answer to a tool call: EVI tells by a `tool_error` with the same id (docs/protocols/evi.md 3.7)."""

    def __init__(self, tool_call_id: str, message: str) -> None:
        super().__init__("E0101", "invalid_message", message)
        self.tool_call_id = tool_call_id


# --- client to server ------------------------------------------------------------------------------------------


class _FromClient(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    custom_session_id: str | None = None


class AudioInput(_FromClient, frozen=True, tag="audio_input"):
    """Caller audio in base64; a binary frame means the same."""

    data: str

    def pcm(self) -> bytes:
        """Return the audio bytes.

        Raises:
            WireError: E0201, the base64 cannot be decoded.
        """
        try:
            return base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise WireError("E0201", "audio_decode_failed", "The base64 audio could not be decoded.") from exc


class UserInput(_FromClient, frozen=True, tag="user_input"):
    """Text as if the caller had said it."""

    text: str


class AssistantInput(_FromClient, frozen=True, tag="assistant_input"):
    """Text for the agent to speak as it stands."""

    text: str


class ToolResponse(_FromClient, frozen=True, tag="tool_response", omit_defaults=True):
    """The result of a tool call; the server sends one for its own tools."""

    tool_call_id: str
    content: str
    tool_name: str | None = None
    tool_type: Literal["builtin", "function"] | None = None


class ToolError(_FromClient, frozen=True, tag="tool_error", omit_defaults=True):
    """A tool call that failed; the server sends one when the answer is late or makes no sense."""

    tool_call_id: str
    error: str
    content: str | None = None
    code: str | None = None
    level: Literal["warn"] | None = None
    tool_type: Literal["builtin", "function"] | None = None


class Pause(_FromClient, frozen=True, tag="pause_assistant_message"):
    """The agent shall be quiet until `Resume`."""


class Resume(_FromClient, frozen=True, tag="resume_assistant_message"):
    """The agent may speak again."""


ClientMessage = AudioInput | SessionSettings | UserInput | AssistantInput | ToolResponse | ToolError | Pause | Resume

_client: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)


class _AnyAnswer(msgspec.Struct):
    type: Literal["tool_response", "tool_error"]
    tool_call_id: str


_any_answer = msgspec.json.Decoder(_AnyAnswer)


def parse_client(text: str | bytes) -> ClientMessage:
    """Read one text frame of a client; `bytes` are its UTF-8.

    Raises:
        WireError: E0100 when it is not JSON, E0101 when a field is missing or wrong, or the type is unknown;
            a `BadAnswer` when that is so in an answer to a tool call.
    """
    try:
        return _client.decode(text)
    except msgspec.ValidationError as exc:
        with contextlib.suppress(msgspec.DecodeError, UnicodeError, RecursionError):
            raise BadAnswer(_any_answer.decode(text).tool_call_id, str(exc)) from exc
        raise WireError("E0101", "invalid_message", str(exc)) from exc
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise WireError("E0100", "invalid_json", "The message is not valid JSON.") from exc


# --- server to client ------------------------------------------------------------------------------------------


class _ToClient(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    custom_session_id: str | None = None


class Words(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who said what. `tool_call` and `tool_result` of the schema are not used here."""

    role: Literal["user", "assistant"]
    content: str | None = None


class Prosody(msgspec.Struct, frozen=True):
    """48 scores by label."""

    scores: dict[str, float]


class Models(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was measured; empty for text."""

    prosody: Prosody | None = None


class Interval(msgspec.Struct, frozen=True):
    """Milliseconds since the chat began."""

    begin: int
    end: int


class ChatMetadata(_ToClient, frozen=True, tag="chat_metadata"):
    """The first message of a chat."""

    chat_group_id: str
    chat_id: str
    request_id: str | None = None


class UserMessage(_ToClient, frozen=True, tag="user_message"):
    """What the caller said; provisional when `interim`."""

    message: Words
    models: Models
    time: Interval
    interim: bool
    from_text: bool
    language: str | None = None


class AssistantMessage(_ToClient, frozen=True, tag="assistant_message"):
    """What the agent says in one segment; `id` joins it with its audio."""

    id: str
    message: Words
    models: Models
    from_text: bool
    is_quick_response: bool
    language: str | None = None


class AudioOutput(_ToClient, frozen=True, tag="audio_output"):
    """Chunk `index` of a segment's audio: a complete WAV file in base64."""

    id: str
    index: int
    data: bytes  # msgspec writes bytes as base64


class AssistantProsody(_ToClient, frozen=True, tag="assistant_prosody"):
    """Scores of the agent's own voice."""

    id: str
    models: Models


class AssistantEnd(_ToClient, frozen=True, tag="assistant_end"):
    """All of a turn has been sent."""


class UserInterruption(_ToClient, frozen=True, tag="user_interruption"):
    """The caller spoke over the agent, who has stopped. `time`: Unix time in milliseconds."""

    time: int


class ToolCall(_ToClient, frozen=True, tag="tool_call"):
    """The agent wants a function called; `parameters` is JSON as text."""

    name: str
    parameters: str
    tool_call_id: str
    tool_type: Literal["builtin", "function"]
    response_required: bool


class ErrorMessage(_ToClient, frozen=True, tag="error"):
    """An `error` message. It does not always end the chat."""

    code: str
    slug: str
    message: str
    request_id: str | None = None


ServerMessage = (
    ChatMetadata
    | SessionSettings
    | UserMessage
    | AssistantMessage
    | AudioOutput
    | AssistantProsody
    | AssistantEnd
    | UserInterruption
    | ToolCall
    | ToolResponse
    | ToolError
    | ErrorMessage
)


class Event(msgspec.Struct, frozen=True):
    """A message of another protocol, as it stands. `ready`: from here on the client may speak."""

    fields: dict[str, Any]
    ready: bool = False


class Ended(msgspec.Struct, frozen=True):
    """A response is over, and not by its last word: EVI has no such message, the Realtime protocol has several.

    `reason` and `cause` are those of its `status_details` (docs/protocols/realtime.md 6.1).
    """

    status: Literal["completed", "cancelled", "failed", "incomplete"]
    reason: str | None = None
    cause: dict[str, Any] | None = None


class Written(msgspec.Struct, frozen=True):
    """A reply in text alone, without a voice: of the Realtime protocol, too."""

    id: str
    text: str


_encoder = msgspec.json.Encoder()


def encode_audio(segment: str, index: int, base64_wav: bytes) -> bytes:
    """Return the text frame of an `AudioOutput` whose WAV file is in base64 already: no second copy of the audio."""
    return b'{"type":"audio_output","id":"%s","index":%d,"data":"%s"}' % (segment.encode(), index, base64_wav)


def encode_server(message: ServerMessage, custom_session_id: str | None = None) -> str:
    """Return the text frame of `message`, with the client's own session id on it when there is one."""
    if custom_session_id is not None:
        message = msgspec.structs.replace(message, custom_session_id=custom_session_id)
    return _encoder.encode(message).decode()
