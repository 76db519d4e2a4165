"""What the processes of a load tell each other: JSON, a message a line. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from sts_trio.lab.harness.load.histogram import Histogram  # noqa: TC001  msgspec reads it
from sts_trio.lab.harness.load.profile import PROFILES, Profile

Provider: TypeAlias = Literal["humeai", "openai", "xai"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `mark` is in every stamp, so that nothing of another run is taken for this one's.

    `ramp`: calls begun a second; `settle`: seconds between the last call's beginning and the first measurement;
    `seconds`: how long is measured. `provider`: whose protocol the agents
    speak; `rate`: Hz of EVI's voice. `host` and `port`: where the agents listen;
    `tls`: a file with key and certificate, or empty.
    """

    url: str
    calls: int
    seconds: float
    ramp: float
    settle: float
    profile: str
    mark: int
    provider: Provider
    rate: int
    host: str
    port: int
    tls: str
    board: str

    @property
    def conversation(self) -> Profile:
        """The profile itself."""
        return PROFILES[self.profile]

    @property
    def board_path(self) -> Path:
        """Where the board is."""
        return Path(self.board)


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
    """All that the agents know."""

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
    """All that the callers know. `failures` counts causes; `holes` are frames that came after their time."""

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
