"""A call and a load to make pages of; the call is full of what a stranger would like to be more than text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sts_trio.lab.harness import wire
from sts_trio.lab.harness.measures import measure
from sts_trio.lab.harness.recording import Arrival, Cut, Recording, Utterance
from sts_trio.lab.harness.report import AgentBegins, CallReport, Event
from sts_trio.lab.harness.script import Press, Unmet
from sts_trio.lab.load.curves import Curves
from sts_trio.lab.load.plan import Glance, Plan
from sts_trio.lab.load.results import Results, Spread
from sts_trio.lab.load.run import Now
from tests.lab.harness.harness_parrot import silence, voice

if TYPE_CHECKING:
    from sts_trio.lab.harness.report import Ending

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}"
SAID = Utterance(2.0, voice(1.0, seed=1), EVIL)
EVENTS = (
    Event(0.1, AgentBegins()),
    Event(0.5, wire.Transcript("agent", EVIL)),
    Event(2.0, SAID),
    Event(3.5, wire.Transcript("user", f"I said {EVIL}", {EVIL: 0.9})),
    Event(4.0, wire.Interruption()),
    Event(4.1, wire.Error(EVIL)),
    Event(4.2, wire.Unknown(EVIL)),
    Event(4.3, Press("0")),
    Event(4.4, Unmet("WaitForAgent")),
    Event(4.5, wire.Audio(b"\0\0")),
)


def report(
    ended: Ending = "script", events: tuple[Event, ...] = EVENTS, recording: Recording | None = None
) -> CallReport:
    if recording is None:
        recording = Recording(
            caller=silence(2.0) + SAID.pcm + silence(3.0),
            agent=silence(0.1) + voice(1.0, seed=2) + silence(2.4) + voice(0.5, seed=3) + silence(2.0),
            utterances=(SAID,),
            arrivals=(Arrival(0.1, 16000), Arrival(3.5, 8000)),
            cuts=(Cut(4.0, 100, 2),),
        )
    return CallReport(
        uuid=EVIL,
        setup=0.01,
        duration=6.0,
        ended=ended,
        close_code=1000,
        close_reason=EVIL,
        events=events,
        recording=recording,
        measures=measure(recording),
        frames_sent=300,
        frames_late=0,
        bytes_received=24000,
        unmet=(),
    )


PLAN = Plan(
    url="ws://127.0.0.1:1",
    calls=2,
    seconds=4,
    ramp=1,
    settle=1,
    profile="talk",
    mark=1,
    provider="openai",
    rate=48_000,
    host="127.0.0.1",
    port=1,
    tls="",
    times="",
)


def results(**changes: Any) -> Results:
    some = Spread(100, 1.0, 2.0, 3.0, 4.0)
    numbers: dict[str, Any] = dict.fromkeys(
        (each for each in Results.__struct_fields__ if each.startswith(("up_", "down_"))), 0
    ) | dict.fromkeys(("stale", "missed_stops", "holes", "failed"), 0)
    spreads = dict.fromkeys(("setup", "up", "up_jitter", "first_audio", "late_audio", "stop", "late"), some)
    other = {
        "url": "ws://127.0.0.1:1",
        "profile": "talk",
        "calls": 2,
        "seconds": 4.0,
        "failures": {},
        "cpu": 10.0,
        "cpu_per_call": 5.0,
        "memory_idle": 50_000.0,
        "memory_per_call": 120.0,
        "callers": 10.0,
        "agents": 10.0,
        "warnings": (),
    }
    return Results(**(numbers | spreads | other | changes))


def look(at: float, p99: float | None = 0.002, server: float | None = 100.0) -> Now:
    glance = Glance(calls=2, p50=None if p99 is None else 0.001, p99=p99)
    return Now(PLAN, at, measuring=2 <= at - 10 <= 6, up=glance, down=Glance(calls=2), server=server, load=50.0)


def curves(count: int = 9) -> Curves:
    made = Curves()
    for second in range(count):
        made.add(look(10.0 + second, p99=None if second < 2 else 0.002 * second, server=None if second < 1 else 100.0))
    return made
