"""What a typed text asks of the agent."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sts_trio.lab.emulator.evi.settings import BuiltinTool, SessionSettings, Tool
from sts_trio.lab.emulator.text_commands import WantsAnswer, WantsEnd, WantsTool, pressed, understand

TRANSFER, HANG_UP, WEATHER = (
    Tool(type="function", name=name, parameters="{}") for name in ("dsai_transfer", "dsai_hangup", "weather")
)
DECLARED = SessionSettings(tools=[TRANSFER, HANG_UP, WEATHER], builtin_tools=[BuiltinTool(name="hang_up")])
PLAIN = SessionSettings()
HELP = WantsAnswer("How can I help you?")


def line(keys: str) -> str:
    return f"(The caller pressed {' '.join(keys)} on the telephone keypad.)"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Hello?", HELP),
        ("call weather", WantsTool(WEATHER, "{}")),
        ('call weather {"city":"Oslo"}', WantsTool(WEATHER, '{"city":"Oslo"}')),
        ("call weather {broken}", WantsTool(WEATHER, "{}")),
        ("call nobody", HELP),
        ("Goodbye!", WantsEnd()),
        (line("0"), WantsTool(TRANSFER, '{"transfer_extension":"2000"}', "I put you through.")),
        (line("9"), WantsTool(HANG_UP, "{}", "Thank you for calling. Goodbye.")),
        (line("12"), WantsAnswer(f"You said: {line('12')}")),
        (line("10"), WantsAnswer(f"You said: {line('10')}")),  # a longer number is no choice from a menu
        (line("#"), WantsAnswer(f"You said: {line('#')}")),
    ],
)
def test_what_a_text_asks_for(text: str, wanted: object) -> None:
    assert understand(text, DECLARED) == wanted


@pytest.mark.parametrize("text", ["call weather", "goodbye"])
@pytest.mark.parametrize("nothing", [PLAIN, SessionSettings(tools=[], builtin_tools=[]), SessionSettings(tools=None)])
def test_what_was_not_declared_is_just_text(text: str, nothing: SessionSettings) -> None:
    assert understand(text, nothing) == HELP


@pytest.mark.parametrize("keys", ["0", "9"])
def test_a_key_whose_tool_was_not_declared_is_given_back(keys: str) -> None:
    assert understand(line(keys), PLAIN) == WantsAnswer(f"You said: {line(keys)}")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("The caller pressed 0 on the keypad", "0"),
        ("(Caller pressed: 1, 2, 3 on the telephone keypad.)", "123"),
        ("pressed 123 (keypad)", "123"),
        ("pressed * # A D on the\nkeypad", "*#AD"),
        ("pressed a key on the keypad", None),
        ("pressed Doubt on the keypad", None),
        ("I pressed 5 charges", None),
        ("keypad 5", None),
    ],
)
def test_keys_are_read_from_any_line_that_is_close(text: str, keys: str | None) -> None:
    assert pressed(text) == keys


@given(st.text(alphabet="0123456789*#ABCD", min_size=1, max_size=32))
@settings(deadline=None)
def test_all_keys_of_a_line_are_read(keys: str) -> None:
    assert pressed(line(keys)) == keys


@given(st.text(max_size=300) | st.from_regex(re.compile(r"pressed[ 0-9A-D,]{0,60}.?keypad?")))
@settings(deadline=None)
def test_any_text_asks_for_something(text: str) -> None:
    assert isinstance(understand(text, DECLARED), WantsAnswer | WantsTool | WantsEnd)
