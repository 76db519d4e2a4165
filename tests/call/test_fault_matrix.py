"""Every fault of the provider at every moment of a call, through the whole service in memory, a good call beside it.

Each test is a row: five calls that meet the fault at five moments, and one that must not notice. `pytest -s` prints it.
What only a service of the Realtime protocol does is in `test_realtime_days` and `test_realtime_tools`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed

from sts_trio.lab.emulator import (
    CloseWith,
    Cut,
    Delay,
    DoubledChunks,
    Drop,
    EmulatorOptions,
    Flood,
    GarbageOnly,
    HalfOpen,
    LateChunks,
    LateMetadata,
    NoEnds,
    NoMetadata,
    OddArguments,
    Refuse,
    Reset,
    ResetInFrame,
    SameIds,
    SendError,
    SendGarbage,
    SendJunk,
    SlowReader,
    SwappedChunks,
)
from sts_trio.lab.emulator.evi.malformed import MALFORMED as EVI
from sts_trio.lab.emulator.malformed import ESCAPES
from sts_trio.lab.emulator.realtime.malformed import MALFORMED as REALTIME
from tests.call.bench import Bench
from tests.call.fakes import tone
from tests.call.stage import ALL, KEY, open_stage

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

    from sts_trio.lab.emulator import Fault, Session
    from tests.call.stage import Caller, Stage

Row = tuple[str, str, tuple[Any, dict[str, Any], str]]  # provider, name; fault, its arguments, what becomes of it
RESUMED, FAILED, GOOD_BYE, GOES_ON = "resumed", "error, 1011", "played out, 1000", "goes on"

# What befalls a call, and what has become of it afterwards; before the session is ready, what does not pass is told.
FAULTS: dict[str, tuple[type[Fault], dict[str, object], str]] = {
    "reset": (Reset, {}, RESUMED),
    "end of stream": (Cut, {}, RESUMED),
    "reset in mid-frame": (ResetInFrame, {}, RESUMED),
    "half-open": (HalfOpen, {}, RESUMED),
    **{f"close {code}": (CloseWith, {"code": code}, RESUMED) for code in (1001, 1002, 1007, 1009)},
    **{f"close {code}": (CloseWith, {"code": code}, RESUMED) for code in (1011, 1012, 1013, 1014)},
    "close 1000": (CloseWith, {"code": 1000}, GOOD_BYE),
    **{f"close {code}": (CloseWith, {"code": code}, FAILED) for code in (1008, 4000)},
    "garbage": (SendGarbage, {}, RESUMED),
    "garbage only": (GarbageOnly, {"kind": "type_null"}, RESUMED),
    "late messages": (Delay, {"seconds": 0.2, "jitter": 0.2}, GOES_ON),
    "late chunks": (LateChunks, {"by": 0.3}, GOES_ON),
    "swapped chunks": (SwappedChunks, {}, GOES_ON),
    "doubled chunks": (DoubledChunks, {}, GOES_ON),
    "slow reader": (SlowReader, {"bytes_per_second": 20_000}, GOES_ON),
    "one id for all replies": (SameIds, {}, GOES_ON),
    "arguments inside a text": (OddArguments, {}, GOES_ON),
    "arguments in a fence": (OddArguments, {"form": "fence"}, GOES_ON),
    **{f"flood of {kind}": (Flood, {"kind": kind}, GOES_ON) for kind in ("fragments", "pongs")},
    "flood of pings": (Flood, {"kind": "pings", "count": 2000}, GOES_ON),  # each is answered: seconds of CPU
    "flood of empty fragments": (Flood, {"kind": "empty_fragments"}, GOES_ON),
    "close with escapes": (CloseWith, {"code": 1011, "reason": ESCAPES[:40]}, RESUMED),
}
# One message that is odd in itself, of each kind that the protocol has. Those that are odd in any protocol are shown
# with EVI; the rest of them is for the whole matrix.
JUNK = {"humeai": EVI, "openai": REALTIME, "xai": REALTIME}
# What the two protocols have words of their own for.
ERRORS: dict[str, dict[str, tuple[dict[str, object], str]]] = {
    "humeai": {
        "I0100, close 1000": ({"code": "I0100", "close": 1000}, RESUMED),
        "I0116, no close": ({"code": "I0116"}, RESUMED),
        "E0300, close 1000": ({"code": "E0300", "close": 1000}, FAILED),
        "E0714, no close": ({"code": "E0714"}, FAILED),
        "E0101": ({"code": "E0101"}, GOES_ON),
        "W0101": ({"code": "W0101"}, GOES_ON),
        "E9999, in no table": ({"code": "E9999"}, GOES_ON),
        "made_up, in no table": ({"code": "made_up", "slug": "made_up"}, GOES_ON),
    },
    "openai": {
        "session_expired, close 1001": ({"code": "session_expired", "close": 1001}, RESUMED),
        "server_error, no close": ({"code": "x", "slug": "server_error"}, RESUMED),
        "no credit, close 1013": ({"code": "insufficient_quota", "close": 1013}, FAILED),
        "no credit, no close": ({"code": "insufficient_quota"}, FAILED),
        "unknown_parameter": ({"code": "unknown_parameter"}, GOES_ON),
        "response_cancel_not_active": ({"code": "response_cancel_not_active"}, GOES_ON),
        "made_up, in no table": ({"code": "made_up", "slug": "made_up"}, GOES_ON),
    },
    "xai": {
        "max_duration, close 1000": ({"code": "x", "slug": "max_duration", "close": 1000}, RESUMED),
        "internal_error, no close": ({"code": "x", "slug": "internal_error"}, RESUMED),
        "invalid_api_key, close 3000": ({"code": "invalid_api_key", "close": 3000}, FAILED),
        "invalid_event": ({"code": "x", "slug": "invalid_event"}, GOES_ON),
        "no active response": ({"code": "x", "message": "There is no active response."}, GOES_ON),
        "made_up, in no table": ({"code": "made_up", "slug": "made_up"}, GOES_ON),
    },
}
# Which closes resume is a table of its own for the other providers (tests/providers/test_openai_wire.py).
ONCE = {f"close {code}" for code in (1012, 1013, 1014, 1007, 1008, 1009)}
SELDOM = {*ONCE, "close 1002"} - {"close 1012", "close 1008"}  # EVI: what a row beside them stands for
# What a service of the Realtime protocol is tried with each time; the other rows are for the whole matrix.
OFTEN = {("openai", "reset"), ("openai", "close 1000"), ("openai", "garbage only"), ("xai", "reset")}
# Hume says good-bye by a close, and ends a chat by others. No service of the Realtime protocol does: there these are
# losses, but for one in place of a session.
OF_HUME = {"close 1000", "close 1008", "close 4000"}


def as_meant(provider: str, name: str, fault: tuple[type[Fault], dict[str, Any], str]) -> Row:
    """A row of `FAULTS` as a provider means it."""
    kind, arguments, expected = fault
    lost = provider != "humeai" and name in OF_HUME
    return provider, name, (kind, arguments, RESUMED if lost else expected)


MATRIX: list[Row] = [
    *((provider, f"junk: {kind}", (SendJunk, {"kind": kind}, GOES_ON)) for provider in JUNK for kind in JUNK[provider]),
    ("humeai", "no assistant_end", (NoEnds, {}, GOES_ON)),
    *(
        as_meant(provider, *row)
        for provider in ERRORS
        for row in FAULTS.items()
        if provider == "humeai" or row[0] not in ONCE
    ),
    *(
        (provider, name, (SendError, arguments, expected))
        for provider, rows in ERRORS.items()
        for name, (arguments, expected) in rows.items()
    ),
]
# What nobody can understand is counted; some of the rest can be taken for what was meant.
COUNTED = {"garbage only"} | {
    f"junk: {kind}"
    for kind in (
        *("json", "no_object", "no_type", "base64", "wav", "empty_frame", "ping_text", "null", "number", "nesting"),
        *("type_null", "type_number", "binary_frame", "audio_null", "audio_missing", "audio_number"),
        *("wav_rate_0", "wav_cut", "huge_list"),
    )
}

# Which tests/call/test_odd_provider.py shows at five moments, beside a good call and with the count of each kind.
SHOWN_ALONE = {
    *("json", "no_object", "no_type", "unknown_type", "empty_frame", "ping_text", "null", "number", "nesting"),
    *("type_null", "type_number", "binary_frame", "surrogate", "message_null", "message_missing", "content_null"),
    *("content_parts", "id_number", "scores_nan", "scores_text", "base64", "audio_null", "audio_unpadded"),
    *("audio_pcm", "wav_24_bit", "wav_rate_0"),
}


def is_repeated(provider: str, name: str) -> bool:
    """Whether a row shows again what another shows in less time."""
    kind = name.removeprefix("junk: ")
    if kind.startswith("huge") or (kind is not name and kind in SHOWN_ALONE):
        return True
    if kind is name:
        if provider == "humeai":
            return name in SELDOM
        return name in FAULTS and (provider, name) not in OFTEN
    return provider == "xai" or (provider == "openai" and kind in EVI and kind not in ("field", "surrogate"))


def as_parameters(row: Row) -> ParameterSet:
    """Name a row by its provider and its fault, and mark it."""
    provider, name, _ = row
    marks = [pytest.mark.matrix] if is_repeated(provider, name) else []
    return pytest.param(
        *row,
        marks=marks,
        id=f"{provider}-{name}",
    )


# An error that is followed by no close, but by more of the agent, was none that ends a chat. After a transfer the agent
# speaks in time for an error that waits 5 s for its close, though not for one that waits 1 s.
SPEAKS_ON = {
    ("I0116, no close", "agent speaking"),
    ("E0714, no close", "user speaking"),
    ("E0714, no close", "agent speaking"),
    ("E0714, no close", "tool running"),
    ("server_error, no close", "agent speaking"),
    ("internal_error, no close", "agent speaking"),
    ("no credit, no close", "user speaking"),
    ("no credit, no close", "agent speaking"),
    ("no credit, no close", "tool running"),
}
# A first session that has been mute for `READY_SECONDS` leaves no time for another.
MUTE = {("half-open", "before ready")}
MOMENTS: dict[str, dict[str, Any]] = {
    "before ready": {"at": "accepted", "after": 0.2},
    "idle": {"at": "ready", "after": 1.0},
    "user speaking": {"at": "user_speaking"},
    "agent speaking": {"at": "agent_speaking"},
    "tool running": {"at": "tool_call", "after": 0.1},
}
SECONDS = 9.4
# By then each fault has struck, and the caller has been heard again; afterwards they are on hold, the good call last.
HEARD = {"agent speaking": 2.8, "beside": 2.8}
FRAME = bytes(6400)  # 400 ms: what the test itself must move stays small
QUIET = 1600  # bytes that one who does not speak sends in that time: a line with gaps, at a quarter of the cost


@dataclass
class Line:
    """One caller, and all that he hears; he speaks, or keys, as the moment wants it."""

    caller: Caller
    uuid: str
    moment: str
    connection: int  # the first
    said: bytes = b""
    heard: list[dict[str, object]] = field(default_factory=list)
    code: int | None = None

    async def live(self, seconds: float) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            with suppress(ConnectionClosed):
                await self._speak(seconds)
            nursery.cancel_scope.cancel()

    async def _listen(self) -> None:
        try:
            while True:
                self.heard.append(await self.caller.hear())
        except ConnectionClosed as closed:
            self.code = closed.reason.code if closed.reason else 1006

    async def _speak(self, seconds: float) -> None:
        began = trio.current_time()
        speech = tone(1.2, level=0.3) if self.moment in ("user speaking", "agent speaking", "beside") else b""
        if self.moment == "tool running":
            await trio.sleep(0.5)
            await self.caller.say(type="dtmf_digit", digit="0")
            await self.caller.say(type="dtmf_digit", digit="#")
        number, size = 0, len(FRAME) if speech else QUIET
        heard_until = began + HEARD.get(self.moment, 2.0)
        while trio.current_time() < heard_until and self.code is None:
            # What comes after speech must be as long as it was, for the turn to end.
            frame = speech[: len(FRAME)] or (number % 250 + 1).to_bytes(2, "little") * (size // 2)
            speech = speech[len(FRAME) :]
            await self.caller.say(type="audio", audio=frame)
            self.said += frame
            number += 1
            await trio.sleep(0.4)
        await trio.sleep_until(began + seconds)

    @property
    def errors(self) -> list[str]:
        return [str(message["message"]) for message in self.heard if message["type"] == "error"]

    def chats(self, stage: Stage) -> list[Session]:
        """The chats of this call. One that broke before it was ready may not have been told its prompt."""
        return [
            session
            for session in stage.emulator.sessions
            if session.prompt == self.uuid or session.connection == self.connection
        ]

    def lost(self, stage: Stage) -> int:
        """Bytes of the caller that no chat got; what they got must be in order.

        Only a turn that was not understood when its session broke is said again.
        """
        chats = [session.caller_audio for session in self.chats(stage)]
        said, received = stage.as_heard(self.said), b"".join(chats)
        assert said.startswith(chats[0]), "not in order"
        assert said.endswith(chats[-1]), "not in order"
        again = len(received) - len(said)
        assert again <= 0 or self.moment == "user speaking", "something came twice"
        return max(-again, 0)

    def outcome(self, stage: Stage) -> str:
        match (self.code, len(self.chats(stage)), bool(self.errors)):
            case (None, 1, _):
                return GOES_ON
            case (None, 2, False):
                return RESUMED
            case (1011, _, True):
                return FAILED
            case (1000, 1, False):
                return GOOD_BYE
            case odd:
                return f"odd: {odd} {self.errors}"


def not_understood(stage: Stage) -> float:
    """How many messages of the provider have been counted as such, of all kinds."""
    text = stage.metrics.scrape()[0].decode()
    counts = re.findall(r"^sts_provider_not_understood_total\{.*\} (\S+)$", text, re.MULTILINE)
    return sum(map(float, counts))


@pytest.mark.parametrize(("provider", "name", "fault"), [as_parameters(row) for row in MATRIX])
async def test_a_fault_at_every_moment(
    provider: str,
    name: str,
    fault: tuple[type[Fault], dict[str, Any], str],
    autojump_clock: trio.testing.MockClock,
) -> None:
    kind, arguments, expected = fault
    faults: list[Any] = []
    for number, (moment, when) in enumerate(MOMENTS.items()):
        faults.append(kind(connections=number, **when, **arguments))
        if moment == "before ready":
            faults.append(LateMetadata(connections=number) if expected is GOES_ON else NoMetadata(connections=number))
    options = EmulatorOptions(service=provider, api_keys=frozenset({KEY}), seed=1, faults=tuple(faults), inactivity=600)
    transfer = Bench("dsai_transfer", seconds=3.0)
    seconds = SECONDS + (22 if name == "half-open" else 0)
    # Each call's prompt is its name.
    own: dict[str, Any] = {"allow_call_overrides": True, "welcome_message": ""}
    async with open_stage(provider=provider, emulator=options, tools=(transfer.tool,), **own) as stage:
        tasks = trio.lowlevel.current_statistics().tasks_living
        lines = []
        for number, moment in enumerate((*MOMENTS, "beside")):
            uuid = str(uuid4())
            lines.append(Line(await stage.call(f"/?instructions={uuid}", uuid=uuid), uuid, moment, number))
            while stage.emulator.connections <= number:
                await trio.sleep(0.001)
        async with trio.open_nursery() as nursery:
            for line in lines:
                nursery.start_soon(line.live, seconds)
        found = {line.moment: line.outcome(stage) for line in lines}
        print(f"{provider} {name:20}" + "".join(f"| {moment}: {outcome} " for moment, outcome in found.items()))
        wanted = dict.fromkeys((*MOMENTS, "beside"), expected) | {"beside": GOES_ON}
        if expected not in (GOES_ON, RESUMED) or (provider != "humeai" and name in OF_HUME):
            wanted["before ready"] = FAILED
        wanted |= {moment: GOES_ON for error, moment in SPEAKS_ON if error == name}
        wanted |= {moment: FAILED for row, moment in MUTE if row == name}
        if name == "garbage only":
            wanted["before ready"] = found["before ready"]  # it has until `READY_SECONDS`, longer than this test
        assert found == wanted
        assert all(error.isprintable() for line in lines for error in line.errors)
        if name in COUNTED:
            assert not_understood(stage) >= len(MOMENTS)
        for line in lines:
            if found[line.moment] in (RESUMED, GOES_ON) and name not in ("half-open", "slow reader", "garbage only"):
                lost = line.lost(stage)
                # What was on the wire when the chat broke in the middle of a message has no way back. Both moments come
                # in one: the agent answers as soon as he has heard the caller's silence, within a message.
                assert lost == 0 or (lost < len(FRAME) and line.moment in ("user speaking", "agent speaking")), (
                    f"{line.moment}: {lost} bytes"
                )
        beside = lines[-1]
        assert beside.lost(stage) == 0
        assert beside.errors == []
        assert {"audio", "transcript"} <= {str(message["type"]) for message in beside.heard}
        for line in lines:
            if line.code is None:
                await line.caller.socket.aclose()
        await trio.sleep(4)
        await trio.testing.wait_all_tasks_blocked()
        assert (stage.registry.live, stage.emulator.live) == (0, ())
        assert trio.lowlevel.current_statistics().tasks_living <= tasks, "tasks are left"


REFUSALS: dict[str, tuple[Any, ...]] = {
    **{f"HTTP {status}": (Refuse(status=status, connections=[0, 1]),) for status in (429, 502, 503)},
    "reset": (Drop(connections=[0, 1]),),
    "end of stream": (Drop(reset=False, connections=[0, 1]),),
    "one of each": (Refuse(status=429, connections=0), Drop(connections=1), Refuse(status=503, connections=2)),
}


@ALL
@pytest.mark.parametrize("name", REFUSALS)
async def test_a_first_session_that_is_refused_for_now_is_asked_for_again(
    provider: str, name: str, autojump_clock: trio.testing.MockClock
) -> None:
    options = EmulatorOptions(
        service=provider, api_keys=frozenset({KEY}), seed=1, faults=REFUSALS[name], inactivity=600
    )
    async with open_stage(provider=provider, emulator=options) as stage:
        caller = await stage.call()
        with trio.fail_after(9):  # READY_SECONDS
            await caller.hear_until("audio")
        await caller.speak(tone(0.2, level=0.001))
        await trio.testing.wait_all_tasks_blocked()
        assert stage.emulator.refused >= 2
        assert len(stage.emulator.live) == 1
        assert caller.socket.closed is None


def test_the_matrix_is_as_large_as_promised() -> None:
    assert len(MATRIX) * len(MOMENTS) > 250
