"""A light agent that speaks the Realtime protocol: every event is one of the vendor's, in a real service's order."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from sts_trio.lab.load.light_realtime import LightRealtime, Voices
from sts_trio.lab.load.plan import Step
from sts_trio.lab.load.stamps.down import Reader
from sts_trio.lab.load.stamps.g711 import g711_frame
from sts_trio.lab.websocket import BINARY, TEXT, Message

ORACLE: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
MARK, CALL, MS = 0x5EED1234, 7, 1_000_000
BEGAN = ["response.created", "response.output_item.added", "conversation.item.added", "response.content_part.added"]
CHUNK = ["response.output_audio.delta", "response.output_audio_transcript.delta"]
OVER = [
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
    "rate_limits.updated",
]
HEARD = [
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
    "conversation.item.input_audio_transcription.completed",
]


class Client:
    """Talks to an agent; every event that it gets must be one of OpenAI's types. xAI, who `resumes`, has his own."""

    def __init__(self, *, resumes: bool = False) -> None:
        self.agent = LightRealtime(Voices(), MARK, resumes=resumes)
        self.resumes = resumes
        self.events: list[dict[str, Any]] = []
        self.now = 0
        self.opened = self._take(self.agent.begin())

    def _take(self, said: Any) -> list[str]:
        events = [json.loads(text) for text in said]
        for event in events:
            if not self.resumes:
                ORACLE.validate_python(event)
        self.events += events
        return [event["type"] for event in events]

    def say(self, kind: str, **fields: Any) -> list[str]:
        text = json.dumps({"type": kind, **fields}).encode()
        stamps, answers = self.agent.hear(Message(TEXT, text), self.now)
        assert not stamps
        return self._take(answers)

    def step(self, step: Step, frame: int = 0) -> list[str]:
        self.now += 100 * MS
        return self._take(self.agent.tell(step, CALL, frame, self.now))

    def update(self, kind: str = "audio/pcmu", rate: int | None = None) -> list[str]:
        form = {"type": kind} | ({"rate": rate} if rate else {})
        session = {"type": "realtime", "audio": {"input": {"format": form}, "output": {"format": form}}}
        return self.say("session.update", event_id="settings", session=session)

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1]


@pytest.fixture
def client() -> Client:
    client = Client()
    assert client.opened == ["session.created"]
    assert client.update() == ["session.updated"]
    return client


def test_a_turn_has_the_events_of_a_real_answer_in_their_order(client: Client) -> None:
    steps = [Step.WORDS, Step.CHUNK, Step.CHUNK, Step.END, Step.USER]
    kinds = [client.step(step, 10 * at) for at, step in enumerate(steps)]
    assert kinds == [BEGAN, CHUNK, CHUNK, OVER, ["input_audio_buffer.speech_started", *HEARD]]
    done = next(event["response"] for event in client.events if event["type"] == "response.done")
    assert (done["status"], done["output"][0]["content"][0]["transcript"]) == ("completed", "Words of")
    assert len({event["event_id"] for event in client.events}) == len(client.events)
    ids = {event["response_id"] for event in client.events if "response_id" in event}
    assert ids == {done["id"]}


def test_a_barge_in_begins_the_callers_turn_and_what_is_under_way_still_comes(client: Client) -> None:
    steps = [Step.WORDS, Step.CHUNK, Step.CUT, Step.CHUNK, Step.CUT_OVER, Step.USER]
    kinds = [client.step(step, 10 * at) for at, step in enumerate(steps)]
    assert kinds == [BEGAN, CHUNK, ["input_audio_buffer.speech_started"], CHUNK, OVER, HEARD]
    done = next(event["response"] for event in client.events if event["type"] == "response.done")
    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "turn_detected")
    items = {event["item_id"] for event in client.events if event["type"].startswith("input_audio_buffer.")}
    assert len(items) == 1


