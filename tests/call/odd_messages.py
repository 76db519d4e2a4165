"""Messages of each provider's protocol as the lab writes them, and what Hypothesis makes of them. No I/O."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from sts_trio.lab.emulator.evi.wire import (
    AssistantEnd,
    AssistantMessage,
    AssistantProsody,
    AudioOutput,
    ChatMetadata,
    ErrorMessage,
    Interval,
    Models,
    Prosody,
    ToolCall,
    ToolError,
    ToolResponse,
    UserInterruption,
    UserMessage,
    Words,
    encode_server,
)
from sts_trio.lab.emulator.realtime import events
from sts_trio.lab.emulator.realtime.items import Items
from sts_trio.lab.emulator.realtime.replies import Replies
from sts_trio.lab.emulator.voice import wav_file

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy
    from numpy.typing import NDArray

Path = tuple[str | int, ...]


def _tone() -> NDArray[Any]:
    return np.full(2400, 20, np.int16)


SCORES = Models(Prosody({"Anger": 0.25, "Joy": 0.5}))
EVI = [
    json.loads(encode_server(message))
    for message in (
        ChatMetadata(chat_group_id="odd", chat_id="odd", request_id="odd"),
        UserMessage(
            message=Words("user", "odd"),
            models=SCORES,
            time=Interval(0, 9),
            interim=False,
            from_text=False,
            language="en",
        ),
        UserMessage(message=Words("user", "odd"), models=Models(), time=Interval(0, 9), interim=True, from_text=True),
        AssistantMessage(
            id="odd", message=Words("assistant", "odd"), models=SCORES, from_text=False, is_quick_response=False
        ),
        AudioOutput(id="odd", index=0, data=wav_file(_tone(), 24_000, 1)),
        AssistantProsody(id="odd", models=SCORES),
        AssistantEnd(),
        UserInterruption(time=1_700_000_000_000),
        ToolCall(name="lookup", parameters='{"a":1}', tool_call_id="odd", tool_type="function", response_required=True),
        ToolResponse(tool_call_id="odd", content="odd", tool_name="odd", tool_type="builtin"),
        ToolError(tool_call_id="odd", error="odd", code="odd", level="warn"),
        ErrorMessage(code="W0101", slug="odd", message="odd", request_id="odd"),
    )
]


def _realtime() -> list[dict[str, Any]]:
    said = events.SpokenItem("resp_odd", "item_odd", "odd")
    replies = Replies(lambda kind: f"{kind}_odd", Items(forces=False))
    call = ToolCall(
        name="lookup", parameters='{"a":1}', tool_call_id="odd", tool_type="function", response_required=True
    )
    created = {"id": "sess_odd", "object": "realtime.session", "type": "realtime", "expires_at": 4_000_000_000}
    made = [
        events.event("session.created", session=created),
        events.event("session.updated", session={"id": "sess_odd", "audio": {"output": {"voice": "odd"}}}),
        events.event("conversation.created", conversation={"id": "conv_odd"}),
        events.speech_started("item_caller", 100),
        *events.turn_over("item_caller", 900),
        events.transcribed("item_caller", "odd"),
        *said.begin(),
        said.say("odd"),
        events.event("response.output_audio.delta", **said.ids, delta=base64.b64encode(bytes(range(160))).decode()),
        *said.end("completed"),
        events.response_done("resp_odd", "completed", [said.message("completed")]),
        events.response_done("resp_odd", "incomplete", (), "max_output_tokens"),
        events.response_done("resp_odd", "failed", (), "odd"),
        *replies.tell(call),
        *replies.close(),
        events.truncated("item_odd", 100),
        events.deleted("item_odd"),
        events.event("rate_limits.updated", rate_limits=[{"name": "tokens", "limit": 9, "remaining": 1}]),
        events.error("unknown_parameter", "odd", param="odd", event_id="odd"),
    ]
    written: list[dict[str, Any]] = [{"event_id": "event_odd", **each.fields} for each in made]
    return written


MESSAGES = {"humeai": EVI, "openai": _realtime(), "xai": _realtime()}

DROP = object()
ODD: list[Any] = [
    *(DROP, None, True, 7, -1, 2**70, 10**400, 1.5, float("nan"), float("inf"), -1e308),
    *("", "text", "7", "null", "*not base64*", "AAA", "_-8=", "\ud83d", "\ude00\ud83d", "\x1b[2J\u202e\u2028\r\n\x00"),
    *("x" * 100_000, [], [None], ["a", 7, {}], [0] * 10_000, {}, {"type": None}, {"a": {"b": [[[]]]}}),
    *({"type": "text", "text": "a part"}, [{"type": "text", "text": "a part"}], dict.fromkeys("abcdefgh", 0.5)),
]
"""What stands in a field's place; `DROP`: the field is not there."""


def paths(value: Any, before: Path = ()) -> list[Path]:
    """Where something can be put in place of something else, at any depth."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [before, *(path for key, each in inner for path in paths(each, (*before, key)))]


def changed(value: Any, path: Path, odd: Any) -> Any:
    """Return `value` with `odd` at this place; `value` itself stays as it is."""
    if not path:
        return None if odd is DROP else odd
    key, *rest = path
    copy: Any = list(value) if isinstance(value, list) else dict(value)
    if not rest and odd is DROP:
        del copy[key]
    else:
        copy[key] = changed(copy[key], tuple(rest), odd)
    return copy


@st.composite
def _odd_text(draw: st.DrawFn, provider: str) -> str | bytes:
    message: Any = draw(st.sampled_from(MESSAGES[provider]))
    for _ in range(draw(st.integers(0, 3))):
        message = changed(message, draw(st.sampled_from(paths(message))), draw(st.sampled_from(ODD)))
    text = json.dumps(message)
    cut = draw(st.one_of(st.none(), st.none(), st.none(), st.integers(0, len(text))))
    text = text[:cut]
    return text.encode() if draw(st.integers(0, 9)) == 9 else text


def odd_messages(provider: str) -> SearchStrategy[str | bytes]:
    """Draw a message with up to three of its fields changed, perhaps cut off; bytes: in a binary frame."""
    return _odd_text(provider)
