"""Whole chats over an in-memory stream, in mock time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soxr
import trio
import trio.testing

from sts_trio.lab.emulator import (
    CloseWith,
    Emulator,
    EmulatorOptions,
    Mute,
    Refuse,
    Reset,
    Script,
    SendError,
    SendGarbage,
    SendRaw,
    serve_emulator,
    serve_stream,
)
from tests.lab.emulator.evi_client import KEY, PHONE, open_chat, read_to_end, refused, silence, snr_db

if TYPE_CHECKING:
    from trio.testing import MockClock


def emulator(**options: Any) -> Emulator:
    return Emulator(EmulatorOptions(seed=7, **options))


def speech(seconds: float = 2.0) -> np.ndarray:
    """Something with a shape: a rising and falling sweep."""
    t = np.arange(round(seconds * 8000)) / 8000
    envelope = np.minimum(1, np.minimum(t, seconds - t) / 0.05)
    swept: np.ndarray = np.rint(9000 * envelope * np.sin(2 * np.pi * (300 * t + 400 * t**2))).astype(np.int16)
    return swept


# --- the handshake ---


@pytest.mark.parametrize("how", ["header", "api_key", "access_token"])
async def test_a_good_key_opens_a_chat(how: str, autojump_clock: MockClock) -> None:
    served = emulator(api_keys=frozenset({"k"}))
    query = PHONE if how == "header" else f"{PHONE}&{how}=k"
    async with open_chat(served, query, headers=KEY if how == "header" else []) as client:
        await client.wait("session_settings")
        assert client.kinds == ["chat_metadata", "session_settings"]


async def test_a_bad_key_or_path_does_not(autojump_clock: MockClock) -> None:
    served = emulator(api_keys=frozenset({"k"}))
    none = await refused(served, headers=[])
    assert none.status_code == 401
    assert none.body is not None
    assert b"key" in none.body
    wrong = [(b"X-Hume-Api-Key", b"other")]
    assert (await refused(served, headers=wrong)).status_code == 401
    assert (await refused(served, path="/v0/evi/tts")).status_code == 404
    assert (await refused(served, "&".join(f"a{n}=1" for n in range(1001)))).status_code == 400
    assert (served.refused, served.live) == (4, ())


# --- turns ---


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 1), (24_000, 2)])
@pytest.mark.parametrize("as_json", [False, True])
async def test_a_turn_comes_back_in_the_callers_voice(
    rate: int, channels: int, as_json: bool, autojump_clock: MockClock
) -> None:
    served = emulator(rate=rate, channels=channels)
    said = np.concatenate((silence(0.5), speech(), silence(1.0)))
    async with open_chat(served) as client:
        await client.speak(said, as_json=as_json)
        await client.wait("assistant_end")
        order = client.kinds[2:]
        assert order[:2] == ["user_message", "assistant_message"]
        assert order[-2:] == ["assistant_prosody", "assistant_end"]
        assert set(order[2:-2]) == {"audio_output"}
        user, agent = client.all("user_message")[0], client.all("assistant_message")[0]
        assert user["message"]["content"] == "(2.0 s of speech)"
        assert user["time"]["begin"] == pytest.approx(500, abs=50)
        up, got_rate = client.audio(agent["id"])
        assert got_rate == rate
        back = np.rint(soxr.resample(up.astype(float), rate, 8000, quality="VHQ")).astype(np.int16)
        start = round(user["time"]["begin"] * 8) - 800  # 100 ms of padding
        assert snr_db(said[start : start + len(back)], back) > 50
        (session,) = served.live
        assert session.caller_audio == said.astype("<i2").tobytes()
        assert session.messages_received == math.ceil(len(said) / 160)


async def test_the_reply_is_sent_faster_than_it_plays(autojump_clock: MockClock) -> None:
    async with open_chat(emulator(speed=4.0, chunk_ms=(100, 100))) as client:
        await client.speak(speech(), silence(0.9))
        await client.wait("assistant_end")
        times = client.times("audio_output")
        assert np.diff(times) == pytest.approx(0.025, abs=1e-6)
        assert len(times) == pytest.approx(21, abs=1)


async def test_at_infinite_speed_it_comes_at_once(autojump_clock: MockClock) -> None:
    async with open_chat(emulator(speed=math.inf)) as client:
        await client.speak(speech(), silence(0.9))
        await client.wait("assistant_end")
        assert len(set(client.times("audio_output"))) == 1


async def test_speaking_over_it_stops_it_at_once(autojump_clock: MockClock) -> None:
    async with open_chat(emulator(speed=1.0)) as client:
        await client.speak(speech(6.0), silence(0.82))
        await client.wait("audio_output")
        begin = trio.current_time()
        await client.speak(speech(3.0), silence(1.0))
        (at,) = client.times("user_interruption")
        assert at - begin == pytest.approx(0.8, abs=0.05)
        first, second = (message["id"] for message in client.all("assistant_message"))
        late = [t for t, m in client.log if m["type"] == "audio_output" and m["id"] == first and t >= at]
        assert late == []
        await client.wait("assistant_end")
        assert len(client.all("assistant_end")) == 1  # the one that was cut off has none
        heard, rate = client.audio(second)
        assert len(heard) / rate == pytest.approx(3.2, abs=0.1)


async def test_speaking_over_what_is_only_played_interrupts_too(autojump_clock: MockClock) -> None:
    async with open_chat(emulator(speed=math.inf)) as client:
        await client.speak(speech(6.0), silence(0.82))
        await client.wait("assistant_end")
        await client.speak(speech(1.0))
        await client.wait("user_interruption")


async def test_a_short_word_does_not_interrupt(autojump_clock: MockClock) -> None:
    async with open_chat(emulator(speed=1.0)) as client:
        await client.speak(speech(4.0), silence(0.82), speech(0.6), silence(1.0))
        await client.wait("assistant_end", 2)
        assert "user_interruption" not in client.kinds


async def test_interim_transcripts_come_first_when_verbose(autojump_clock: MockClock) -> None:
    async with open_chat(emulator(), PHONE + "&verbose_transcription=true") as client:
        await client.speak(speech(), silence(0.9))
        await client.wait("assistant_end")
        interim = [message["interim"] for message in client.all("user_message")]
        assert interim[-1] is False
        assert interim[:-1] == [True] * (len(interim) - 1)
        assert len(interim) >= 3


async def test_undeclared_audio_is_met_with_silence_until_it_is_declared(autojump_clock: MockClock) -> None:
    async with open_chat(emulator(), "") as client:
        await client.speak(speech(), silence(1.0))
        await trio.sleep(5)
        assert client.kinds == ["chat_metadata", "session_settings"]
        await client.send(type="session_settings", audio={"encoding": "linear16", "sample_rate": 8000, "channels": 1})
        await client.speak(speech(), silence(1.0))
        await client.wait("assistant_end")


async def test_who_stops_sending_is_not_answered(autojump_clock: MockClock) -> None:
    async with open_chat(emulator()) as client:
        await client.speak(speech())
        await trio.sleep(10)
        assert "user_message" not in client.kinds


async def test_an_odd_byte_does_not_shift_the_phase(autojump_clock: MockClock) -> None:
    said = np.concatenate((speech(), silence(1.0)))
    raw = said.astype("<i2").tobytes()
    async with open_chat(emulator(rate=8000)) as client:
        for start in range(0, len(raw), 321):
            await client.connection.send_message(raw[start : start + 321])
        await client.wait("assistant_end")
        back, _ = client.audio(client.all("assistant_message")[0]["id"])
        lead = 800 - round(client.all("user_message")[0]["time"]["begin"] * 8)  # cut short: speech began at once
        np.testing.assert_array_equal(back, said[max(-lead, 0) :][: len(back)])


# --- text, greeting, pause, tools ---


async def test_the_greeting_of_a_config_and_of_the_client(autojump_clock: MockClock) -> None:
    served = emulator(greetings={"c1": "Welcome."})
    async with open_chat(served, PHONE + "&config_id=c1") as client:
        await client.wait("assistant_end")
        (message,) = client.all("assistant_message")
        assert (message["message"]["content"], message["from_text"]) == ("Welcome.", False)
    async with open_chat(served) as client:
        await client.send(type="assistant_input", text="Hello there.")
        await client.wait("assistant_end")
        (message,) = client.all("assistant_message")
        assert (message["message"]["content"], message["from_text"]) == ("Hello there.", True)
        samples, rate = client.audio(message["id"])
        assert len(samples) / rate == pytest.approx(2.31, abs=0.01)
        assert "user_message" not in client.kinds


async def test_pause_and_resume(autojump_clock: MockClock) -> None:
    async with open_chat(emulator(speed=1.0)) as client:
        await client.send(type="assistant_input", text="A long greeting.")
        await client.wait("audio_output", 3)
        await client.send(type="pause_assistant_message")
        await client.send(type="user_input", text="one")
        await client.send(type="user_input", text="two")
        await client.wait("user_message", 2)
        before = len(client.all("audio_output"))
        await trio.sleep(20)
        assert len(client.all("audio_output")) == before
        await client.send(type="resume_assistant_message")
        await client.wait("assistant_end")
        assert len(client.all("assistant_message")) == 2


async def test_a_tool_over_the_wire_and_its_time_limit(autojump_clock: MockClock) -> None:
    async with open_chat(emulator()) as client:
        await client.send(type="session_settings", tools=[{"type": "function", "name": "weather", "parameters": "{}"}])
        await client.send(type="user_input", text='call weather {"city":"Oslo"}')
        call = await client.wait("tool_call")
        await client.send(type="tool_response", tool_call_id=call["tool_call_id"], content="Rain.")
        assert (await client.wait("assistant_message"))["message"]["content"] == "Rain."
        await client.send(type="user_input", text="call weather")
        await client.wait("tool_call", 2)
        asked = trio.current_time()
        await client.wait("tool_error")
        assert trio.current_time() - asked == pytest.approx(10.0)


async def test_answers_to_tools_and_typed_texts_are_kept_for_a_test_to_see(autojump_clock: MockClock) -> None:
    served = emulator()
    async with open_chat(served) as client:
        await client.send(type="session_settings", tools=[{"type": "function", "name": "weather", "parameters": "{}"}])
        await client.send(type="user_input", text="call weather")
        call = (await client.wait("tool_call"))["tool_call_id"]
        await client.send(type="tool_response", tool_call_id=call, content={"sky": "grey"})
        malformed = await client.wait("tool_error")
        assert (malformed["tool_call_id"], malformed["code"]) == (call, "E0101")
        (session,) = served.live
        assert session.tool_answers == {}
        await client.send(type="tool_response", tool_call_id=call, content="Rain.")
        await client.wait("assistant_end")
        await client.send(type="tool_error", tool_call_id=call, error="again")
        await client.send(type="tool_response", tool_call_id="call_nobody", content="x" * 200_000)
        await client.wait("tool_error", 3)
        assert [message["tool_call_id"] for message in client.all("tool_error")] == [call, call, "call_nobody"]
        again, nobody = session.tool_answers[call], session.tool_answers["call_nobody"]
        assert [answer.content for answer in again] == ["Rain.", None]
        assert [len(answer.content or "") for answer in nobody] == [100_000]
        for number in range(150):
            await client.send(type="user_input", text=f"text {number}")
            await client.send(type="tool_error", tool_call_id="flood", error="e")
        await client.wait("user_message", 151)
        assert session.user_inputs == tuple(f"text {number}" for number in range(50, 150))
        assert sum(map(len, session.tool_answers.values())) == 100


async def test_variables_fill_the_greeting_of_a_config_and_the_prompt(autojump_clock: MockClock) -> None:
    served = emulator(greetings={"c1": "Hello {{name}}."})
    query = f"{PHONE}&config_id=c1&session_settings[variables][name]=Ada"
    async with open_chat(served, query) as client:
        assert (await client.wait("assistant_message"))["message"]["content"] == "Hello Ada."
        await client.send(type="session_settings", system_prompt="ChatProtocol to {{name}}.")
        await client.send(type="assistant_input", text="{{name}} as it stands")
        assert (await client.wait("assistant_message", 2))["message"]["content"] == "{{name}} as it stands"
        (session,) = served.live
        assert session.prompt == "ChatProtocol to Ada."


async def test_a_temporary_context_is_for_the_next_reply_and_a_persistent_one_stays(autojump_clock: MockClock) -> None:
    async with open_chat(emulator()) as client:

        async def reply(number: int) -> str:
            words: str = (await client.wait("assistant_message", number))["message"]["content"]
            return words

        await client.send(type="session_settings", context={"text": "once"})
        await client.send(type="assistant_input", text="Verbatim.")
        await client.speak(speech(), silence(1.0))
        assert await reply(1) == "Verbatim."
        assert await reply(2) == "You said: (2.0 s of speech) {Context: once}"
        await client.send(type="user_input", text="hi")
        assert await reply(3) == "How can I help you?"
        await client.send(type="session_settings", context={"text": "always", "type": "persistent"})
        for number in (4, 5):
            await client.send(type="user_input", text="hi")
            assert await reply(number) == "How can I help you? {Context: always}"


async def test_a_good_bye_is_sent_before_the_tool_that_hangs_up(autojump_clock: MockClock) -> None:
    async with open_chat(emulator()) as client:
        tools = [{"type": "function", "name": "dsai_hangup", "parameters": "{}"}]
        await client.send(type="session_settings", tools=tools)
        await client.send(type="user_input", text="(The caller pressed 9 on the telephone keypad.)")
        call = await client.wait("tool_call")
        order = client.kinds[client.kinds.index("user_message") :]
        assert order[:2] == ["user_message", "assistant_message"]
        assert order[-2:] == ["assistant_prosody", "tool_call"]
        assert set(order[2:-2]) == {"audio_output"}
        await client.send(type="tool_response", tool_call_id=call["tool_call_id"], content="Done.")
        await client.wait("assistant_end")


async def test_hang_up_closes_with_1000_after_the_farewell(autojump_clock: MockClock) -> None:
    async with open_chat(emulator()) as client:
        await client.send(type="session_settings", builtin_tools=[{"name": "hang_up"}])
        await client.send(type="user_input", text="goodbye")
        assert (await client.wait_closed()).code == 1000
        assert client.kinds[-2:] == ["assistant_end", "tool_response"]


async def test_the_clients_session_id_is_on_every_message(autojump_clock: MockClock) -> None:
    query = PHONE + "&session_settings[custom_session_id]=call-7"
    async with open_chat(emulator(), query) as client:
        await client.send(type="user_input", text="hi")
        await client.wait("assistant_end")
        assert {message.get("custom_session_id") for _, message in client.log} == {"call-7"}
        await client.send(type="user_input", text="hi", custom_session_id="call-8")
        assert (await client.wait("user_message", 2))["custom_session_id"] == "call-8"


async def test_the_echo_never_shows_a_key(autojump_clock: MockClock) -> None:
    async with open_chat(emulator(), PHONE + "&session_settings[language_model_api_key]=secret") as client:
        assert "secret" not in str(await client.wait("session_settings"))


# --- limits, errors, resume ---


async def test_inactivity_counts_user_messages_not_audio(autojump_clock: MockClock) -> None:
    async with open_chat(emulator()) as client:
        begin = trio.current_time()
        await client.speak(silence(30))
        await client.send(type="user_input", text="hi")
        await client.wait("user_message")
        assert (await client.wait_closed()).code == 1000
        assert trio.current_time() - begin == pytest.approx(150, abs=0.1)
        assert client.log[-1][1]["code"] == "E0714"


async def test_the_maximum_length(autojump_clock: MockClock) -> None:
    served = emulator(inactivity=math.inf)
    async with open_chat(served) as client:
        begin = trio.current_time()
        assert (await client.wait_closed()).code == 1000
        assert trio.current_time() - begin == pytest.approx(1800)
        assert (client.log[-1][1]["type"], client.log[-1][1]["code"]) == ("error", "E0715")
        (session,) = served.ended
        assert (session.close_code, session.closed_by_server) == (1000, True)


async def test_errors_that_do_not_end_a_chat_and_ten_that_do(autojump_clock: MockClock) -> None:
    async with open_chat(emulator()) as client:
        await client.connection.send_message("{")
        await client.send(type="audio_input", data="%")
        await client.send(type="user_input")
        await client.wait("error", 3)
        assert [error["code"] for error in client.all("error")] == ["E0100", "E0201", "E0101"]
        for _ in range(9):
            await client.send(type="user_input")
        assert (await client.wait_closed()).code == 1000
        assert len(client.all("error")) == 12


async def test_wrong_settings_in_the_query_are_an_error_and_no_audio_is_heard(
    autojump_clock: MockClock,
) -> None:
    async with open_chat(emulator(), "session_settings[audio][sample_rate]=8000") as client:
        assert (await client.wait("error"))["code"] == "E0101"
        await client.speak(speech(), silence(1.0))
        assert "user_message" not in client.kinds


async def test_an_unknown_config_ends_the_chat(autojump_clock: MockClock) -> None:
    served = emulator(known_configs=frozenset({"c1"}))
    async with open_chat(served, PHONE + "&config_id=c2") as client:
        await client.wait_closed()
        assert [message["code"] for _, message in client.log] == ["I0100"]
    async with open_chat(served, PHONE + "&config_id=c1") as client:
        await client.wait("chat_metadata")


async def test_resume_keeps_the_group_not_the_settings_and_does_not_greet(autojump_clock: MockClock) -> None:
    served = emulator(greetings={None: "Welcome."})
    async with open_chat(served) as client:
        first = await client.wait("chat_metadata")
        await client.wait("assistant_end")
    async with open_chat(served, f"resumed_chat_group_id={first['chat_group_id']}") as client:
        second = await client.wait("chat_metadata")
        assert second["chat_group_id"] == first["chat_group_id"]
        assert second["chat_id"] != first["chat_id"]
        assert "audio" not in await client.wait("session_settings")
        await trio.sleep(3)
        assert "assistant_message" not in client.kinds
    async with open_chat(served, "resumed_chat_group_id=nobody") as client:
        await client.wait_closed()
        assert [message["code"] for _, message in client.log] == ["E0708"]


# --- many, hostile, scripted ---


async def test_six_chats_at_once_and_a_bad_client_disturbs_none(autojump_clock: MockClock) -> None:
    served = emulator()

    async def one(seconds: float, results: dict[float, str]) -> None:
        async with open_chat(served) as client:
            await client.speak(speech(seconds), silence(1.0))
            results[seconds] = (await client.wait("user_message"))["message"]["content"]
            await client.wait("assistant_end")

    results: dict[float, str] = {}
    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(one, 1.0 + number / 2, results)
        for junk in (b"", b"junk\r\n\r\n", b"GET /chat HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HT"):
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(serve_stream, served, theirs)
            await ours.send_all(junk)
            await ours.aclose()
    assert results == {n: f"({n:.1f} s of speech)" for n in (1.0, 1.5, 2.0, 2.5, 3.0, 3.5)}
    assert served.live == ()
    assert [session.close_code for session in served.ended] == [1000] * 6


async def test_bytes_behind_the_upgrade_and_wild_frames_end_only_that_connection(
    autojump_clock: MockClock,
) -> None:
    served = emulator()
    async with trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(serve_stream, served, theirs)
        await ours.send_all(
            b"GET /chat?api_key=k HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n\xff\xff\xff\xff"
        )
        await read_to_end(ours)
    async with open_chat(served) as client:
        await client.wait("chat_metadata")
        await client.stream.send_all(b"\xff\xff\xff\xff")
        await client.wait_closed()
        (session,) = [one for one in served.sessions if one.connection == 1]
        await session.ended.wait()
    assert served.live == ()


async def test_a_silent_client_is_given_ten_seconds_for_its_handshake(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    begin = trio.current_time()
    await serve_stream(emulator(), theirs)
    assert trio.current_time() - begin == pytest.approx(10)
    assert await ours.receive_some() == b""


async def test_a_client_that_leaves_in_its_handshake_is_not_waited_for(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    begin = trio.current_time()
    await ours.send_all(b"GET /chat HTTP/1.1\r\nHo")
    await ours.aclose()
    await serve_stream(emulator(), theirs)
    assert trio.current_time() == begin


async def test_even_a_fault_of_our_own_stays_in_its_connection(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def faulty() -> None:
        raise ZeroDivisionError

    theirs.receive_stream.receive_some_hook = faulty
    await ours.send_all(b"GET")
    await serve_stream(emulator(), theirs)
    assert await ours.receive_some() == b""


async def test_a_client_that_does_not_read_is_dropped(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    served = emulator()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, served, theirs)
        await ours.send_all(
            b"GET /chat?api_key=k HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await ours.receive_some()  # the 101, and no more
    assert [session.close_code for session in served.ended] == [1006]


async def test_pings_are_answered(autojump_clock: MockClock) -> None:
    async with open_chat(emulator()) as client:
        with trio.fail_after(1):
            await client.connection.ping()


async def test_close_codes_of_the_client_are_noted(autojump_clock: MockClock) -> None:
    served = emulator()
    async with open_chat(served) as client:
        session = served.live[0]
        await client.wait("chat_metadata")
        await client.connection.aclose(code=3333)
    await session.ended.wait()
    assert (session.close_code, session.closed_by_server) == (3333, False)


async def test_a_lost_client_is_noted(autojump_clock: MockClock) -> None:
    served = emulator()
    async with open_chat(served) as client:
        session = served.live[0]
        await client.wait("chat_metadata")
        await trio.aclose_forcefully(client.stream)
        await session.ended.wait()
    assert session.close_code == 1006


async def test_what_is_kept_of_the_callers_audio_is_bounded(autojump_clock: MockClock) -> None:
    served = emulator(inactivity=math.inf)
    async with open_chat(served) as client:
        for number in range(200):
            await client.connection.send_message(np.full(8000, number, "<i2").tobytes())
        await client.connection.ping()
        await client.send(type="user_input", text="hi")
        await client.wait("user_message")
        (session,) = served.live
        assert session.chat.caller_bytes == 200 * 16_000
        assert 120 * 16_000 <= len(session.caller_audio) <= 130 * 16_000
        assert session.caller_audio[-2:] == b"\xc7\x00"


def scripted(*steps: Any, **script: Any) -> Emulator:
    """An emulator whose first connection goes wrong, and no other."""
    return emulator(script=lambda number: Script(steps=steps, **script) if number == 0 else Script())


async def test_a_scripted_refusal_is_for_one_connection(autojump_clock: MockClock) -> None:
    served = scripted(handshake=Refuse(503))
    assert (await refused(served)).status_code == 503
    async with open_chat(served) as client:
        await client.wait("chat_metadata")


async def test_a_mute_handshake(autojump_clock: MockClock) -> None:
    with trio.move_on_after(60) as scope:
        async with open_chat(scripted(handshake=Mute())):
            pass
    assert scope.cancelled_caught


async def test_no_metadata_then_words_then_an_error_then_a_close(autojump_clock: MockClock) -> None:
    steps = (SendRaw(1.0, '{"type":"later","x":1}'), SendError(2.0, "E0300"), CloseWith(3.0, 1011, "trouble"))
    served = scripted(*steps, metadata=False)
    async with open_chat(served) as client:
        reason = await client.wait_closed()
        assert (reason.code, reason.reason) == (1011, "trouble")
        assert client.kinds == ["later", "error"]
        assert client.times("error")[0] == pytest.approx(trio.current_time() - 1)
    assert (served.ended[0].close_code, served.ended[0].closed_by_server) == (1011, True)


@pytest.mark.parametrize("step", [Reset(1.0), SendGarbage(1.0, b"\xff" * 20)])
async def test_reset_and_garbage(step: Any, autojump_clock: MockClock) -> None:
    async with open_chat(scripted(step)) as client:
        await client.wait_closed()
        assert client.closed is None or client.closed.code in (1002, 1006)


async def test_the_same_seed_makes_the_same_ids(autojump_clock: MockClock) -> None:
    ids = []
    for _ in range(2):
        async with open_chat(emulator()) as client:
            ids.append((await client.wait("chat_metadata"))["chat_id"])
    assert ids[0] == ids[1]


# --- on a socket ---


async def test_it_serves_on_loopback_and_resets_hard(nursery: trio.Nursery) -> None:
    served = emulator(script=lambda _: Script(steps=(Reset(0.1),)))
    url = await nursery.start(lambda task_status: serve_emulator(served, task_status=task_status))
    assert url.startswith("ws://127.0.0.1:")
    assert url.endswith("/v0/evi/chat")
    stream = await trio.open_tcp_stream("127.0.0.1", int(url.split(":")[2].split("/")[0]))
    await stream.send_all(
        b"GET /chat?api_key=k HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):  # RST, not a plain end
        await read_to_end(stream)
    await stream.aclose()