@pytest.mark.parametrize(
    ("kind", "rate", "size"), [("audio/pcmu", None, 1600), ("audio/pcm", 24_000, 9600), ("audio/pcm", 8000, 3200)]
)
def test_its_voice_has_the_sessions_form_and_says_its_frames(kind: str, rate: int | None, size: int) -> None:
    client = Client(resumes=rate == 8000)
    client.update(kind, rate)
    client.step(Step.WORDS)
    client.step(Step.CHUNK, 30)
    audio = base64.b64decode(client.events[-2]["delta"], validate=True)
    assert len(audio) == size
    if rate == 8000:
        reader = Reader(CALL)
        assert [number for number, _ in reader.read(audio, 0.0)] == list(range(30, 40))


def test_caller_audio_is_read_in_the_sessions_form_and_not_answered() -> None:
    client = Client(resumes=True)
    assert client.opened == ["session.created", "conversation.created"]
    client.update("audio/pcm", 8000)
    append = {
        "type": "input_audio_buffer.append",
        "audio": g711_frame(MARK, CALL, 5, 1000 * MS, counted=True).decode(),
    }
    stamps, answers = client.agent.hear(Message(TEXT, json.dumps(append).encode()), 1004 * MS)
    assert [stamp and (stamp.call, stamp.number, stamp.sent_ns) for stamp in stamps] == [(CALL, 5, 1000 * MS)]
    assert not answers


def test_what_a_client_asks_for_is_answered(client: Client) -> None:
    assert client.events[1]["session"]["audio"]["output"] == {"format": {"type": "audio/pcmu"}}
    assert client.say("response.create", event_id="hello") == ["response.created", "response.done"]
    item = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Note."}], "id": "note_1"}
    added = ["conversation.item.added", "conversation.item.done"]
    assert client.say("conversation.item.create", item=item) == added
    assert client.last["item"]["id"] == "note_1"
    output = {"type": "function_call_output", "call_id": "call_1", "output": "done"}
    assert client.say("conversation.item.create", item=output) == added
    assert client.say("conversation.item.truncate", item_id="item_1", content_index=0, audio_end_ms=420) == [
        "conversation.item.truncated"
    ]
    assert client.last["audio_end_ms"] == 420
    assert client.say("conversation.item.delete", item_id="item_1") == ["conversation.item.deleted"]
    assert client.say("input_audio_buffer.clear") == ["input_audio_buffer.cleared"]
    assert client.say("input_audio_buffer.commit")[0] == "input_audio_buffer.committed"
    forced = {"type": "force_message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]}
    assert client.say("conversation.item.create", item=forced) == ["response.created", "response.done"]


def test_there_is_one_response_at_a_time_and_a_client_may_cancel_it(client: Client) -> None:
    assert client.say("response.cancel", event_id="stop") == ["error"]
    assert client.last["error"]["code"] == "response_cancel_not_active"
    client.step(Step.WORDS)
    assert client.say("response.create", event_id="me") == ["error"]
    error = client.last["error"]
    assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "me")
    assert client.say("response.cancel") == OVER
    assert [client.step(step) for step in (Step.CHUNK, Step.END, Step.CUT_OVER)] == [[], [], []]


def test_what_it_does_not_know_is_an_error_and_changes_nothing(client: Client) -> None:
    for kind, rate in (("audio/opus", None), ("audio/pcm", 44_100)):
        assert client.update(kind, rate) == ["error"]
        assert (client.last["error"]["event_id"], client.last["error"]["param"]) == ("settings", "session.audio")
    assert client.say("transcription_session.update") == ["error"]
    for text in (b"{", b'{"type":"input_audio_buffer.append","audio":"?"}', b'{"type":"session.update","session":7}'):
        stamps, answers = client.agent.hear(Message(TEXT, text), 0)
        assert (list(stamps), client._take(answers)) == ([], ["error"])
    assert client.agent.hear(Message(BINARY, bytes(320)), 0) == ((), ())
    client.step(Step.WORDS)
    client.step(Step.CHUNK)
    assert len(base64.b64decode(client.events[-2]["delta"])) == 1600  # mu-law, as before
