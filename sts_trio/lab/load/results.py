"""What a run comes to: the figures that are shown, written as JSON and held against limits. Pure."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sts_trio.lab.load.histogram import Histogram
    from sts_trio.lab.load.plan import AgentsDone, CallersDone, DownCall, Plan, UpCall

BUSY = 0.8  # of a core: CPU share of one of our processes above which it measures its own queueing
_FULL = 0.93  # of several cores: what is left is the kernel's
_OTHERS = 0.25  # of a core; the kernel's own share for so many sockets is in there
LATE_MS = 5.0  # p99 of how late the generator acts


class Spread(msgspec.Struct, frozen=True):
    """A distribution of times in milliseconds."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Times in ms, CPU in thousandths of a core, memory in KB; None: not measured, or there was none of it.

    `up`: from the caller's send to the agent's receipt of the same frame. `up_jitter`: how far the time between two
    frames was from 20 ms. `first_audio`: from the agent's write of a turn's first chunk to its beginning at the caller.
    `late_audio`: how far behind real time the rest of a turn came. `stop`: from the agent's `user_interruption` to the
    caller's `interruption`. `stale`: frames of an interrupted turn after that. `holes`: frames that came too late to
    follow on. `missed_stops`: interruptions that the caller never heard of. `setup`: until a call's WebSocket was open.
    `callers`, `agents`: CPU of our own processes; `late`: how far behind their time the callers acted.
    """

    url: str
    profile: str
    calls: int
    seconds: float
    failed: int
    failures: Mapping[str, int]
    setup: Spread | None
    up: Spread | None
    up_jitter: Spread | None
    up_frames: int
    up_lost: int
    up_doubled: int
    up_reordered: int
    up_damaged: int
    first_audio: Spread | None
    late_audio: Spread | None
    holes: int
    down_frames: int
    down_lost: int
    down_doubled: int
    down_reordered: int
    down_damaged: int
    stop: Spread | None
    stale: int
    missed_stops: int
    cpu: float | None
    cpu_per_call: float | None
    memory_idle: float | None
    memory_per_call: float | None
    callers: float
    agents: float
    late: Spread | None
    warnings: tuple[str, ...]

    @property
    def lost(self) -> int:
        """Frames lost, both ways."""
        return self.up_lost + self.down_lost


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """CPU in seconds over the measured time, memory in bytes; None where the server could not be looked at.

    `machine_cpu` is that of all programs. `cores` are those that the load may use, `machine` all there are.
    """

    seconds: float
    server_cpu: float | None
    memory_before: int | None
    memory_after: int | None
    callers_cpu: float
    agents_cpu: float
    machine_cpu: float
    cores: int
    machine: int


def spread(histogram: Histogram) -> Spread | None:
    """Sum up a histogram, which is in seconds."""
    if not histogram.total:
        return None
    p50, p95, p99 = (round((histogram.quantile(share) or 0.0) * 1000, 3) for share in (0.5, 0.95, 0.99))
    return Spread(histogram.total, p50, p95, p99, round(histogram.largest * 1000, 3))


def results_of(plan: Plan, agents: AgentsDone, callers: CallersDone, used: Measured) -> Results:
    """Put together what the processes measured."""
    up = _by_call(agents.calls)
    mute: dict[str, int] = {}
    for call in callers.calls:
        if not call.over:
            if call.sent and call.call not in up:
                mute["no caller audio reached the agent"] = mute.get("no caller audio reached the agent", 0) + 1
            elif plan.conversation.speaks and plan.seconds > plan.conversation.cycle and not call.received:
                mute["no agent audio reached the caller"] = mute.get("no agent audio reached the caller", 0) + 1
    failures = {**callers.failures, **mute}
    down = callers.calls
    grown = None
    if used.memory_before is not None and used.memory_after is not None:
        grown = (used.memory_after - used.memory_before) / plan.calls / 1024
    cpu = None if used.server_cpu is None else used.server_cpu / used.seconds * 1000
    late_spread = spread(callers.late)
    callers_share, agents_share = used.callers_cpu / used.seconds, used.agents_cpu / used.seconds
    return Results(
        url=plan.url.split("?")[0],
        profile=plan.profile,
        calls=plan.calls,
        seconds=plan.seconds,
        failed=sum(failures.values()),
        failures=failures,
        setup=spread(callers.setup),
        up=spread(agents.latency),
        up_jitter=spread(agents.jitter),
        up_frames=sum(call.received for call in agents.calls),
        up_lost=sum(_lost_up(call, up.get(call.call)) for call in down),
        up_doubled=sum(call.doubled for call in agents.calls),
        up_reordered=sum(call.reordered for call in agents.calls),
        up_damaged=sum(call.damaged for call in agents.calls),
        first_audio=spread(callers.first),
        late_audio=spread(callers.late_audio),
        holes=callers.holes,
        down_frames=sum(call.received for call in down),
        down_lost=sum(call.lost for call in down),
        down_doubled=sum(call.doubled for call in down),
        down_reordered=sum(call.reordered for call in down),
        down_damaged=sum(call.damaged for call in down),
        stop=spread(callers.stop),
        stale=sum(call.stale for call in down),
        missed_stops=sum(max(call.missed, 0) for call in down if not call.over),
        cpu=_rounded(cpu),
        cpu_per_call=None if cpu is None else _rounded(cpu / plan.calls),
        memory_idle=None if used.memory_before is None else _rounded(used.memory_before / 1024),
        memory_per_call=_rounded(grown),
        callers=round(callers_share * 1000, 1),
        agents=round(agents_share * 1000, 1),
        late=late_spread,
        warnings=(*_strangers(plan, agents), *_warnings(callers_share, agents_share, late_spread, used)),
    )


def _strangers(plan: Plan, agents: AgentsDone) -> tuple[str, ...]:
    if agents.calls or not plan.conversation.caller:
        return ()
    place = f"{plan.host}:{plan.port}"
    return (f"nobody's audio has reached the agents on {place}: was the server started with their address?",)


def _by_call(calls: Sequence[UpCall]) -> dict[int, list[UpCall]]:
    found: dict[int, list[UpCall]] = {}
    for call in calls:
        found.setdefault(call.call, []).append(call)
    return found


def _lost_up(caller: DownCall, chats: list[UpCall] | None) -> int:
    """What was sent from the first frame that arrived on, and did not arrive.

    Of a call that broke, only what is missing in between: its end is lost in any case.
    """
    if chats is None:
        return 0
    if caller.over:
        return sum(chat.lost for chat in chats)
    return max(caller.sent - min(chat.first for chat in chats) - sum(chat.received for chat in chats), 0)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _warnings(callers: float, agents: float, late: Spread | None, used: Measured) -> tuple[str, ...]:
    said = []
    for name, share in (("callers", callers), ("agents", agents)):
        if share > BUSY:
            said.append(f"the load's own {name} use {share:.0%} of a core: figures are of them, not of the server")
    if late is not None and late.p99 > LATE_MS:
        said.append(f"the load itself acts {late.p99:.1f} ms late (p99): this machine has too little room for it")
    if used.server_cpu is None:
        said.append("the server's process was not found, so CPU and memory are missing; name it with --pid")
    elif used.server_cpu / used.seconds + callers + agents > _FULL * used.machine:
        said.append("this machine has no CPU left: server and load are in each other's way")
    if used.server_cpu is not None:
        others = (used.machine_cpu - used.server_cpu - used.callers_cpu - used.agents_cpu) / used.seconds
        if others > _OTHERS:
            said.append(f"other programs used {others:.0%} of a core meanwhile: figures are of them, too")
    if callers + agents > _FULL * used.cores:
        said.append(f"the load itself needs all it may have of the machine ({used.cores} cores)")
    return tuple(said)


_WRONG = {"failed", "holes", "stale", "missed_stops"} | {
    f"{way}_{what}" for way in ("up", "down") for what in ("lost", "doubled", "reordered", "damaged")
}


def medians_of(runs: Sequence[Results]) -> dict[str, float]:
    """The medians of every figure that is a number, by name, such as ``up.p99`` and ``cpu_per_call``.

    Of counts of what went wrong it is the most: a median would hide the run in which it did.
    """
    listed: dict[str, list[float]] = {}
    for run in runs:
        for name, value in _numbers(msgspec.to_builtins(run)):
            listed.setdefault(name, []).append(value)
    return {name: max(values) if name in _WRONG else median(values) for name, values in listed.items()}


def _numbers(values: Mapping[str, object], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, dict) and name != "failures":
            found += _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            found.append((prefix + name, float(value)))
    return found
