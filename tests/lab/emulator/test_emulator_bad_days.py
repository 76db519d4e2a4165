"""The bad days of the emulator's Realtime services: each comes as docs/internals/faults.md says, and passes."""

from __future__ import annotations

from typing import Any

import pytest

from sts_trio.lab.emulator import (
    LateCancel,
    LateDone,
    LateEvents,
    MissingEvents,
    MoreCalls,
    OddFields,
    OddResponses,
    RefusedTranscription,
    SlowAnswers,
    Transcripts,
)
from tests.call.fakes import tone
from tests.lab.emulator.realtime_client import SESSION, Client

TURN = tone(1.0) + bytes(16_000)
WORDS = "(1.0 s of speech)"


def opened(*steps: Any, service: str = "openai", lenient: bool = False) -> Client:
    client = Client(service, steps=steps, lenient=lenient)
    client.set_up()
    return client


@pytest.mark.parametrize(
    ("how", "status", "details"),
    [
        ("failed", "failed", "The server had an error."),
        ("rate_limited", "failed", "Please try again in 5.55s."),
        ("incomplete", "incomplete", "max_output_tokens"),
        ("filtered", "incomplete", "content_filter"),
        ("empty", "completed", "None"),
    ],
)
@pytest.mark.parametrize("said", [0.0, 0.5])
def test_a_response_comes_to_nothing_and_the_next_one_answers_the_same(
    how: Any, status: str, details: str, said: float
) -> None:
    client = opened(OddResponses(how=how, said=said))
    client.speak(TURN)
    client.collect(3.0)
    (response,) = client.responses
    assert response["status"] == status
    assert details in str(response["status_details"])
    spoken = bool(said) and how != "empty"
    assert bool(response["output"]) == spoken
    assert ("response.output_audio.delta" in str(client.heard)) == spoken
    if how == "rate_limited":
        client.say("response.create")
        client.collect(3.0)
        assert "Please try again in 2.05s." in str(client.responses[1])
    client.say("response.create")
    client.collect(3.0)
    assert client.responses[-1]["status"] == "completed"
    assert client.said[-1] == f"You said: {WORDS}"
    client.say("response.create")  # nothing is left to be answered
    client.collect(3.0)
    assert client.said[-1] == "How can I help you?"
    assert client.errors() == []


def test_a_response_in_text_has_no_voice() -> None:
    client = opened(OddResponses(how="text"))
    client.speak(TURN)
    kinds = client.collect(3.0)
    assert "response.output_audio.delta" not in kinds
    assert client.all("response.output_text.done")[0]["text"] == f"You said: {WORDS}"
    item = client.responses[0]["output"][0]
    assert item["content"] == [{"type": "output_text", "text": f"You said: {WORDS}"}]
    client.say("conversation.item.truncate", item_id=item["id"], content_index=0, audio_end_ms=10, event_id="cut")
    assert client.errors() == [("unsupported_content_type", "cut")]
    client.say("response.create", response={"output_modalities": ["audio"]})
    client.collect(3.0)
    assert client.said == [f"You said: {WORDS}"]


def test_a_wish_is_never_answered_and_the_service_is_free() -> None:
    client = opened(OddResponses(how="unanswered", asked=True))
    client.type("hello")
    assert client.collect(5.0) == []
    client.say("response.create")
    client.collect(5.0)
    assert [response["status"] for response in client.responses] == ["completed"]
    assert client.errors() == []


def test_answers_are_slow() -> None:
    client = opened(SlowAnswers(seconds=1.5))
    client.speak(TURN)
    client.collect(4.0)
    over = client.when("input_audio_buffer.committed")
    assert client.when("response.created") == pytest.approx(over + 1.5, abs=0.06)


def test_a_response_stays_active_until_it_is_done() -> None:
    client = opened(LateDone(seconds=0.5))
    client.type("call weather {}")
    client.collect(0.2)
    (call,) = client.calls
    assert client.responses == []
    client.answer(call["call_id"], event_id="early")
    client.say("response.create", event_id="early too")
    assert client.errors() == [
        ("invalid_tool_call_id", "early"),
        ("conversation_already_has_active_response", "early too"),
    ]
    client.collect(0.5)
    assert len(client.responses) == 1
    client.say("response.create")  # without an output: the model asks again
    client.collect(1.0)
    again = client.calls[1]
    assert (again["name"], again["call_id"] != call["call_id"]) == ("weather", True)
    client.answer(again["call_id"], event_id="in time")
    client.say("response.create")
    client.collect(5.0)
    assert len(client.errors()) == 2
    assert client.said == ["rain"]


def test_the_agent_speaks_on_for_a_while_when_spoken_over() -> None:
    client = opened(LateCancel(seconds=0.3))
    client.say("response.create", response={"instructions": "Say exactly:\n\nHello."})
    client.speak(tone(0.2))
    began = client.at[client.heard.index(client.all("input_audio_buffer.speech_started")[0])]
    client.speak(tone(0.4))
    late = [
        at for at, event in zip(client.at, client.heard, strict=True) if event["type"] == "response.output_audio.delta"
    ]
    assert began < max(late) <= began + 0.32
    assert [response["status"] for response in client.responses] == ["cancelled"]
    assert client.when("response.done") == pytest.approx(began + 0.3, abs=0.05)


def test_two_functions_are_asked_for_in_one_response() -> None:
    client = opened(MoreCalls(count=2))
    client.type("call weather {}")
    client.collect(1.0)
    ids = [call["call_id"] for call in client.calls]
    assert len(set(ids)) == len(client.responses[0]["output"]) == 2
    for number, id_ in enumerate(ids):
        client.answer(id_, f"rain {number}")
    client.say("response.create")
    client.collect(5.0)
    assert client.said == ["rain 0 rain 1"]
    assert client.errors() == []


