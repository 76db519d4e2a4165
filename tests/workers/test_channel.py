"""The messages between supervisor and workers: each comes back as it went."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.workers.channel import (
    PACKET_BYTES,
    Connection,
    Message,
    Others,
    Report,
    Scrape,
    ScrapeRequest,
    ScrapeResult,
    decode,
    encode,
)


@pytest.mark.parametrize(
    "message",
    [
        Connection(),
        Others(3, room=True),
        Scrape(2**40),
        Report(live=1, places=2, new=3, taken=2**40, ready=False, detached=True),
        ScrapeRequest(),
        ScrapeResult(7),
    ],
)
def test_a_message_is_one_packet_and_comes_back(message: Message) -> None:
    packet = encode(message)
    assert 0 < len(packet) < PACKET_BYTES
    assert decode(packet) == message


@given(st.binary(max_size=64))
def test_what_is_none_of_ours_is_an_error_of_msgspec(packet: bytes) -> None:
    with suppress(msgspec.DecodeError):
        assert isinstance(decode(packet), Message)
