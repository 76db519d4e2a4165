"""What the emulator can be made to do wrong, and which of it befalls a connection. Pure.

Each fault says which connections it befalls (`connections`, `chance`). Most are steps: they also say when, `after`
seconds after a moment (`at`), the first one or the `nth`. Tests build them here; `options.parse_faults` reads the same
from a file, where `fault` is the tag. Numbers out of range are found there; here only the close code is checked.
`server` and `conversation` act on them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

if TYPE_CHECKING:
    from collections.abc import Sequence

# `accepted`: the upgrade was answered. `ready`: `chat_metadata` has been sent. `user_speaking`: 30 ms into one.
# `agent_speaking`: the first audio of a segment has been sent. `tool_call`: one has been sent.
Moment = Literal["accepted", "ready", "user_speaking", "agent_speaking", "tool_call"]
Number = Annotated[int, Meta(ge=0)]
# Connections count from 0, as in the emulator's log. No `Meta(pattern=…)`: it may crash msgspec 0.22 at exit (its
# issue 717); `Fault` looks itself.
Which = Number | list[Number] | str
FIRST = re.compile(r"first ([1-9]\d{0,8})")
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Wait = Annotated[float, Meta(ge=0, le=60)]  # for what waits in memory meanwhile
CloseCode = Annotated[int, Meta(ge=1000, le=4999)]
NOT_SENT = {1004, 1006, 1015}  # no close frame has these (RFC 6455, 7.4.1)


class Fault(msgspec.Struct, frozen=True, kw_only=True, tag_field="fault", forbid_unknown_fields=True):
    """`connections`: a number, a list of them, "first 3" or "every"; there, it comes with this `chance` of 0 to 1."""

    connections: Which = "every"
    chance: Annotated[float, Meta(ge=0, le=1)] = 1.0

    def __post_init__(self) -> None:
        """Check which connections."""
        if isinstance(self.connections, str) and self.connections != "every" and not FIRST.fullmatch(self.connections):
            raise ValueError('connections: say a number, a list of them, "first 3" or "every"')

    @property
    def name(self) -> str:
        """The name that files and logs have for this kind of fault."""
        return str(self.__struct_config__.tag)

    def befalls(self, connection: int) -> bool:
        """Whether it is meant for this connection."""
        match self.connections:
            case int(number):
                return connection == number
            case str(words):
                return words == "every" or connection < int(words.split()[1])
            case numbers:
                return connection in numbers


class Step(Fault, frozen=True, kw_only=True):
    """A fault with a time: `after` seconds after the `nth` moment `at`, once."""

    at: Moment = "accepted"
    nth: Annotated[int, Meta(ge=1)] = 1


# --- instead of a chat ---


@dataclass(frozen=True, slots=True)
class Accept:
    """Answer the upgrade as EVI does."""


class Drop(Fault, frozen=True, tag="drop"):
    """Close the TCP connection as soon as it is there; with a RST, or in order."""

    reset: bool = True


class Refuse(Fault, frozen=True, tag="status"):
    """Answer the upgrade with this HTTP status, body and further headers."""

    status: Annotated[int, Meta(ge=200, le=599)] = 503
    body: str = '{"message":"refused by the emulator\'s script"}'
    headers: dict[str, str] = {}


class Mute(Fault, frozen=True, tag="mute"):
    """Accept the TCP connection, read, and never say anything."""


# --- on the way to a chat ---


class SlowHandshake(Fault, frozen=True, tag="slow_handshake"):
    """Answer the upgrade, whatever the answer is, `seconds` late."""

    seconds: Seconds = 1.0


class NoMetadata(Fault, frozen=True, tag="no_metadata"):
    """Send neither `chat_metadata` nor the settings echo; all else is as ever. The moment `ready` never comes."""


# --- said in a chat ---


class SendRaw(Step, frozen=True, tag="text"):
    """Send this in one text frame."""

    after: Seconds = 0.0
    data: str = ""


class SendBinary(Step, frozen=True, tag="binary"):
    """Send this in one binary frame. In a file the bytes are in base64."""

    after: Seconds = 0.0
    data: bytes = b""


class SendGarbage(Step, frozen=True, tag="bytes"):
    """Put these bytes on the wire, outside of any frame. In a file they are in base64."""

    after: Seconds = 0.0
    data: bytes = b"\xff" * 64


class SendJunk(Step, frozen=True, tag="junk"):
    """Send one whole frame that breaks EVI's protocol, in the way of `kind`.

    `json`: cut off. `no_object`: JSON, but a list. `no_type`, `unknown_type`: a message of none, of a new one.
    `field`: one of a wrong type. `base64`, `wav`: `audio_output` with broken base64, or with something other than WAV.
    `utf8`: a text frame that is not UTF-8.
    """

    after: Seconds = 0.0
    kind: Literal["json", "no_object", "no_type", "unknown_type", "field", "base64", "wav", "utf8"] = "json"


class SendError(Step, frozen=True, tag="error"):
    """Send an `error` message, and go on; or, with a `close` code, close then."""

    after: Seconds = 0.0
    code: str = "I0100"
    slug: str = "scripted"
    message: str = "An error that the emulator's script asked for."
    close: CloseCode | None = None

    def __post_init__(self) -> None:
        """Check the code, too."""
        super().__post_init__()
        _check_close(self.close)


# --- ends of a chat ---


class CloseWith(Step, frozen=True, tag="close"):
    """Close in an orderly way, with this code; 1005 is a close frame without one."""

    after: Seconds = 0.0
    code: CloseCode = 1000
    reason: Annotated[str, Meta(max_length=120)] = ""

    def __post_init__(self) -> None:
        """Check the code, too."""
        super().__post_init__()
        _check_close(self.code)


class Cut(Step, frozen=True, tag="cut"):
    """Close the TCP connection in order, without a close frame."""

    after: Seconds = 0.0


class Reset(Step, frozen=True, tag="reset"):
    """Drop the connection: TCP RST, no close frame. A stream in memory just ends."""

    after: Seconds = 0.0


class ResetInFrame(Step, frozen=True, tag="reset_in_frame"):
    """Send half of an `audio_output`'s frame, then reset."""

    after: Seconds = 0.0


