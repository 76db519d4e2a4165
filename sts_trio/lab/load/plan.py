"""One run of a load: conversation profiles, the plan, and the reports of its processes (JSON lines). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from sts_trio.lab.load.histogram import Histogram  # noqa: TC001  msgspec reads it
from sts_trio.lab.load.stamps.down import CHUNK_SECONDS
from sts_trio.lab.providers import LabProvider, find_provider

if TYPE_CHECKING:
    from collections.abc import Mapping


class Step(Enum):
    """What an agent does at a moment of a turn."""

    WORDS = "words"
    CHUNK = "chunk"
    END = "end"
    CUT = "cut"
    CUT_OVER = "cut over"  # what was still under way of the interrupted turn has been sent
    USER = "user"


@dataclass(frozen=True, slots=True)
class Profile:
    """A conversation that repeats itself. Times in seconds.

    `caller`: whether caller audio flows, 50 frames a second, as from any telephone. The agent speaks for `speaks` in
    every `cycle`, and generates at most `ahead` of real time; every `cut_every`th turn is interrupted after `cut_at`.
    """

    caller: bool = True
    speaks: float = 0.0
    cycle: float = 1.0
    ahead: float = CHUNK_SECONDS
    cut_every: int = 0
    cut_at: float = 0.0

    def turn(self, number: int) -> list[tuple[float, Step]]:
        """What the agent does in turn `number` (from 0), in order, with the time since its beginning."""
        if not self.speaks:
            return []
        chunks = round(self.speaks / CHUNK_SECONDS)
        lead = round(self.ahead / CHUNK_SECONDS)
        spoken = [(max(0, chunk - lead) * CHUNK_SECONDS, Step.CHUNK) for chunk in range(chunks)]
        if self.cut_every and number % self.cut_every == self.cut_every - 1:
            # Audio of an interrupted reply may still come (docs/protocols/evi.md 4.4); one late chunk stands for it.
            before = [(at, step) for at, step in spoken if at < self.cut_at]
            said = [*before, *((self.cut_at, step) for step in (Step.CUT, Step.CHUNK, Step.CUT_OVER))]
        else:
            said = [*spoken, (spoken[-1][0], Step.END)]
        return [(0.0, Step.WORDS), *said, ((self.speaks + self.cycle) / 2, Step.USER)]


PROFILES: Mapping[str, Profile] = {
    "talk": Profile(speaks=2.0, cycle=4.0),
    "listen": Profile(speaks=9.0, cycle=10.0),
    "chatty": Profile(speaks=1.0, cycle=2.0, ahead=1.0, cut_every=2, cut_at=0.5),
    "silent": Profile(caller=False),
}
"""`talk`: each half of the time. `listen`: the agent nearly always. `chatty`: short turns, every other one interrupted,
generated at once. `silent`: the call is open, and neither side sends audio."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `mark` is in every stamp, so that nothing of another run is taken for this one's.

    `ramp`: calls begun a second; `settle`: seconds between the last call's beginning and the first measurement;
    `seconds`: how long is measured. `provider`: whose protocol the agents speak; `rate`: Hz of EVI's voice. `host` and
    `port`: where the agents listen; `tls`: a file with key and certificate, or empty. `times`: file of `SharedTimes`.
    """

    url: str
    calls: int
    seconds: float
    ramp: float
    settle: float
    profile: str
    mark: int
    provider: str
    rate: int
    host: str
    port: int
    tls: str
    times: str

    def __post_init__(self) -> None:
        """Refuse a provider that cannot be played."""
        find_provider(self.provider)

    @property
    def played(self) -> LabProvider:
        """Whose protocol the agents speak."""
        return find_provider(self.provider)

    @property
    def conversation(self) -> Profile:
        """The profile that `profile` names."""
        return PROFILES[self.profile]

    @property
    def times_path(self) -> Path:
        """Where the shared times are mapped from."""
        return Path(self.times)


class Ready(msgspec.Struct, tag=True):
    """The agents listen; `port` is where."""

    port: int


class Trouble(msgspec.Struct, tag=True):
    """The process cannot do its part, in one line for a person."""

    message: str


class Glance(msgspec.Struct, tag=True):
    """How things stand: what a live table shows. Times in seconds, None where there are none yet."""

    calls: int = 0
    failed: int = 0
    lost: int = 0
    stale: int = 0
    received: int = 0
    p50: float | None = None
    p99: float | None = None
    largest: float | None = None


class Measuring(msgspec.Struct, tag=True):
    """The callers say that all calls have been placed and what is measured begins (`on`), or has ended."""

    on: bool


class UpCall(msgspec.Struct, array_like=True):
    """One chat's caller frames: the number of the first, how many (each once), and what was wrong with them.

    `lost`: missing between the first and the last.
    """

    call: int
    first: int
    received: int
    lost: int
    doubled: int
    reordered: int
    damaged: int


class AgentsDone(msgspec.Struct, tag=True):
    """What the agents measured."""

    latency: Histogram
    jitter: Histogram
    calls: list[UpCall]


class DownCall(msgspec.Struct, array_like=True):
    """One call as its caller saw it. `over`: it ended before its time. `missed`: interruptions that never came."""

    call: int
    sent: int
    received: int
    lost: int
    doubled: int
    reordered: int
    damaged: int
    stale: int
    missed: int
    over: bool


class CallersDone(msgspec.Struct, tag=True):
    """What the callers measured. `failures` counts causes; `holes` are frames that came after their time."""

    setup: Histogram
    first: Histogram
    late_audio: Histogram
    stop: Histogram
    late: Histogram
    holes: int
    calls: list[DownCall]
    failures: dict[str, int]


FromChild: TypeAlias = Ready | Trouble | Glance | Measuring | AgentsDone | CallersDone

encode = msgspec.json.Encoder().encode
decode_plan = msgspec.json.Decoder(Plan).decode
decode_from_child = msgspec.json.Decoder(FromChild).decode
