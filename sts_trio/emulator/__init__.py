"""A server that a Hume EVI client cannot tell from EVI: for tests, the demo and load. Its agent is a parrot.

It imports nothing of the service, so that a mistake made on both sides of a shared codec cannot hide.
"""

from sts_trio.emulator.emulator import Emulator, Session
from sts_trio.emulator.options import EmulatorOptions
from sts_trio.emulator.script import (
    Accept,
    CloseWith,
    Mute,
    Refuse,
    Reset,
    Script,
    SendError,
    SendGarbage,
    SendRaw,
)
from sts_trio.emulator.server import serve_emulator, serve_stream

__all__ = [
    "Accept",
    "CloseWith",
    "Emulator",
    "EmulatorOptions",
    "Mute",
    "Refuse",
    "Reset",
    "Script",
    "SendError",
    "SendGarbage",
    "SendRaw",
    "Session",
    "serve_emulator",
    "serve_stream",
]
