"""A Realtime service in a light mode, OpenAI's or xAI's: any client of it is content. Pure.

It accepts any session whose audio formats it has. The order of its events is that of docs/protocols/realtime.md 6.1; as
with the real service, audio under way still arrives after a response is cut off. A response that a client asks for has
no voice, since the load's profile says who speaks when: it is begun and done at once.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec

from sts_trio.lab.load.plan import Step
from sts_trio.lab.load.stamps.down import RawMaker
from sts_trio.lab.load.stamps.g711 import G711StampReader
from sts_trio.lab.sample_formats import find_format
from sts_trio.lab.websocket import TEXT

if TYPE_CHECKING:
    from collections.abc import Sequence

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


class Reply:
    """A response with its one message."""

    def __init__(self, id_: str, item: str) -> None:
        self.id = id_
        self.item = item
        self.words: list[str] = []
        self.ids: dict[str, Any] = {"response_id": id_, "item_id": item, "output_index": 0, "content_index": 0}

    def message(self, status: str, words: str | None = None) -> dict[str, Any]:
        """The message as an item; with `words` once they have been said."""
        content = [] if words is None else [{"type": "output_audio", "transcript": words}]
        head = {"id": self.item, "object": "realtime.item", "type": "message", "role": "assistant"}
        return {**head, "status": status, "content": content}


def response_shape(id_: str, status: str, output: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """A response as events have it."""
    done = {"usage": {"total_tokens": 30, "input_tokens": 20, "output_tokens": 10}} if status == "completed" else {}
    head = {"id": id_, "object": "realtime.response", "status": status, "status_details": None}
    return {**head, "output": output, "metadata": None, **done}


_WORDS = ("Words", "of", "an", "agent", "under", "load.")
_CALLER_WORDS = "Words of a caller under load."
_encode = msgspec.json.Encoder().encode


class Voices:
    """What makes the agents' voice, by form: one for all chats of a process."""

    def __init__(self) -> None:
        self._makers: dict[SampleFormat, RawMaker] = {}

    def maker(self, form: SampleFormat) -> RawMaker:
        """The one for this form."""
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
        self._reply: Reply | None = None
        self._caller_item: str | None = None  # of the caller's turn that is under way

    def begin(self) -> Sequence[bytes]:
        """See `LightProvider`."""
        session = {"id": f"sess_{self._id}", "object": "realtime.session", "type": "realtime"}
        opened = [self._event("session.created", session=session)]
        if self._resumes:
            opened.append(self._event("conversation.created", conversation={"id": f"conv_{self._id}"}))
        return opened

    def hear(self, message: Message, now_ns: int) -> tuple[Sequence[Stamp | None], Sequence[bytes]]:
        """See `LightProvider`."""
        if message.opcode != TEXT:
            return (), ()
        self._began_ns = self._began_ns or now_ns
        try:
            said = decode(message.data)
            if said.type == "input_audio_buffer.append":
                return self._reader.read(said.audio, now_ns), ()
            return (), self._answer(said)
        except (msgspec.DecodeError, UnicodeError) as exc:
            return (), [self._error("invalid_value", str(exc))]

    def tell(self, step: Step, call: int, frame: int, now_ns: int) -> Sequence[bytes]:
        """See `LightProvider`."""
        reply = self._reply
        match step:
            case Step.WORDS:
                return self._begin_reply()
            case Step.CHUNK if reply is not None:
                word = _WORDS[len(reply.words) % len(_WORDS)]
                reply.words.append(word)
                self._count += 1
                delta = (
                    b'{"type":"response.output_audio.delta","event_id":"event_%d","response_id":"%s","item_id":"%s",'
                    % (
                        self._count,
                        reply.id.encode(),
                        reply.item.encode(),
                    )
                )
                audio = b'%s"output_index":0,"content_index":0,"delta":"%s"}' % (delta, self._maker.chunk(call, frame))
                text = self._event("response.output_audio_transcript.delta", **reply.ids, delta=f"{word} ")
                return [audio, text]
            case Step.CUT:
                return self._caller_begins(now_ns)
            case Step.CUT_OVER if reply is not None:
                return self._end_reply(reply, "cancelled", "turn_detected")
            case Step.END if reply is not None:
                return self._end_reply(reply, "completed")
            case Step.USER:
                return self._caller_turn(now_ns)
            case _:
                return []

    # What a client asks for.

    def _answer(self, said: Said) -> Sequence[bytes]:
        match said.type:
            case "session.update":
                return self._update(said)
            case "response.create" if self._reply is not None:
                text = "Conversation already has an active response in progress."
                return [self._error("conversation_already_has_active_response", text, said.event_id)]
            case "response.create":
                return self._say_nothing()
            case "response.cancel" if self._reply is not None:
                return self._end_reply(self._reply, "cancelled", "client_cancelled")
            case "response.cancel":
                text = "Cancellation failed: no active response found."
                return [self._error("response_cancel_not_active", text, said.event_id)]
            case "conversation.item.create" if said.item.get("type") == "force_message":
                return self._say_nothing()
            case "conversation.item.create":
                return self._item(
                    {"id": self._new("item"), "object": "realtime.item", "status": "completed"} | said.item
                )
            case "conversation.item.delete":
                return [self._event("conversation.item.deleted", item_id=said.item_id)]
            case "conversation.item.truncate":
                cut = {"item_id": said.item_id, "content_index": 0, "audio_end_ms": said.audio_end_ms}
                return [self._event("conversation.item.truncated", **cut)]
            case "input_audio_buffer.clear":
                return [self._event("input_audio_buffer.cleared")]
            case "input_audio_buffer.commit":
                return self._commit(self._new("item"))
            case kind:
                return [self._error("invalid_value", f"A light agent knows no {kind}.", said.event_id)]

    def _update(self, said: Said) -> Sequence[bytes]:
        audio = decode_session(said.session).audio
        asked = (audio.input.format, audio.output.format)
        heard, spoken = (find_format(each.type, each.rate) for each in asked)
        if heard is None or spoken is None:
            text = f"A light agent has no such format: {asked}"
            return [self._error("invalid_value", text, said.event_id, "session.audio")]
        self._reader = G711StampReader(self._mark, heard)
        self._maker = self._voices.maker(spoken)
        return [self._event("session.updated", session=said.session)]

    # The agent's replies.

    def _say_nothing(self) -> Sequence[bytes]:
        id_ = self._new("resp")
        return [
            self._event("response.created", response=response_shape(id_, "in_progress")),
            self._event("response.done", response=response_shape(id_, "completed")),
        ]

    def _begin_reply(self) -> Sequence[bytes]:
        self._reply = reply = Reply(self._new("resp"), self._new("item"))
        item, part = reply.message("in_progress"), {"type": "audio", "transcript": ""}
        return [
            self._event("response.created", response=response_shape(reply.id, "in_progress")),
            self._event("response.output_item.added", response_id=reply.id, output_index=0, item=item),
            self._event("conversation.item.added", previous_item_id=None, item=item),
            self._event("response.content_part.added", **reply.ids, part=part),
        ]

    def _end_reply(self, reply: Reply, status: str, reason: str | None = None) -> Sequence[bytes]:
        self._reply = None
        words = " ".join(reply.words)
        item = reply.message("incomplete" if reason else "completed", words)
        part = {"type": "audio", "transcript": words}
        response = response_shape(reply.id, status, [item])
        if reason is not None:
            response["status_details"] = {"type": status, "reason": reason}
        limits = [{"name": "tokens", "limit": 800_000, "remaining": 799_000, "reset_seconds": 0.075}]
        return [
            self._event("response.output_audio.done", **reply.ids),
            self._event("response.output_audio_transcript.done", **reply.ids, transcript=words),
            self._event("response.content_part.done", **reply.ids, part=part),
            self._event("conversation.item.done", previous_item_id=None, item=item),
            self._event("response.output_item.done", response_id=reply.id, output_index=0, item=item),
            self._event("response.done", response=response),
            self._event("rate_limits.updated", rate_limits=limits),
        ]

    # The caller, as the service hears him.

    def _caller_begins(self, now_ns: int) -> Sequence[bytes]:
        self._caller_item = self._new("item")
        begin = self._ms(now_ns)
        return [self._event("input_audio_buffer.speech_started", audio_start_ms=begin, item_id=self._caller_item)]

    def _caller_turn(self, now_ns: int) -> Sequence[bytes]:
        begun = self._caller_begins(now_ns) if self._caller_item is None else ()
        item, self._caller_item = self._caller_item or "", None
        stopped = self._event("input_audio_buffer.speech_stopped", audio_end_ms=self._ms(now_ns), item_id=item)
        heard = self._event(
            "conversation.item.input_audio_transcription.completed",
            item_id=item,
            content_index=0,
            transcript=_CALLER_WORDS,
            usage={"type": "duration", "seconds": 1.0},
        )
        return [*begun, stopped, *self._commit(item), heard]

    def _commit(self, item: str) -> Sequence[bytes]:
        message = {"id": item, "object": "realtime.item", "type": "message", "role": "user", "status": "completed"}
        content = [{"type": "input_audio", "transcript": None}]
        committed = self._event("input_audio_buffer.committed", item_id=item, previous_item_id=None)
        return [committed, *self._item({**message, "content": content})]

    def _ms(self, now_ns: int) -> int:
        return (now_ns - self._began_ns) // 1_000_000

    # Events.

    def _item(self, item: dict[str, Any]) -> Sequence[bytes]:
        kinds = ("conversation.item.added", "conversation.item.done")
        return [self._event(kind, previous_item_id=None, item=item) for kind in kinds]

    def _error(self, code: str, message: str, event_id: str | None = None, param: str | None = None) -> bytes:
        error = {
            "type": "invalid_request_error",
            "code": code,
            "message": message,
            "param": param,
            "event_id": event_id,
        }
        return self._event("error", error=error)

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._count += 1
        return _encode({"type": kind, "event_id": f"event_{self._count}", **fields})

    def _new(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._id}{self._count}"