# --- from some time on ---


class HalfOpen(Step, frozen=True, tag="half_open"):
    """Read nothing, send nothing, answer no ping; the connection stays. For `seconds`, or until the client leaves.

    Without `seconds` it still thaws after the longest time that a chat may last.
    """

    after: Seconds = 0.0
    seconds: Seconds | None = None


class SlowReader(Step, frozen=True, tag="slow_reader"):
    """Read no faster than this."""

    after: Seconds = 0.0
    bytes_per_second: Annotated[int, Meta(ge=1)] = 1000


class Delay(Step, frozen=True, tag="delay"):
    """Send each message `seconds` late, and up to `jitter` seconds more, at random; their order stays."""

    after: Seconds = 0.0
    seconds: Wait = 0.0
    jitter: Wait = 0.0


class LateChunks(Step, frozen=True, tag="late_chunks"):
    """Of each reply `count` chunks come too late, `by` seconds: after its `assistant_end`, or after its interruption.

    Those after an end are the reply's last ones; those after an interruption would have been its next ones.
    """

    after: Seconds = 0.0
    count: Annotated[int, Meta(ge=1, le=100)] = 2
    by: Wait = 0.0


class SwappedChunks(Step, frozen=True, tag="swapped_chunks"):
    """Send the chunks of each reply in the order 1, 0, 3, 2 …, each with its own index."""

    after: Seconds = 0.0


class DoubledChunks(Step, frozen=True, tag="doubled_chunks"):
    """Send each chunk of a reply twice."""

    after: Seconds = 0.0


Handshake = Drop | Refuse | Mute
Said = SendRaw | SendBinary | SendGarbage | SendJunk
End = CloseWith | Cut | Reset | ResetInFrame
Disorder = LateChunks | SwappedChunks | DoubledChunks
AnyStep = Said | SendError | End | HalfOpen | SlowReader | Delay | Disorder
AnyFault = Handshake | SlowHandshake | NoMetadata | AnyStep


@dataclass(frozen=True, slots=True)
class Script:
    """What happens on one connection; the default is a faithful EVI.

    `metadata`: whether `chat_metadata` and the settings echo are sent at all. `steps` run beside the conversation,
    in the order of their times. `delay`: seconds until the upgrade is answered.
    """

    handshake: Accept | Handshake = Accept()
    metadata: bool = True
    steps: tuple[AnyStep, ...] = ()
    delay: float = 0.0


class Outage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nobody listens, so that TCP connections are refused: from `after` seconds after the start on, for `seconds`."""

    after: Seconds = 0.0
    seconds: Seconds = 10.0


def faithful(_connection: int) -> Script:
    """Nothing wrong, on any connection."""
    return Script()


def _check_close(code: int | None) -> None:
    if code in NOT_SENT:
        raise ValueError(f"no close frame has the code {code}: say cut or reset")


def faults_for(script: Script, faults: Sequence[AnyFault], connection: int, seed: int) -> Script:
    """Return what happens to a connection: its script and those of `faults` that befall it.

    The same seed gives the same result, whatever other connections did. Of several answers to the upgrade the first
    counts, of several delays the longest.
    """
    handshake: Accept | Handshake = script.handshake
    if isinstance(handshake, Fault) and not _comes(handshake, connection, seed, 0):
        handshake = Accept()
    metadata, delay = script.metadata, script.delay
    steps: list[AnyStep] = []
    for place, fault in enumerate((*script.steps, *faults), 1):
        if not _comes(fault, connection, seed, place):
            continue
        match fault:
            case Drop() | Refuse() | Mute():
                handshake = fault if isinstance(handshake, Accept) else handshake
            case SlowHandshake(seconds=seconds):
                delay = max(delay, seconds)
            case NoMetadata():
                metadata = False
            case step:
                steps.append(step)
    return Script(handshake, metadata, tuple(steps), delay)


def _comes(fault: Fault, connection: int, seed: int, place: int) -> bool:
    if not fault.befalls(connection):
        return False
    return fault.chance >= 1 or bool(np.random.default_rng((seed, connection, place)).random() < fault.chance)
