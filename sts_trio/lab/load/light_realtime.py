"""A Realtime service in a light mode, OpenAI's or xAI's: any client of it is content. Pure.

It accepts any session whose audio formats it has. The order of its events is that of docs/protocols/realtime.md 6.1; as
with the real service, audio under way still arrives after a response is cut off. A response that a client asks for has
no voice, since the load's profile says who speaks when: it is begun and done at once.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec

from sts_trio.lab.emulator.realtime.events import (
    SpokenItem,
    added,
    committed,
    deleted,
    error,
    event,
    rate_limits,
    response_created,
    response_done,
    speech_started,
    transcribed,
    truncated,
    turn_over,
)
from sts_trio.lab.load.plan import Step
from sts_trio.lab.load.stamps.down import RawMaker
from sts_trio.lab.load.stamps.g711 import G711StampReader
from sts_trio.lab.sample_formats import find_format
from sts_trio.lab.websocket import TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sts_trio.lab.emulator.evi.wire import Event
    from sts_trio.lab.load.stamps.base import Stamp
    from sts_trio.lab.sample_formats import SampleFormat
    from sts_trio.lab.websocket import Message


class Said(msgspec.Struct):
    """Any message of a client's."""

    type: str
    audio: bytes = b""
    event_id: str | None = None
    session: msgspec.Raw = msgspec.Raw(b"{}")
    item: dict[str, Any] = {}
    item_id: str = ""
    audio_end_ms: int = 0


class _Format(msgspec.Struct):
    type: str = "audio/pcm"
    rate: int | None = None


class _Side(msgspec.Struct):
    format: _Format = msgspec.field(default_factory=_Format)


class _Audio(msgspec.Struct):
    input: _Side = msgspec.field(default_factory=_Side)
    output: _Side = msgspec.field(default_factory=_Side)


class Session(msgspec.Struct):
    """What a light agent looks at in a session."""

    audio: _Audio = msgspec.field(default_factory=_Audio)


decode = msgspec.json.Decoder(Said).decode
decode_session = msgspec.json.Decoder(Session).decode


_WORDS = ("Words", "of", "an", "agent", "under", "load.")
_CALLER_WORDS = "Words of a caller under load."
_encode = msgspec.json.Encoder().encode
_DELTA = (
    b'{"type":"response.output_audio.delta","event_id":"event_%d","response_id":"%s","item_id":"%s",'
    b'"output_index":0,"content_index":0,"delta":"%s"}'
)


class Voices:
    """The makers of the agents' voice by sample format, shared by all chats of a process."""

    def __init__(self) -> None:
        self._makers: dict[SampleFormat, RawMaker] = {}

    def maker(self, form: SampleFormat) -> RawMaker:
        """The maker for a sample format."""
        if form not in self._makers:
            self._makers[form] = RawMaker(form)
        return self._makers[form]


