"""A server that a client cannot tell from its provider: for tests and the demo. Its agent is a parrot.

It imports nothing of the service, so that a mistake made on both sides of a shared codec cannot hide.
"""

from sts_trio.lab.emulator.emulator import Emulator, Session
from sts_trio.lab.emulator.faults import (
    Accept,
    CloseWith,
    Cut,
    Delay,
    DoubledChunks,
    Drop,
    Fault,
    HalfOpen,
    LateChunks,
    Mute,
    NoMetadata,
    Outage,
    Refuse,
    Reset,
    ResetInFrame,
    Script,
    SendBinary,
    SendError,
    SendGarbage,
    SendJunk,
    SendRaw,
    SlowHandshake,
    SlowReader,
    SwappedChunks,
)
from sts_trio.lab.emulator.options import EmulatorOptions, FaultsError, FaultsFile, parse_faults
from sts_trio.lab.emulator.server import serve_emulator, serve_stream

__all__ = [
    "Accept",
    "CloseWith",
    "Cut",
    "Delay",
    "DoubledChunks",
    "Drop",
    "Emulator",
    "EmulatorOptions",
    "Fault",
    "FaultsError",
    "FaultsFile",
    "HalfOpen",
    "LateChunks",
    "Mute",
    "NoMetadata",
    "Outage",
    "Refuse",
    "Reset",
    "ResetInFrame",
    "Script",
    "SendBinary",
    "SendError",
    "SendGarbage",
    "SendJunk",
    "SendRaw",
    "Session",
    "SlowHandshake",
    "SlowReader",
    "SwappedChunks",
    "parse_faults",
    "serve_emulator",
    "serve_stream",
]
