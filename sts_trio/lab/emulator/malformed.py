"""Messages that no provider would send, by the kinds of `faults.SendJunk`, and frames that break off. Pure."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from sts_trio.lab.websocket import TEXT, encode_frame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sts_trio.lab.emulator.faults import SendJunk

_IDS = {"event_id": "e", "response_id": "junk", "item_id": "junk", "output_index": 0, "content_index": 0}


def _evi_audio(data: str) -> str:
    return json.dumps({"type": "audio_output", "id": "junk", "index": 0, "data": data})


def _realtime_audio(data: object) -> str:
    return json.dumps({"type": "response.output_audio.delta", **_IDS, "delta": data})


EVI = {
    "json": '{"type":"audio_output","id":"junk","ind',
    "no_object": '["audio_output"]',
    "no_type": '{"id":"junk"}',
    "unknown_type": '{"type":"news","text":"of a later version"}',
    "field": '{"type":"user_message","message":7,"models":[],"interim":"no"}',
    "base64": _evi_audio("*not base64*"),
    "wav": _evi_audio(base64.b64encode(b"ID3 this is no WAV").decode()),
}
REALTIME = {
    "json": '{"type":"response.output_audio.delta","del',
    "no_object": '["response.output_audio.delta"]',
    "no_type": '{"event_id":"junk"}',
    "unknown_type": '{"type":"news","text":"of a later version"}',
    "field": '{"type":"response.done","response":7}',
    "base64": _realtime_audio("*not base64*"),
    "wav": _realtime_audio(7),  # audio is raw here: a number is as far from it as can be
}


def malformed_frame(fault: SendJunk, texts: Mapping[str, str]) -> bytes:
    """Return a server's whole frame; `texts` has what breaks the protocol in use, by kind."""
    return encode_frame(TEXT, b'{"type":"\xff\xfe"}' if fault.kind == "utf8" else texts[fault.kind].encode())


def half_a_frame() -> bytes:
    """Return a server's text frame of 2000 bytes, of which only 1000 come."""
    return encode_frame(TEXT, _evi_audio("UklGR" + "A" * 2000).encode()[:2000])[:-1000]
