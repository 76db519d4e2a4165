"""Which faults befall which connection: by number and by chance. Nothing here waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sts_trio.lab.emulator.script import (
    Accept,
    Drop,
    Fault,
    Mute,
    NoMetadata,
    Refuse,
    Script,
    SlowHandshake,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sts_trio.lab.emulator.script import AnyFault, AnyStep, Handshake


def story(script: Script, faults: Sequence[AnyFault], connection: int, seed: int) -> Script:
    """Return what happens to a connection: its script and those of `faults` that befall it.

    The same seed gives the same story, whatever other connections did. Of several answers to the upgrade the first
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
