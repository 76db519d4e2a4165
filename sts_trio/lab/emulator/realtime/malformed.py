"""Events that no service of the Realtime protocol would send, by kind (docs/internals/faults.md). Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sts_trio.lab.emulator.malformed import ANY, ESCAPES, HALF_A_PAIR, HUGE, HUGE_ID, base64_of, numbers

if TYPE_CHECKING:
    from sts_trio.lab.emulator.malformed import Odd

_TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
_WORDS = "response.output_audio_transcript.done"
_IDS = {"event_id": "e", "response_id": "junk", "item_id": "junk", "output_index": 0, "content_index": 0}
# An odd length, so that its base64 ends in padding; of such bytes it has both signs that URL-safe base64 lacks.
_SOUND = b"\xff\xfb\xef" * 133 + b"\xff"


def _say(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields})


def _audio(data: object, **ids: object) -> str:
    return _say("response.output_audio.delta", **{**_IDS, **ids}, delta=data)


def _done(**fields: Any) -> str:
    return _say("response.done", response={"id": "junk", "status": "completed", **fields})


def _item(item: object) -> str:
    return _say("response.output_item.done", response_id="junk", output_index=0, item=item)


def _tool(**fields: Any) -> str:
    call = {"type": "function_call", "id": "junk", "name": "junk", "call_id": "junk", "arguments": "{}"}
    return _item({**call, **fields})


MALFORMED: dict[str, Odd] = {
    **ANY,
    "json": '{"type":"response.output_audio.delta","del',
    "no_object": '["response.output_audio.delta"]',
    "no_type": '{"event_id":"junk"}',
    "field": '{"type":"response.done","response":7}',
    "surrogate": _say(_TRANSCRIBED, item_id="junk", transcript="half a pair: §").replace("\\u00a7", HALF_A_PAIR),
    "message_null": _say("response.created", response=None),
    "message_missing": _say("response.done"),
    "message_text": _say("response.done", response="text"),
    "content_null": _say(_WORDS, **_IDS, transcript=None),
    "content_parts": _say(_WORDS, **_IDS, transcript=[{"type": "text", "text": "a part"}]),
    "content_number": _say(_TRANSCRIBED, item_id="junk", transcript=7),
    "id_number": _done(id=7),
    "id_list": _audio(base64_of(_SOUND), response_id=["junk"]),
    "usage_floats": _done(usage={"input_tokens": 1.5, "output_tokens": 2.5, "total_tokens": 4.0}),
    "usage_text": _done(usage="much"),
    "status_details_text": _done(status="incomplete", status_details="max_output_tokens"),
    "item_unknown": _item({"type": "hologram", "id": 7, "content": {"x": 1}}),
    "item_null": _item(None),
    "output_text": _done(output="text"),
    "expires_text": _say("session.created", session={"id": "junk", "expires_at": "soon"}),
    "base64": _audio("*not base64*"),
    "wav": _audio(7),  # audio is raw here: a number is as far from it as can be
    "audio_null": _audio(None),
    "audio_missing": _say("response.output_audio.delta", **_IDS),
    "audio_number": _audio(7.5),
    "audio_unpadded": _audio(base64_of(_SOUND).rstrip("=")),
    "audio_urlsafe": _audio(base64_of(_SOUND).replace("+", "-").replace("/", "_")),
    "error_bare": _say("error"),
    "error_list": _say("error", error=["server_error", 1]),
    "error_number": _say("error", error={"type": 7, "code": 7, "message": 7}),
    "tool_number": _tool(call_id=7),
    "tool_object": _tool(arguments={"number": 1}),
    "tool_nameless": _tool(name=None),
    "huge_error": lambda: f'{{"type":"error","error":{numbers(HUGE)}}}',
    "huge_id": lambda: _say(_TRANSCRIBED, item_id="x" * HUGE_ID, transcript="of a long id"),
    "huge_text": lambda: _say(_TRANSCRIBED, item_id="junk", transcript="x" * HUGE),
    "escapes_in_id": _say(_TRANSCRIBED, item_id=ESCAPES, transcript="of an odd id"),
    "escapes_in_error": _say("error", error={"type": ESCAPES, "code": ESCAPES, "message": ESCAPES}),
}
