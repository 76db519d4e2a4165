"""A small Realtime service and its caller on a clock of their own: what is asked, and what is heard of the answers.

It follows the rules of docs/protocols/realtime.md, and has bad days by plan: each response is of one of `PLANS`. It
knows which question each response answers, which the client does not.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from itertools import count, cycle
from math import inf
from typing import TYPE_CHECKING, Any

from sts_trio.providers.base import AgentAudio, AgentEvent, AgentFault, SessionEnd, ToolCall, UserInterruption
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.audio import open_codec
from sts_trio.providers.openai.history import History
from sts_trio.providers.openai.protocol import RealtimeProtocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sts_trio.providers.openai.dialect import Dialect

PLANS = (
    *("speak", "tool", "two tools", "words and a tool", "empty", "text", "filtered", "failed", "failed late"),
    *("limited", "silent", "mute", "no created", "late created", "no done", "tool, no done"),
)
BUSY = {"code": "conversation_already_has_active_response", "message": "Conversation already has an active response"}
CHUNKS, CHUNK_SECONDS, CHUNK_EVERY = 3, 0.4, 0.05
PATIENCE = 10.0


@dataclass(eq=False)
class Asked:
    """A question as the service knows it: a turn, a text that was typed, the outputs of a response's functions."""

    what: str
    at: float
    settled: bool = False


@dataclass(eq=False)
class Reply:
    """A response. `answers`: what was open in the conversation when it began. `says`: a text word for word."""

    id: str
    plan: str
    answers: list[Asked]
    says: str = ""
    over: bool = False
    heard: bool = False
    calls: dict[str, bool] = field(default_factory=dict)  # its functions' calls, and whether they are answered


