"""What the code says of itself stands in the pages as it says it: docs/generate.py has been run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from docs import generate, log_events
from sts_trio.call.handler import OTHER_REASONS, REASONS
from sts_trio.call.meter import CANCELLED, Cause
from sts_trio.cli import main

ROOT = Path(__file__).parents[2]
FILES = generate.generated()
ERRORS = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_what_the_code_says(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == FILES[name], "run .venv/bin/python docs/generate.py"


def test_a_part_that_is_not_up_to_date_is_replaced_and_nothing_else() -> None:
    text = "before\n<!-- settings: of the code -->\nold\nolder\n<!-- /settings -->\nafter\n"
    new = "before\n<!-- settings: of the code -->\nnew\n<!-- /settings -->\nafter\n"
    assert generate.with_part(text, "settings", "new\n") == new
    assert generate.with_part(new, "settings", "new\n") == new


@pytest.mark.parametrize("word", [*Cause, CANCELLED, *REASONS, *OTHER_REASONS])
def test_every_end_and_every_refusal_is_explained(word: str) -> None:
    assert ERRORS.count(f"\n| `{word}` |") == 2, f"once as the code has it, once with its meaning: {word}"


def test_every_command_is_in_the_first_table() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    for name, command in main.commands.items():
        if not command.hidden:
            assert f"\n| `{name}` |" in page, f"say in docs/reference/commands.md what `{name}` is for"


# How a line of the log is found in the source.


def said(source: str) -> dict[str, tuple[set[str], list[str]]]:
    """The events of a module, with levels and fields."""
    return {name: (levels, fields) for name, levels, fields in log_events._Module(ast.parse(source)).said()}


@pytest.mark.parametrize(
    ("source", "event", "levels", "fields"),
    [
        ('log.info("it began", call=1, **more)', "it began", {"info"}, ["call", "…"]),
        ('log.exception("it failed")', "it failed", {"error"}, ["exception"]),
        ('log.error("it failed", exc_info=group)', "it failed", {"error"}, ["exception"]),
        ('x = (LogWarning("odd", {"sent": sent}),)', "odd", {"action"}, ["sent"]),
        ('def f():\n  told = {"a": 1, "b": 2}\n  return LogWarning("odd", told)', "odd", {"action"}, ["a", "b"]),
        ('def f():\n  say = log.warning if x else log.info\n  say("over", a=1)', "over", {"warning", "info"}, ["a"]),
        ('def say(event, **f):\n  log.error(event, **f)\nsay("no room", why=1)', "no room", {"error"}, ["why"]),
        (
            'class A:\n  def f(self):\n    log.info("it", **self.g())\n  def g(self):\n    return {"leg": 1}',
            "it",
            {"info"},
            ["leg"],
        ),
    ],
)
def test_a_log_line_is_read_from_the_source(source: str, event: str, levels: set[str], fields: list[str]) -> None:
    assert said(source) == {event: (levels, fields)}


def test_no_event_of_the_service_is_missed() -> None:
    """Each call of a logger has a constant event, or is one that passes an event on."""
    known = {event.name for event in log_events.events()}
    for path in sorted(log_events.SOURCE.rglob("*.py")):
        if "lab" in path.relative_to(log_events.SOURCE).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and log_events._is_log(node.func):
                event = node.args[0]
                constant = isinstance(event, ast.Constant) and event.value in known
                assert constant or isinstance(event, ast.Name), f"{path.name}:{node.lineno} has no constant event"
    assert {"call began", "call ended", "refused at the door", "the session is lost; resuming"} <= known
