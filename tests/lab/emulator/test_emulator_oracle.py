"""The vendor's own SDK as the judge: each message must be one of its types, and its client must hold a chat."""

from __future__ import annotations

import asyncio
import base64
import warnings
from typing import TYPE_CHECKING, Any, cast, get_args

import pytest
import trio

from sts_trio.lab.emulator import Emulator, EmulatorOptions, emotions, serve_emulator
from tests.lab.emulator.evi_client import PHONE, open_chat, read_wav, silence, tone

if TYPE_CHECKING:
    from trio.testing import MockClock

with warnings.catch_warnings():
    # hume 0.14 imports websockets.legacy, which websockets >= 14 calls deprecated; not ours to cure.
    warnings.simplefilter("ignore", DeprecationWarning)
    from hume import AsyncHumeClient
    from hume.core.api_error import ApiError
    from hume.core.pydantic_utilities import parse_obj_as
    from hume.empathic_voice.types import (
        AudioInput,
        ConnectSessionSettings,
        ConnectSessionSettingsAudio,
        SubscribeEvent,
        UserInput,
    )
    from hume.empathic_voice.types.emotion_scores import EmotionScores
    from hume.environment import HumeClientEnvironment
    from pydantic import BaseModel, TypeAdapter, ValidationError

TYPES = {kind.model_fields["type"].default: kind for kind in get_args(SubscribeEvent)}
TYPES["user_message"] = next(kind for kind in get_args(SubscribeEvent) if kind.__name__ == "UserMessage")


def judge(message: dict[str, Any]) -> None:
    """Fail unless `message` is exactly its SDK type: all required fields, right JSON types, and nothing else."""
    model = TypeAdapter(TYPES[message["type"]]).validate_python(message, strict=True)
    assert isinstance(parse_obj_as(cast("type[BaseModel]", SubscribeEvent), message), TYPES[message["type"]])
    nothing_extra(model)


def nothing_extra(value: object) -> None:
    if isinstance(value, BaseModel):
        assert not value.model_extra, value.model_extra
        for name in type(value).model_fields:
            nothing_extra(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            nothing_extra(item)


def test_the_judge_can_say_no() -> None:
    judge({"type": "audio_output", "id": "a", "index": 0, "data": ""})
    for bad in (
        {"type": "audio_output", "id": "a", "data": ""},
        {"type": "audio_output", "id": "a", "index": "0", "data": ""},
        {"type": "user_interruption"},
    ):
        with pytest.raises(ValidationError):
            judge(bad)
    with pytest.raises(AssertionError):
        judge({"type": "assistant_end", "surplus": 1})


def test_the_labels_are_the_sdks() -> None:
    assert {field.alias for field in EmotionScores.model_fields.values()} == set(emotions.LABELS)


async def test_every_message_is_one_of_the_sdks_types(autojump_clock: MockClock) -> None:
    options = EmulatorOptions(greetings={None: "Welcome."}, chunk_ms=(100, 200))
    query = (
        PHONE + "&verbose_transcription=true&session_settings[custom_session_id]=c"
        "&session_settings[variables][age]=30&session_settings[context][text]=t"
    )
    async with open_chat(Emulator(options), query) as client:
        await client.wait("assistant_end")
        await client.speak(silence(3), tone(2), silence(1), tone(1.5))
        await client.send(
            type="session_settings",
            tools=[
                {"type": "function", "name": "weather", "parameters": "{}", "fallback_content": "none"},
                {"type": "function", "name": "dsai_transfer", "description": "Transfer.", "parameters": "{}"},
            ],
            builtin_tools=[{"name": "hang_up"}],
            metadata={"a": 1},
        )
        await client.send(type="user_input", text="call weather")
        await client.wait("tool_error")
        await client.send(type="tool_response", tool_call_id="call_A1", content={})
        await client.send(type="user_input", text="(The caller pressed 0 on the telephone keypad.)")
        await client.wait("tool_call", 2)
        await client.send(type="nonsense")
        await client.send(type="user_input", text="goodbye")
        await client.wait_closed()
        assert set(client.kinds) == set(TYPES)  # all twelve have been seen
        for _, message in client.log:
            judge(message)


def sdk_client(url: str, key: str) -> AsyncHumeClient:
    base = url.removesuffix("/chat")
    http = base.replace("ws://", "http://")
    return AsyncHumeClient(api_key=key, environment=HumeClientEnvironment(base=http, evi=base, tts=base, stream=base))


async def sdk_chat(url: str) -> list[Any]:
    """A real chat of the vendor's client, at real time (in asyncio, in a thread)."""
    seen: list[Any] = []
    audio = ConnectSessionSettingsAudio(encoding="linear16", sample_rate=8000, channels=1)
    settings = ConnectSessionSettings(audio=audio, variables={"age": 30})
    connect = sdk_client(url, "k").empathic_voice.chat.connect
    async with asyncio.timeout(30), connect(session_settings=settings, verbose_transcription=True) as socket:
        seen.append(await socket.recv())
        await socket.send_publish(UserInput(text="hello"))
        while seen[-1].type != "assistant_end":
            seen.append(await socket.recv())
        raw = b"".join(part.tobytes() for part in (tone(0.5), silence(1.0)))
        for start in range(0, len(raw), 320):
            data = base64.b64encode(raw[start : start + 320]).decode()
            await socket.send_publish(AudioInput(data=data))
        while sum(message.type == "assistant_end" for message in seen) < 2:
            seen.append(await socket.recv())
    return seen


async def sdk_refused(url: str) -> int | None:
    try:
        async with sdk_client(url, "wrong").empathic_voice.chat.connect():
            return None
    except ApiError as exc:
        return exc.status_code


# The SDK turns its models into dicts in pydantic's old way.
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
async def test_the_sdk_holds_a_chat(nursery: trio.Nursery) -> None:
    served = Emulator(EmulatorOptions(api_keys=frozenset({"k"}), rate=24_000, speed=20))
    url = await nursery.start(lambda task_status: serve_emulator(served, task_status=task_status))
    with trio.fail_after(60):
        seen = await trio.to_thread.run_sync(lambda: asyncio.run(sdk_chat(url)))
    kinds = [message.type for message in seen]
    assert kinds[0] == "chat_metadata"
    assert {"session_settings", "user_message", "assistant_message", "audio_output"} <= set(kinds)
    heard = [message for message in seen if message.type == "user_message" and not message.from_text]
    assert heard[-1].message.content == "(0.5 s of speech)"
    assert heard[-1].models.prosody is not None
    reply = [message for message in seen if message.type == "assistant_message"][-1]
    files = [read_wav(base64.b64decode(m.data)) for m in seen if m.type == "audio_output" and m.id == reply.id]
    assert sum(len(samples) for samples, _, _ in files) / 24_000 == pytest.approx(0.6, abs=0.02)
    (session,) = served.sessions
    with trio.fail_after(5):
        await session.ended.wait()
    assert session.close_code == 1000
    assert session.settings.variables == {"age": "30.0"}  # the SDK sends numbers as floats
    assert await trio.to_thread.run_sync(lambda: asyncio.run(sdk_refused(url))) == 401
