"""The page of a call: all of it in one file, nothing of a stranger's is more than text, and what it shows is so."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from sts_trio.lab.harness import wire
from sts_trio.lab.harness.recording import Recording, stereo
from sts_trio.lab.harness.report import Check, Event
from sts_trio.lab.page.call_page import call_page
from sts_trio.lab.page.happenings import MOST_EVENTS
from sts_trio.lab.page.sound import sound_of
from tests.lab.page.examples import EVENTS, EVIL, NOON, report
from tests.lab.page.reading import Read

if TYPE_CHECKING:
    from sts_trio.lab.harness.report import Ending


def test_what_strangers_say_is_text() -> None:
    checks = (Check(EVIL, EVIL, EVIL, passed=False),)
    read = Read(call_page(report(), address=f"ws://{EVIL}/", checks=checks, made=NOON))
    assert len(read.all("script")) == 1
    assert not read.all("img")
    assert "alert" not in read.script
    assert read.text.count(EVIL) >= 10
    assert not [name for _, each in read.found for name in each if name.startswith("on")]


def test_the_page_needs_nothing_from_outside_and_may_not_ask_for_it() -> None:
    read = Read(call_page(report(), made=NOON))
    addresses = [each[name] for _, each in read.found for name in ("src", "href") if name in each]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "url(" not in call_page(report(), made=NOON).decode()
    (policy,) = [each["content"] for each in read.all("meta") if "http-equiv" in each]
    assert policy.startswith("default-src 'none';")
    digest = base64.b64encode(hashlib.sha256(read.script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy


def test_the_player_has_the_recording_sample_for_sample() -> None:
    read = Read(call_page(report(), made=NOON))
    (audio,) = read.all("audio")
    kind, _, data = audio["src"].partition(";base64,")
    assert kind == "data:audio/flac"
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="int16")
    assert rate == 8000
    assert np.array_equal(heard, stereo(report().recording))


def test_the_size_of_the_page_is_bounded() -> None:
    """Five minutes, the longest call there is, of noise on both sides, which no codec can make small."""
    noise = np.random.default_rng(1).integers(-8000, 8000, 300 * 8000).astype("<i2").tobytes()
    events = tuple(Event(n / 10, wire.Transcript("agent", "x" * 9000)) for n in range(3000))
    page = call_page(report(events=events, recording=Recording(noise, noise[::-1])), made=NOON)
    read = Read(page)
    assert read.all("audio")[0]["src"].startswith("data:audio/mpeg;base64,")
    assert len(page) < 5_000_000
    assert len(read.all("ol")) == 1
    assert len(read.all("li")) < MOST_EVENTS + 10
    assert f"and {3000 - MOST_EVENTS} more events" in read.text


def test_both_forms_of_sound_are_as_long_as_the_call() -> None:
    recording = report().recording
    for most, form in ((10**9, "FLAC"), (0, "MP3")):
        with soundfile.SoundFile(io.BytesIO(sound_of(recording, most).data)) as file:
            assert file.format == form
            assert file.frames / file.samplerate == pytest.approx(recording.seconds, abs=0.15)


def test_events_and_latencies_stand_where_they_were() -> None:
    read = Read(call_page(report(), made=NOON))
    marks = [mark for mark in read.all("a", "mark") if "style" in mark]
    places = [float(re.search(r"--place:([\d.]+)%", mark["style"])[1]) for mark in marks]  # type: ignore[index]
    assert places == pytest.approx([event.at / 6 * 100 for event in EVENTS[:-1]], abs=0.01)  # audio is no event
    assert [mark["class"].split()[1] for mark in marks] == [
        "agent", "agent", "caller", "caller", "stop", "error", "odd", "key", "odd",
    ]  # fmt: skip
    first, answer = read.all("div", "answer")
    assert first["style"] == "left:0.0%;width:1.667%"
    assert answer["style"] == "left:50.0%;width:8.333%"  # from 3.0 s to 3.5 s
    assert "500 ms" in read.text
    (timeline,) = [each for each in read.all("div") if each.get("role") == "slider"]
    assert (timeline["tabindex"], timeline["aria-valuemax"]) == ("0", "6.0")


@pytest.mark.parametrize(
    ("ended", "events", "checks", "words"),
    [
        ("script", EVENTS[:5], (), "The call went through"),
        ("script", EVENTS, (), "The call failed"),  # there was an error
        ("limit", EVENTS[:5], (), "The call failed"),
        ("script", EVENTS[:5], (Check("likeness", "0.2", "1", passed=False),), "The call failed"),
        ("caller", EVENTS, (Check("likeness", "-", "1", passed=False),), "The call was broken off after 6.0 s"),
    ],
)
def test_how_it_went_is_said_first(
    ended: Ending, events: tuple[Event, ...], checks: tuple[Check, ...], words: str
) -> None:
    page = call_page(report(ended, events), checks=checks, made=NOON).decode()
    assert re.search(r"<h1[^>]*>([^<]*)</h1>", page)[1] == words  # type: ignore[index]
    assert ("not reached" in page) == (ended == "caller")


def test_a_call_in_which_nothing_happened_has_a_page() -> None:
    read = Read(call_page(report(events=(), recording=Recording(b"", b"")), made=NOON))
    assert "Nothing." in read.text
    assert "nan" not in read.text.lower()