class LightRealtime:
    """See `LightProvider`. `resumes`: it tells the id of the conversation, as xAI does."""

    def __init__(self, voices: Voices, mark: int, *, resumes: bool) -> None:
        self._voices = voices
        self._mark = mark
        self._resumes = resumes
        self._id = f"{random.getrandbits(64):016x}"
        self._count = 0
        self._began_ns = 0
        form = find_format("audio/pcm", 24_000)  # what a session has that is not told
        assert form is not None  # noqa: S101  # for the type checker
        self._reader = G711StampReader(mark, form)
        self._maker = voices.maker(form)
        self._reply: SpokenItem | None = None
        self._said: list[str] = []  # words of the reply
        self._caller_item: str | None = None  # of the caller's turn that is under way

    def begin(self) -> Sequence[bytes]:
        """See `LightProvider`."""
        session = {"id": f"sess_{self._id}", "object": "realtime.session", "type": "realtime"}
        opened = [event("session.created", session=session)]
        if self._resumes:
            opened.append(event("conversation.created", conversation={"id": f"conv_{self._id}"}))
        return self._encoded(opened)

    def hear(self, message: Message, now_ns: int) -> tuple[Sequence[Stamp | None], Sequence[bytes]]:
        """See `LightProvider`."""
        if message.opcode != TEXT:
            return (), ()
        self._began_ns = self._began_ns or now_ns
        try:
            said = decode(message.data)
            if said.type == "input_audio_buffer.append":
                return self._reader.read(said.audio, now_ns), ()
            return (), self._encoded(self._answer(said))
        except (msgspec.DecodeError, UnicodeError) as exc:
            return (), self._encoded([error("invalid_value", str(exc))])

    def tell(self, step: Step, call: int, frame: int, now_ns: int) -> Sequence[bytes]:
        """See `LightProvider`."""
        reply = self._reply
        match step:
            case Step.WORDS:
                self._reply = SpokenItem(self._new("resp"), self._new("item"))
                self._said = []
                return self._encoded(self._reply.begin())
            case Step.CHUNK if reply is not None:
                word = _WORDS[len(self._said) % len(_WORDS)]
                self._said.append(word)
                return [self._audio(reply, self._maker.chunk(call, frame)), *self._encoded([reply.say(f"{word} ")])]
            case Step.CUT:
                return self._encoded(self._caller_begins(now_ns))
            case Step.CUT_OVER if reply is not None:
                return self._encoded(self._end_reply(reply, "cancelled", "turn_detected"))
            case Step.END if reply is not None:
                return self._encoded(self._end_reply(reply, "completed"))
            case Step.USER:
                return self._encoded(self._caller_turn(now_ns))
            case _:
                return []

    # What a client asks for.

    def _answer(self, said: Said) -> Sequence[Event]:
        match said.type:
            case "session.update":
                return self._update(said)
            case "response.create" if self._reply is not None:
                text = "Conversation already has an active response in progress."
                return [error("conversation_already_has_active_response", text, event_id=said.event_id)]
            case "response.create":
                return self._say_nothing()
            case "response.cancel" if self._reply is not None:
                return self._end_reply(self._reply, "cancelled", "client_cancelled")
            case "response.cancel":
                text = "Cancellation failed: no active response found."
                return [error("response_cancel_not_active", text, event_id=said.event_id)]
            case "conversation.item.create" if said.item.get("type") == "force_message":
                return self._say_nothing()
            case "conversation.item.create":
                return added({"id": self._new("item"), "object": "realtime.item", "status": "completed"} | said.item)
            case "conversation.item.delete":
                return [deleted(said.item_id)]
            case "conversation.item.truncate":
                return [truncated(said.item_id, said.audio_end_ms)]
            case "input_audio_buffer.clear":
                return [event("input_audio_buffer.cleared")]
            case "input_audio_buffer.commit":
                return committed(self._new("item"))
            case kind:
                return [error("invalid_value", f"A light agent knows no {kind}.", event_id=said.event_id)]

    def _update(self, said: Said) -> Sequence[Event]:
        audio = decode_session(said.session).audio
        asked = (audio.input.format, audio.output.format)
        heard, spoken = (find_format(each.type, each.rate) for each in asked)
        if heard is None or spoken is None:
            text = f"A light agent has no such format: {asked}"
            return [error("invalid_value", text, event_id=said.event_id, param="session.audio")]
        self._reader = G711StampReader(self._mark, heard)
        self._maker = self._voices.maker(spoken)
        return [event("session.updated", session=said.session)]

    # The agent's replies.

    def _say_nothing(self) -> Sequence[Event]:
        id_ = self._new("resp")
        return [response_created(id_), response_done(id_, "completed")]

    def _end_reply(self, reply: SpokenItem, status: str, reason: str | None = None) -> Sequence[Event]:
        self._reply = None
        reply.words = " ".join(self._said)
        item_status = "incomplete" if reason else "completed"
        return [
            *reply.end(item_status),
            response_done(reply.response, status, [reply.message(item_status)], reason),
            rate_limits(),
        ]

    def _audio(self, reply: SpokenItem, audio: bytes) -> bytes:
        """`response.output_audio.delta` by hand: `audio` is in base64 already, and this is most of what is sent."""
        return _DELTA % (self._next(), reply.response.encode(), reply.item.encode(), audio)

    # The caller, as the service hears them.

    def _caller_begins(self, now_ns: int) -> Sequence[Event]:
        self._caller_item = self._new("item")
        return [speech_started(self._caller_item, self._ms(now_ns))]

    def _caller_turn(self, now_ns: int) -> Sequence[Event]:
        begun = self._caller_begins(now_ns) if self._caller_item is None else ()
        item, self._caller_item = self._caller_item or "", None
        return [*begun, *turn_over(item, self._ms(now_ns)), transcribed(item, _CALLER_WORDS)]

    def _ms(self, now_ns: int) -> int:
        return (now_ns - self._began_ns) // 1_000_000

    def _encoded(self, events: Iterable[Event]) -> list[bytes]:
        return [
            _encode({"type": each.fields["type"], "event_id": f"event_{self._next()}", **each.fields})
            for each in events
        ]

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _new(self, kind: str) -> str:
        return f"{kind}_{self._id}{self._next()}"
