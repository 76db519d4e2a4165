"""What a fault is, and each of those that come in a chat: they are steps, with a time. Pure.

A fault says which connections it befalls (`connections`, `chance`); a step also says when, `after` seconds after a
moment (`at`), the first one or the `nth`. `faults` has the others, and chooses. `conversation` acts on them.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from sts_trio.lab.emulator.malformed import JunkKind  # noqa: TC001  # msgspec reads it

# `accepted`: the upgrade was answered. `ready`: `chat_metadata` has been sent. `user_speaking`: 30 ms into one.
# `turn_over`: the caller has spoken, and the client been told. `agent_speaking`: the first audio of a segment has been
# sent. `tool_call`: one has been sent.
Moment = Literal["accepted", "ready", "user_speaking", "turn_over", "agent_speaking", "tool_call"]
Number = Annotated[int, Meta(ge=0)]
# Connections count from 0, as in the emulator's log. No `Meta(pattern=…)`: it may crash msgspec 0.22 at exit (its
# issue 717); `Fault` looks itself.
Which = Number | list[Number] | str
FIRST = re.compile(r"first ([1-9]\d{0,8})")
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Wait = Annotated[float, Meta(ge=0, le=60)]  # for what waits in memory meanwhile
CloseCode = Annotated[int, Meta(ge=1000, le=4999)]
NOT_SENT = {1004, 1006, 1015}  # no close frame has these (RFC 6455, 7.4.1)
MOST_REASON = 123  # bytes of a control frame without the code (RFC 6455, 5.5)


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
    """Send one whole frame that breaks the protocol, in the way of `kind` (docs/internals/faults.md has them all)."""

    after: Seconds = 0.0
    kind: JunkKind = "json"


class Flood(Step, frozen=True, tag="flood"):
    """Send `count` frames as fast as they go.

    `fragments`, `empty_fragments`: of 1 byte, of none; `each` of them are one message of a type that nobody knows.
    `pongs`, `pings`: empty ones, that nobody asked for.
    """

    after: Seconds = 0.0
    kind: Literal["fragments", "empty_fragments", "pongs", "pings"] = "fragments"
    count: Annotated[int, Meta(ge=1, le=10_000_000)] = 10_000
    each: Annotated[int, Meta(ge=2, le=1_000_000)] = 500


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
        """Check code and reason, too."""
        super().__post_init__()
        _check_close(self.code)
        if len(self.reason.encode("utf-8", "replace")) > MOST_REASON:
            raise ValueError(f"a close frame has no room for a reason of more than {MOST_REASON} bytes")


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


class GarbageOnly(Step, frozen=True, tag="garbage_only"):
    """Say nothing else than junk of `kind`: in place of each message, and once more each `every` seconds."""

    after: Seconds = 0.0
    kind: JunkKind = "json"
    every: Annotated[float, Meta(ge=0.01, le=60)] = 0.5


class SameIds(Step, frozen=True, tag="same_ids"):
    """Give all replies one id, also those after an interruption."""

    after: Seconds = 0.0


class OddArguments(Step, frozen=True, tag="odd_arguments"):
    """Write the arguments of tool calls as JSON inside a JSON text, or in a code fence of Markdown."""

    after: Seconds = 0.0
    form: Literal["nested", "fence"] = "nested"


class NoEnds(Step, frozen=True, tag="no_ends"):
    """Send no `assistant_end` any more (EVI)."""

    after: Seconds = 0.0


def _check_close(code: int | None) -> None:
    if code in NOT_SENT:
        raise ValueError(f"no close frame has the code {code}: say cut or reset")