class Scene:
    """One conversation. `wrongs` is what must not happen."""

    def __init__(
        self, dialect: Dialect, plans: Sequence[str], times: tuple[float, float], steps: Sequence[tuple[float, str]]
    ) -> None:
        self.now = 0.0
        self.wrongs: list[str] = []
        self.log: list[str] = []
        self.protocol = RealtimeProtocol(dialect, open_codec("pcmu", 24_000), History(), 1, PATIENCE)
        self._plans = cycle([*plans, "speak"])
        self._delay, self._thinks = times  # on the way; from the end of a turn to the service's own answer
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._names = count(1)
        self._open: list[Asked] = []
        self._replies: dict[str, Reply] = {}
        self._active: Reply | None = None
        self._speaks = ""  # the item of the caller's turn
        self._said: Counter[str] = Counter()
        self._asked_for: Counter[str] = Counter()  # calls, as the service has made them
        self._run: Counter[str] = Counter()  # as the client has
        self._refused: list[str] = []  # functions whose output was
        self._answered_at = -inf
        self._plays_until = 0.0
        self._helped_at = 0.0  # when something was last done for the caller
        self.given_up = False
        self.over = False
        at = 0.0
        self.at(0.0, lambda: self.protocol.say("greeting", self.now))
        for wait, step in steps:
            at += wait
            self.at(at, {"speaks": self._caller_speaks, "key": self._key, "prompt": self._prompt}[step])
        self._ends_at = at + 120.0

    # The clock.

    def at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), do))

    def play(self) -> None:
        self._after()
        while not self.over:
            deadline = max(self.protocol.deadline, self.now)
            when = self._due[0][0] if self._due else inf
            if min(deadline, when) > self._ends_at:
                break
            self.now = min(deadline, when)
            self._is_silent()
            if when <= deadline:
                heapq.heappop(self._due)[2]()
            self.protocol.expire(self.now)
            self._after()
        if not self.over and not self.given_up:
            self.wrongs += [f"never answered: {asked.what}" for asked in self._open if not asked.settled]
        self.wrongs += [f"{name} ran {n} times" for name, n in self._run.items() if n > 1]
        self.wrongs += [f"{name} never ran" for name in self._asked_for if not self._run[name] and not self.over]
        self.wrongs += [f"said {n} times: {text}" for text, n in self._said.items() if n > 1]

    def _is_silent(self) -> None:
        """Dead air: something is open, nobody speaks, and nobody does anything about it."""
        waits = [asked.at for asked in self._open if not asked.settled]
        busy = any(not answered for reply in self._replies.values() for answered in reply.calls.values())
        if not waits or self._speaks or busy or self.given_up:
            self._helped_at = self.now
        since = max(self._helped_at, self._plays_until)
        if self.now - since > PATIENCE + self._thinks + 2 * self._delay + 0.5:
            self.wrongs.append(f"{self.now:.2f} dead air since {since:.2f}")
            self._helped_at = self.now

    def _after(self) -> None:
        """Do what the protocol wants: its messages travel for a while, its events are the call's."""
        while self.protocol.out or self.protocol.events:
            while self.protocol.out:
                message = self.protocol.out.popleft()
                self._helped_at = self.now
                self.log.append(f"{self.now:.2f} -> {message}")
                self.at(self.now + self._delay, lambda message=message: self._take(message))  # type: ignore[misc]
            if self.protocol.events:
                self._hear(self.protocol.events.popleft())

    def _send(self, *messages: wire.FromService, after: float = 0.0) -> None:
        for message in messages:
            self.at(self.now + self._delay + after, lambda message=message: self._arrives(message))  # type: ignore[misc]

    def _arrives(self, message: wire.FromService) -> None:
        self.log.append(f"{self.now:.2f} <- {message!r:.200}")
        self.protocol.take(message, self.now)

    # The call.

    def _hear(self, event: AgentEvent) -> None:
        self.log.append(f"{self.now:.2f} == {event!r:.100}")
        match event:
            case AgentAudio(reply=id_, wav=wav):
                self._plays_until = max(self._plays_until, self.now) + wav.seconds
                self._is_heard(self._replies[id_])
            case UserInterruption():
                self.protocol.truncate(max(self._plays_until - self.now, 0.0))
                self._plays_until = self.now
            case ToolCall(id=id_, name=name):
                self._run[name] += 1
                took = (0.02, 0.5, 3.0)[len(self._run) % 3]
                self.at(self.now + took, lambda: self._tool_done(id_))
            case AgentFault():
                self.given_up = True
            case SessionEnd():
                self.over = True

    def _is_heard(self, reply: Reply) -> None:
        if reply.heard:
            return
        reply.heard = True
        if reply.says == "greeting" and self._answered_at > -inf:
            self.wrongs.append(f"{self.now:.2f} a greeting after the first answer")
        if not reply.says:
            self._answered_at = self.now
            if not reply.answers:
                self.wrongs.append(f"{self.now:.2f} {reply.id} answers what has been answered")

    def _tool_done(self, id_: str) -> None:
        for reply in self._replies.values():
            if id_ in reply.calls:
                reply.calls[id_] = True
        self._helped_at = self.now
        self.protocol.answer(id_, "done", self.now, failed=False)

    # The caller.

    def _caller_speaks(self) -> None:
        if self._speaks:
            return
        self._speaks = f"turn{next(self._names)}"
        self._send(wire.SpeechStarted(self._speaks))
        if self._active is not None:
            self._end(self._active, "cancelled", "turn_detected")
        self.at(self.now + 1.0, self._caller_stops)

    def _caller_stops(self) -> None:
        item, self._speaks = self._speaks, ""
        number = int(item.removeprefix("turn"))
        if number % 4:
            self._send(wire.SpeechStopped(item))
        if number % 4 != 1:
            self._send(wire.Committed(item))
        self._send(wire.ItemAdded(wire.Item(id=item)))
        asked = Asked(item, self.now)
        self._open.append(asked)
        self.at(self.now + self._thinks, lambda: self._answer_turn(asked))

    def _answer_turn(self, asked: Asked) -> None:
        taken_up = any(asked in reply.answers for reply in self._replies.values())
        if self._active is None and not self._speaks and not taken_up:
            self._begin()

    def _key(self) -> None:
        if self._speaks:
            return
        if self._plays_until > self.now:
            unheard, self._plays_until = self._plays_until - self.now, self.now
            self.protocol.stop(self.now)
            self.protocol.truncate(unheard)
        self.protocol.user_text("(key)", self.now)

    def _prompt(self) -> None:
        quiet = self._plays_until < self.now - 3.0 and not self._speaks and self._active is None
        if quiet and all(asked.settled for asked in self._open):
            self.protocol.say(f"prompt{next(self._names)}", self.now)

    # The service.

    def _take(self, message: wire.ToService) -> None:
        match message:
            case wire.ItemCreate(item={"type": "force_message"} as item):
                self._respond(message.event_id, str(item["content"][0]["text"]))
            case wire.ItemCreate(item={"type": "function_call_output"} as item):
                self._output(message.event_id, item)
            case wire.ItemCreate(item=item):
                self._send(wire.ItemAdded(wire.Item(id=item["id"])))
                self._open.append(Asked(str(item["id"]), self.now))
            case wire.ResponseCreate(response=response):
                words = str((response or {}).get("instructions", "")).rpartition("\n\n")[2]
                self._respond(message.event_id, words)
            case wire.ResponseCancel(response_id=id_) if self._active is not None and self._active.id == id_:
                self._end(self._active, "cancelled", "client_cancelled")
            case _:
                pass

    def _respond(self, event_id: str, words: str) -> None:
        if self._active is not None:
            self._send(wire.ServiceError({**BUSY, "event_id": event_id}))
        else:
            self._begin(words)

    def _output(self, event_id: str, item: dict[str, Any]) -> None:
        reply = next(each for each in self._replies.values() if item["call_id"] in each.calls)
        if not reply.over:
            self._refused.append(reply.id)
            error = {"code": "invalid_tool_call_id", "event_id": event_id}
            self._send(wire.ServiceError(error))
            self.wrongs.append("an output before its response was done")
            return
        self._send(wire.ItemAdded(wire.Item(id=item["id"])))
        reply.calls[f"{item['call_id']} sent"] = True
        if all(reply.calls.get(f"{call} sent") for call in list(reply.calls) if not call.endswith(" sent")):
            self._open.append(Asked(f"outputs of {reply.id}", self.now))

    def _begin(self, says: str = "") -> None:
        plan = next(self._plans)
        if plan == "mute":
            return
        if says and "tool" in plan:
            plan = "speak"
        answers = [] if says else [asked for asked in self._open if not asked.settled]
        reply = Reply(f"r{next(self._names)}", plan, answers, says)
        self._replies[reply.id] = self._active = reply
        self.log.append(f"{self.now:.2f} ## {reply.id} {plan} {[asked.what for asked in answers]} {says}")
        created = wire.ResponseCreated({"id": reply.id})
        if plan not in ("no created", "late created"):
            self._send(created)
        if plan == "silent":
            return
        self._send(wire.ItemBegun(wire.Item(id=f"item of {reply.id}"), reply.id))
        at = 0.1
        if plan in ("speak", "failed late", "no created", "late created", "no done", "words and a tool"):
            for number in range(CHUNKS):
                at = 0.1 + number * CHUNK_EVERY
                self.at(self.now + at, lambda: self._speak(reply))
                if number == 0 and plan == "late created":
                    self.at(self.now + at, lambda: None if reply.over else self._send(created))
        if "tool" in plan:
            for _ in range(2 if plan == "two tools" else 1):
                call = f"c{next(self._names)}"
                self.at(self.now + at, lambda call=call: self._calls(reply, call))  # type: ignore[misc]
        self.at(self.now + at + 0.1, lambda: None if reply.over else self._ends(reply))

    def _speak(self, reply: Reply) -> None:
        if not reply.over:
            self._send(wire.AudioDelta(b"\xff" * int(8000 * CHUNK_SECONDS), reply.id, f"item of {reply.id}"))

    def _calls(self, reply: Reply, call: str) -> None:
        if not reply.over:
            reply.calls[call] = False
            self._asked_for[call] += 1
            item = wire.Item(id=f"item of {call}", type="function_call", name=call, call_id=call, status="completed")
            self._send(wire.ItemDone(item, reply.id))

    def _ends(self, reply: Reply) -> None:
        match reply.plan:
            case "failed" | "failed late":
                self._end(reply, "failed", error={"type": "server_error"})
            case "limited":
                wait = {"code": "rate_limit_exceeded", "message": "Please try again in 3.5s."}
                self._end(reply, "failed", error=wait)
            case "filtered":
                self._end(reply, "incomplete", "content_filter")
            case _:
                self._end(reply, "completed")

    def _end(self, reply: Reply, status: str, reason: str | None = None, error: dict[str, str] | None = None) -> None:
        reply.over, self._active = True, None
        useful = status == "completed" and reply.plan not in ("empty", "text")
        if useful or (reason == "turn_detected"):
            for asked in reply.answers:
                asked.settled = True
        if useful and reply.says and reply.heard:
            self._said[reply.says] += 1
        text = [{"type": "message", "content": [{"type": "output_text", "text": "Hello."}]}]
        output = text if reply.plan == "text" else []
        if reply.plan not in ("no done", "tool, no done"):
            details = {"reason": reason, "error": error}
            self._send(wire.ResponseDone(wire.Response(reply.id, status, details, output)))