MODELS = {"openai": "gpt-realtime-2.1", "xai": "grok-voice-latest"}
GROWN = f"I spoke for {WORDS}"


@pytest.mark.parametrize(
    ("how", "before", "after"),
    [
        ("growing", ["I", "I spoke", "I spoke for"], ["I spoke for (1.0 s of", GROWN]),
        ("twice", [], [WORDS, WORDS]),
        ("untrimmed", [], [f" \t{WORDS}\r\n "]),
        ("blank", [], [" \n"]),
        ("early", [WORDS], []),
        ("late", [], [WORDS]),
        ("failed", [], []),
        ("missing", [], []),
    ],
)
@pytest.mark.parametrize("service", ["openai", "xai"])
def test_what_the_caller_said_is_written_down_oddly(
    service: Any, how: Any, before: list[str], after: list[str]
) -> None:
    client = Client(
        service, "grok-voice-latest" if service == "xai" else "gpt-realtime-2.1", steps=(Transcripts(how=how),)
    )
    client.collect()
    if service == "xai":
        audio = SESSION["audio"]["input"]
        flat = {"voice": "eve", "turn_detection": audio["turn_detection"]}
        sides = {"input": {"format": audio["format"], "transcription": {}}, "output": {"format": audio["format"]}}
        client.say("session.update", session={**flat, "audio": sides})
    else:
        client.say("session.update", session=SESSION)
    client.speak(TURN)
    client.collect(5.0)
    kind = "conversation.item.input_audio_transcription.completed"
    commit = client.heard.index(client.all("input_audio_buffer.committed")[0])
    told = [(client.heard.index(event) < commit, event["transcript"], event["item_id"]) for event in client.all(kind)]
    assert [words for early, words, _ in told if early] == before
    assert [words for early, words, _ in told if not early] == after
    assert len({item for _, _, item in told}) <= 1
    assert len(client.all(kind.replace("completed", "failed"))) == (how == "failed")


def test_a_transcription_model_is_refused_and_the_update_without_it_is_taken() -> None:
    client = Client(steps=(RefusedTranscription(),))
    client.collect()
    assert client.say("session.update", session=SESSION, event_id="settings") == ["error"]
    error = client.heard[-1]["error"]
    assert (error["param"], error["event_id"]) == ("session.audio.input.transcription.model", "settings")
    audio = {**SESSION["audio"], "input": {**SESSION["audio"]["input"], "transcription": None}}
    assert client.say("session.update", session=SESSION | {"audio": audio}) == ["session.updated"]


@pytest.mark.parametrize("kind", ["response.created", "response.done", "input_audio_buffer.speech_stopped"])
def test_events_are_missing_or_late_and_the_service_does_not_know(kind: Any) -> None:
    client = opened(MissingEvents(event=kind, count=1))
    client.speak(TURN)
    client.collect(3.0)
    assert client.all(kind) == []
    client.speak(TURN)
    client.collect(3.0)
    assert len(client.all(kind)) == 1
    late = opened(LateEvents(event=kind, by=2.0))
    late.speak(TURN)
    late.collect(3.0)
    assert len(late.all(kind)) == 1
    assert late.when(kind) == pytest.approx(3.5 + (0.3 if kind == "response.done" else 0.0), abs=0.1)
    assert late.errors() == client.errors() == []


@pytest.mark.parametrize("service", ["openai", "xai"])
def test_no_session_is_told_to_be_created(service: Any) -> None:
    client = Client(service, MODELS[service], steps=(MissingEvents(event="session.created"),))
    assert client.collect(1.0) == (["conversation.created"] if service == "xai" else [])


@pytest.mark.parametrize("how", ["usage_floats", "ids_numbers", "status_details_text"])
def test_fields_are_odd_throughout(how: Any) -> None:
    client = opened(OddFields(how=how), lenient=True)
    client.type("call weather {}")
    client.collect(1.0)
    client.answer(str(client.calls[0]["call_id"]))
    client.say("response.create")
    client.collect(5.0)
    client.say("response.create", response={"instructions": "Say exactly:\n\nHello."})
    client.speak(tone(0.3))
    client.collect(1.0)
    assert client.errors() == []
    done = client.responses[-1]
    assert done["status"] == "cancelled"
    found = {"usage_floats": done["usage"]["total_tokens"], "ids_numbers": done["id"]}
    found["status_details_text"] = done["status_details"]
    kinds = {"usage_floats": float, "ids_numbers": int, "status_details_text": str}
    assert {name for name, value in found.items() if isinstance(value, kinds[name])} == {how}
    spoken = client.all("response.output_audio.delta")[-1]["item_id"]
    client.say("conversation.item.truncate", item_id=str(spoken), content_index=0, audio_end_ms=100)
    assert client.errors() == []


def test_the_same_seed_has_the_same_day() -> None:
    def day() -> list[Any]:
        steps = (OddResponses(), LateDone(), Transcripts(), MoreCalls(), LateEvents(by=0.3), SlowAnswers(seconds=0.2))
        client = opened(*steps)
        client.speak(TURN)
        client.collect(3.0)
        client.type("call weather {}")
        client.collect(3.0)
        return list(zip(client.at[2:], client.heard[2:], strict=True))  # the first two have the time of day

    first = day()
    assert first == day()
    assert len(first) > 20
