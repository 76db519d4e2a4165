"""The caller's script, frame by frame."""

from __future__ import annotations

from sts_trio.lab.harness.recording import Ear, Utterance
from sts_trio.lab.harness.script import (
    Player,
    Press,
    Slot,
    Speak,
    SpeakOver,
    Step,
    Unmet,
    Wait,
    WaitForAgent,
    WaitForSilence,
    plain_script,
)
from tests.lab.harness.harness_parrot import silence, voice


def play(
    steps: list[Step], ear: Ear, limit: float = 120.0
) -> tuple[Player, list[tuple[float, Utterance | Press | Unmet]]]:
    """Run a script to its end; return the player and its news with their times."""
    player, tick = Player(steps), 0
    news: list[tuple[float, Utterance | Press | Unmet]] = []
    while (slot := player.slot(now := (tick + 1) * 0.02, ear)).frame is not None:
        assert len(slot.frame) == 320
        news += [(round(now, 6), what) for what in slot.news]
        tick += 1
        assert now < limit, "the script does not end"
    return player, news + [(round(now, 6), what) for what in slot.news]


def test_speech_is_said_whole_and_padded_to_a_frame() -> None:
    player, _ = play([Speak(voice(0.05)), Speak(voice(0.04, seed=2))], Ear())
    assert player.line == voice(0.05) + silence(0.01) + voice(0.04, seed=2)
    assert player.utterances == [Utterance(0.0, voice(0.05), "speech"), Utterance(0.06, voice(0.04, seed=2), "speech")]


def test_waiting_is_silence_of_that_length() -> None:
    player, _ = play([Wait(1.0), Speak(voice(0.02))], Ear())
    assert player.line == silence(1.0) + voice(0.02)
    assert player.utterances[0].at == 1.0


def test_an_empty_script_is_over_at_once() -> None:
    assert Player([]).slot(0.02, Ear()) == Slot(None)


def test_a_key_is_pressed_without_a_frame_of_its_own() -> None:
    _, news = play([Wait(0.04), Press("5"), Press("#")], Ear())
    assert [what for _, what in news] == [Press("5"), Press("#")]


def test_the_caller_waits_for_the_agent_and_for_his_silence() -> None:
    ear = Ear()
    ear.audio(1.0, voice(2.0))
    player, news = play([WaitForAgent(0.5), Press("1"), WaitForSilence(0.5), Speak(voice(0.02))], ear)
    assert news[0] == (1.5, Press("1"))
    assert player.utterances[0].at == 3.48  # its frame leaves at 3.5 s
    assert len(news) == 2


def test_a_wait_that_is_not_met_is_given_up_and_told() -> None:
    _, news = play([WaitForAgent(limit=2.0), Press("1")], Ear())
    assert news == [(2.02, Unmet("WaitForAgent")), (2.02, Press("1"))]


def test_an_agent_who_never_stops_is_not_waited_for_without_end() -> None:
    ear = Ear()
    ear.audio(0.0, voice(60.0))
    _, news = play([WaitForSilence(limit=5.0)], ear)
    assert news == [(5.02, Unmet("WaitForSilence"))]


def test_a_barge_in_begins_while_the_agent_speaks() -> None:
    ear = Ear()
    ear.audio(1.0, voice(2.0))
    player, _ = play([SpeakOver(voice(0.5), after=0.6)], ear)
    assert player.utterances == [Utterance(1.58, voice(0.5), "barge-in", over=True)]


def test_there_is_no_barge_in_on_an_agent_who_is_silent() -> None:
    player, news = play([SpeakOver(voice(0.5), limit=1.0)], Ear())
    assert player.utterances == []
    assert [what for _, what in news] == [Unmet("SpeakOver")]


def test_the_plain_script_ends_with_and_without_an_agent() -> None:
    _, news = play(list(plain_script(voice(1.0))), Ear())
    assert [what for _, what in news if isinstance(what, Unmet)] == [Unmet("WaitForAgent")] * 2
