"""The bad days of a Realtime service, as steps (docs/internals/faults.md; docs/protocols/realtime.md 10).

Each holds from its moment on. `troubles` says what they make of a session. Pure.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from sts_trio.lab.emulator.steps import Seconds, Step, Wait

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
ALL = 1_000_000  # more than a session has

# What may be missing, or late.
ServerEvent = Literal[
    "session.created",
    "conversation.created",
    "session.updated",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.truncated",
    "response.created",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.delta",
    "response.output_audio_transcript.done",
    "response.function_call_arguments.done",
    "response.done",
    "rate_limits.updated",
]


class OddResponses(Step, frozen=True, tag="response"):
    """The next `count` responses come to nothing, in the way of `how`, after `said` seconds of voice.

    `failed`: `server_error`. `rate_limited`: the error says how long to wait, and until then no other
    response comes to more. `incomplete`: too many tokens.
    `filtered`: by a filter of contents. `empty`: completed, and without an item. `text`: all of it, but in text.
    `unanswered`: no event at all. For the last three `said` means nothing. `asked`: only those count that the client
    asks for.
    """

    after: Seconds = 0.0
    how: Literal["failed", "rate_limited", "incomplete", "filtered", "empty", "text", "unanswered"] = "failed"
    count: Count = 1
    said: Wait = 0.0
    asked: bool = False


class SlowAnswers(Step, frozen=True, tag="slow_answers"):
    """Each response begins `seconds` after it was decided on: the service thinks."""

    after: Seconds = 0.0
    seconds: Wait = 1.0


class LateDone(Step, frozen=True, tag="late_done"):
    """A response is over only `seconds` after its last item: until then it is the active one.

    Outputs of its functions are refused meanwhile, and so are wishes for another response.
    """

    after: Seconds = 0.0
    seconds: Wait = 0.5


class LateCancel(Step, frozen=True, tag="late_cancel"):
    """The agent speaks on for `seconds` after the caller has begun to speak, and is cut off then."""

    after: Seconds = 0.0
    seconds: Wait = 0.3


class MoreCalls(Step, frozen=True, tag="more_calls"):
    """A response that asks for a function asks for it `count` times, each with an id of its own."""

    after: Seconds = 0.0
    count: Annotated[int, Meta(ge=2, le=16)] = 2


class AsksForTool(Step, frozen=True, tag="asks_for_tool"):
    """The next `count` responses ask for this function of the client's in place of what they would say."""

    after: Seconds = 0.0
    tool: str = "lookup"
    arguments: str = "{}"
    count: Count = 1


class Transcripts(Step, frozen=True, tag="transcripts"):
    """What the caller said is written down in an odd way.

    `growing`: more of it each time, before the commit and after it. `twice`: all of it, again. `untrimmed`: with blanks
    and line ends around it. `blank`: nothing but those. `early`: before the commit. `late`: 4 s after it, when the
    answer has begun. `failed`: told as such. `missing`: never.
    """

    after: Seconds = 0.0
    how: Literal["growing", "twice", "untrimmed", "blank", "early", "late", "failed", "missing"] = "growing"


class RefusedTranscription(Step, frozen=True, tag="refused_transcription"):
    """The model that writes down what the caller says is not to be had: an update that names one is refused."""

    after: Seconds = 0.0


class MissingEvents(Step, frozen=True, tag="missing_events"):
    """The next `count` events of this type are not sent; the service itself goes on as if they had been."""

    after: Seconds = 0.0
    event: ServerEvent = "response.done"
    count: Count = ALL


class LateEvents(Step, frozen=True, tag="late_events"):
    """The next `count` events of this type come `by` seconds late, after others that follow them."""

    after: Seconds = 0.0
    event: ServerEvent = "response.done"
    by: Wait = 2.0
    count: Count = ALL


class OddFields(Step, frozen=True, tag="odd_fields"):
    """Tokens are floats, the service's ids numbers, or `status_details` a text, in all events."""

    after: Seconds = 0.0
    how: Literal["usage_floats", "ids_numbers", "status_details_text"] = "usage_floats"


RealtimeStep = (
    OddResponses
    | SlowAnswers
    | LateDone
    | LateCancel
    | MoreCalls
    | AsksForTool
    | Transcripts
    | RefusedTranscription
    | MissingEvents
    | LateEvents
    | OddFields
)
