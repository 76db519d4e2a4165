"""Frames that no EVI would send, as bytes on the wire. Frames of a server are not masked (RFC 6455, 5.2)."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sts_trio.lab.emulator.script import SendJunk


def _audio(data: str) -> str:
    return json.dumps({"type": "audio_output", "id": "junk", "index": 0, "data": data})


TEXTS = {
    "json": '{"type":"audio_output","id":"junk","ind',
    "no_object": '["audio_output"]',
    "no_type": '{"id":"junk"}',
    "unknown_type": '{"type":"news","text":"of a later version"}',
    "field": '{"type":"user_message","message":7,"models":[],"interim":"no"}',
    "base64": _audio("*not base64*"),
    "wav": _audio(base64.b64encode(b"ID3 this is no WAV").decode()),
}


def frame(junk: SendJunk, texts: Mapping[str, str]) -> bytes:
    """Return the whole frame; `texts` has what breaks the protocol in use, by kind."""
    payload = b'{"type":"\xff\xfe"}' if junk.kind == "utf8" else texts[junk.kind].encode()
    size = len(payload)  # from 126 on it has two bytes of its own (RFC 6455, 5.2)
    return (bytes([0x81, size]) if size < 126 else bytes([0x81, 126]) + size.to_bytes(2, "big")) + payload


def half_a_frame() -> bytes:
    """Return the first half of a text frame of 2000 bytes."""
    return bytes([0x81, 126]) + (2000).to_bytes(2, "big") + _audio("UklGR" + "A" * 2000).encode()[:1000]
