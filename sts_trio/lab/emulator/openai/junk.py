"""Messages that no service of the Realtime protocol would send, by the kinds of `script.SendJunk`."""

from __future__ import annotations

import json

_IDS = {"event_id": "e", "response_id": "junk", "item_id": "junk", "output_index": 0, "content_index": 0}


def _delta(data: object) -> str:
    return json.dumps({"type": "response.output_audio.delta", **_IDS, "delta": data})


TEXTS = {
    "json": '{"type":"response.output_audio.delta","del',
    "no_object": '["response.output_audio.delta"]',
    "no_type": '{"event_id":"junk"}',
    "unknown_type": '{"type":"news","text":"of a later version"}',
    "field": '{"type":"response.done","response":7}',
    "base64": _delta("*not base64*"),
    "wav": _delta(7),  # audio is raw here: a number is as far from it as can be
}
