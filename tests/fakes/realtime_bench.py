"""A session of the Realtime protocol without a connection, and what a service says in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sts_trio.providers.base import AgentAudio, UserSpeaks
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.audio import open_codec
from sts_trio.providers.openai.dialect import OPENAI, Dialect
from sts_trio.providers.openai.history import History
from sts_trio.providers.openai.protocol import RealtimeProtocol

if TYPE_CHECKING:
    from sts_trio.providers.base import AgentEvent


class Bench:
    """The protocol of one session, and what came of it since the last look."""

    def __init__(self, dialect: Dialect = OPENAI, *, interrupts: bool = True, answers: bool = True) -> None:
        self.dialect = dialect
        self.history = History()
        session, codec = self.history.begin_session(), open_codec("pcmu", 24_000)
        self.protocol = RealtimeProtocol(dialect, codec, self.history, session, interrupts=interrupts, answers=answers)

    def hear(self, *messages: wire.FromService, now: float = 0.0) -> list[AgentEvent]:
        for message in messages:
            self.protocol.take(message, now)
        told = self.protocol.events
        events: list[AgentEvent] = [event for event in told if not isinstance(event, AgentAudio | UserSpeaks)]
        self.protocol.events.clear()
        return events

    def sent(self) -> list[wire.ToService]:
        sent = list(self.protocol.out)
        self.protocol.out.clear()
        return sent

    def kinds(self) -> list[str]:
        return [str(message.__struct_config__.tag).rpartition(".")[2] for message in self.sent()]


def created(id_: str) -> wire.ResponseCreated:
    return wire.ResponseCreated({"id": id_})


def done(id_: str, status: str = "completed", **error: Any) -> wire.ResponseDone:
    details = {"error": error} if error else None
    return wire.ResponseDone(wire.Response(id_, status, details))


def voice(response: str, item: str, seconds: float = 1.0) -> wire.AudioDelta:
    return wire.AudioDelta(b"\xff" * int(8000 * seconds), response, item)


def asks(response: str, id_: str, name: str = "weather") -> wire.ItemDone:
    item = wire.Item(type="function_call", call_id=id_, name=name, arguments="{}", status="completed")
    return wire.ItemDone(item, response)


def refused(bench: Bench, request: wire.ToService) -> wire.ServiceError:
    assert isinstance(request, wire.ResponseCreate)
    return wire.ServiceError({"code": "conversation_already_has_active_response", "event_id": request.event_id})
