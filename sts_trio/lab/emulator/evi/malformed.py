"""Messages that EVI would not send, by kind (docs/internals/faults.md). Pure."""

from __future__ import annotations

import io
import json
import wave
from typing import TYPE_CHECKING, Any

from sts_trio.lab.emulator.malformed import ANY, ESCAPES, HALF_A_PAIR, HUGE, HUGE_ID, base64_of, numbers

if TYPE_CHECKING:
    from sts_trio.lab.emulator.malformed import Odd

_TONE = b"\x10\x00\x20\x00" * 1200  # 0.1 s at 24 kHz, hardly to be heard


def _wav(width: int = 2, sound: bytes = _TONE) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(24_000)
        file.writeframes(sound)
    return buffer.getvalue()


def _without_rate(wav: bytes) -> bytes:
    return wav[:24] + bytes(4) + wav[28:]  # of a `fmt` chunk that is the first


def _say(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields})


def _audio(data: object, id_: object = "junk") -> str:
    return _say("audio_output", id=id_, index=0, data=data)


def _user(content: object = "junk", *, scores: object = None) -> str:
    models = {} if scores is None else {"prosody": {"scores": scores}}
    message = {"role": "user", "content": content}
    return _say("user_message", message=message, models=models, interim=False, from_text=False, time={})


def _assistant(message: object, id_: object = "junk") -> str:
    return _say("assistant_message", id=id_, message=message, models={}, from_text=False)


def _words(content: object) -> dict[str, object]:
    return {"role": "assistant", "content": content}


def _tool(**fields: Any) -> str:
    call = {"name": "junk", "parameters": "{}", "tool_call_id": "junk", "response_required": True}
    return _say("tool_call", **{**call, **fields})


def _huge_scores() -> str:
    scores = ",".join(f'"{number}":0.5' for number in range(1_000_000))
    return f'{{"type":"user_message","message":{{"content":""}},"models":{{"prosody":{{"scores":{{{scores}}}}}}}}}'


MALFORMED: dict[str, Odd] = {
    **ANY,
    "json": '{"type":"audio_output","id":"junk","ind',
    "no_object": '["audio_output"]',
    "field": '{"type":"user_message","message":7,"models":[],"interim":"no"}',
    "surrogate": _assistant(_words("half a pair: §")).replace("\\u00a7", HALF_A_PAIR),
    "message_null": _assistant(None),
    "message_missing": _say("user_message", models={}, interim=False),
    "message_text": _assistant("text"),
    "content_null": _assistant(_words(None)),
    "content_parts": _assistant(_words([{"type": "text", "text": "a part"}])),
    "content_number": _user(7),
    "id_number": _assistant(_words("of a number"), 7),
    "id_list": _audio(base64_of(_wav()), ["junk"]),
    "scores_nan": _user(scores={"Anger": float("nan"), "Joy": 0.5}),
    "scores_text": _user(scores={"Anger": "much", "Joy": 0.5}),
    "scores_list": _user(scores=[0.5, 0.25]),
    "scores_infinite": _user(scores={"Anger": "§", "Joy": 0.5}).replace('"\\u00a7"', "1e999"),
    "base64": _audio("*not base64*"),
    "wav": _audio(base64_of(b"ID3 this is no WAV")),
    "audio_null": _audio(None),
    "audio_missing": _say("audio_output", id="junk", index=0),
    "audio_number": _audio(7),
    "audio_unpadded": _audio(base64_of(_wav(sound=_TONE[:4002])).rstrip("=")),
    "audio_urlsafe": _audio(base64_of(_wav(sound=b"\xff\xfb" * 2400)).replace("+", "-").replace("/", "_")),
    "audio_pcm": _audio(base64_of(_TONE)),
    "wav_24_bit": _audio(base64_of(_wav(width=3))),
    "wav_rate_0": _audio(base64_of(_without_rate(_wav()))),
    "wav_cut": _audio(base64_of(_wav()[:30])),
    "error_bare": _say("error"),
    "error_list": _say("error", code=["I0100"], slug=[], message=[1]),
    "error_number": _say("error", code=7, slug=None, message=7),
    "tool_number": _tool(tool_call_id=7),
    "tool_object": _tool(parameters={"number": 1}, response_required="yes"),
    "tool_nameless": _tool(name=None),
    "huge_scores": _huge_scores,
    "huge_error": lambda: f'{{"type":"error","code":"W0101","slug":"junk","message":{numbers(HUGE)}}}',
    "huge_id": lambda: _assistant(_words("of a long id"), "x" * HUGE_ID),
    "huge_text": lambda: _user("x" * HUGE),
    "escapes_in_id": _say("tool_error", tool_call_id=ESCAPES, error=ESCAPES, code=ESCAPES),
    "escapes_in_error": _say("error", code=f"W{ESCAPES}", slug=ESCAPES, message=ESCAPES),
}
