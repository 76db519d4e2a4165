"""How an emulator behaves, and the part of it that a file of faults (docs/internals/faults.md) can say. Pure.

The defaults are EVI's own, where they are known.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

import msgspec

from sts_trio.lab.emulator.evi.malformed import MALFORMED as EVI
from sts_trio.lab.emulator.faults import AnyFault, Outage, Script, faithful
from sts_trio.lab.emulator.realtime.malformed import MALFORMED as REALTIME
from sts_trio.lab.emulator.realtime.steps import RealtimeStep
from sts_trio.lab.emulator.steps import Fault, GarbageOnly, NoEnds, Number, SendJunk
from sts_trio.lab.providers import PROVIDERS, WireProtocol, find_provider

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sts_trio.lab.providers import LabProvider


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """Settings of an emulator, read by every chat.

    Raises:
        ValueError: on making one, when the service is unknown or a number makes no sense.
    """

    service: str = PROVIDERS[0]  # whose protocol it speaks
    api_keys: frozenset[str] | None = field(default=None, repr=False)  # None: any that is not empty
    rate: int = 48_000  # Hz of the agent's audio; documented 48000, observed 24000
    channels: int = 1
    chunk_ms: tuple[int, int] = (100, 200)  # shortest and longest `audio_output`
    speed: float = 4.0  # chunks are sent this many times faster than they play; may be math.inf
    end_of_turn_silence_ms: int = 800
    min_interruption_ms: int = 800
    interrupt_after_end: bool = True  # `user_interruption` also after `assistant_end`, while the client still plays
    known_configs: frozenset[str] | None = None  # None: any config id is taken
    greetings: Mapping[str | None, str] = field(default_factory=dict)  # on_new_chat text by config id; None: no id
    inactivity: float = 120.0  # seconds without a user message
    max_duration: float = 1800.0
    tool_limit: float = 10.0  # seconds for a tool's answer; EVI's own limit is not documented
    max_chats: int | None = None  # at once; one more is answered with 429 (what EVI does is not documented)
    seed: int | None = None  # for ids, chunk lengths, and the faults that come by chance
    script: Callable[[int], Script] = faithful  # by number of connection, from 0
    faults: tuple[AnyFault, ...] = ()  # besides the script; each says which connections it befalls
    outages: tuple[Outage, ...] = ()  # of `serve_emulator`

    def __post_init__(self) -> None:
        """Check the name and the numbers."""
        find_provider(self.service)
        shortest, longest = self.chunk_ms
        checks = {
            "rate": 8000 <= self.rate <= 48_000,
            "channels": self.channels in (1, 2),
            "chunk_ms": 1 <= shortest <= longest,
            "speed": self.speed >= 1,  # slower than real time would need a client that starves
            "end_of_turn_silence_ms": self.end_of_turn_silence_ms > 0,
            "min_interruption_ms": self.min_interruption_ms > 0,
            "inactivity": self.inactivity > 0,
            "max_duration": self.max_duration > 0,
            "tool_limit": self.tool_limit > 0,
            "max_chats": self.max_chats is None or self.max_chats >= 0,
            "seed": self.seed is None or self.seed >= 0,
        }
        if wrong := [name for name, good in checks.items() if not good]:
            raise ValueError("EmulatorOptions: out of range: " + ", ".join(wrong))
        for place, fault in enumerate(self.faults):
            if lack := self._lacks(fault):
                raise ValueError(f"faults[{place}]: the protocol of {self.service} has no {lack}")

    @property
    def provider(self) -> LabProvider:
        """What is played."""
        return find_provider(self.service)

    def _lacks(self, fault: AnyFault) -> str:
        """What the protocol has not that a fault would make odd."""
        evi = self.provider.protocol is WireProtocol.EVI
        match fault:
            case NoEnds() if not evi:
                return "assistant_end"
            case _ if evi and isinstance(fault, RealtimeStep):
                return f"fault of the kind {fault.name}"
            case SendJunk(kind=kind) | GarbageOnly(kind=kind) if kind != "utf8" and kind not in (
                EVI if evi else REALTIME
            ):
                return f"junk of the kind {kind}"
            case _:
                return ""


class FaultsError(ValueError):
    """What is wrong with a file of faults, and where: one line for a person."""


class FaultsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file says. The fields are those of `EmulatorOptions`."""

    faults: tuple[AnyFault, ...] = ()
    outages: tuple[Outage, ...] = ()
    max_chats: Number | None = None
    seed: Number | None = None

    def applied(self, options: EmulatorOptions) -> EmulatorOptions:
        """Return the options with these faults.

        Raises:
            FaultsError: one that the provider's protocol cannot have.
        """
        try:
            return dataclasses.replace(
                options, faults=self.faults, outages=self.outages, max_chats=self.max_chats, seed=self.seed
            )
        except ValueError as exc:
            raise FaultsError(str(exc)) from exc


KINDS: dict[str, type[Fault]] = {str(kind.__struct_config__.tag): kind for kind in get_args(AnyFault)}


def parse_faults(data: bytes, name: str) -> FaultsFile:
    """Read a file's content; `name` ends in ``.toml`` or ``.json``, and stands in what is said of it.

    Raises:
        FaultsError: it cannot be read.
    """
    read = {"toml": tomllib.loads, "json": json.loads}.get(name.rpartition(".")[2].lower())
    if read is None:
        raise FaultsError(f"{name}: its name must end in .json or .toml")
    try:
        return msgspec.convert(read(data.decode("utf-8-sig")), FaultsFile)
    except msgspec.ValidationError as exc:
        text, _, place = str(exc).partition(" - at `$")
        place = place.rstrip("`").lstrip(".")
        known = f" (known: {', '.join(sorted(KINDS))})" if place.endswith("].fault") else ""
        raise FaultsError(f"{name}: {place or 'the whole'}: {text}{known}") from exc
    except UnicodeDecodeError as exc:
        raise FaultsError(f"{name}: byte {exc.start}: not UTF-8") from exc
    except (ValueError, RecursionError) as exc:  # of both parsers; they name line and column
        raise FaultsError(f"{name}: {' '.join(str(exc).split())}") from exc
