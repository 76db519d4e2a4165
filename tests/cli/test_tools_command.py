"""`sts-trio tools`: what agents are told of the operator's tools, and one of them run by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from sts_trio.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

ORDER = '''
from sts_trio.tools import CallContext, ToolError

def order(number: str, call: CallContext, parts: list[int] = [], express: bool = False) -> dict:
    """Look an order up.

    Args:
        number: As on the invoice.
    """
    print("asked for", number)
    if number == "0":
        raise ToolError("there is no such order")
    if number == "1":
        return {"left": 1 / 0}
    return {"number": number, "parts": parts, "express": express, "call": call.uuid, "from": call.query.get("from")}
'''


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "order.py").write_text(ORDER)
    monkeypatch.chdir(tmp_path)
    for name in ("TOOLS_DIR", "AMI_URL", "HUMEAI_API_KEY", "HUME_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "tools"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["tools", *arguments])


pytestmark = pytest.mark.usefixtures("restored_logging", "directory")


def test_a_tool_is_shown_as_the_agent_is_told_of_it() -> None:
    done = run()
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert (told["name"], told["description"]) == ("order", "Look an order up.")
    assert told["parameters"]["required"] == ["number"]
    assert told["parameters"]["properties"]["number"] == {"type": "string", "description": "As on the invoice."}
    assert "call" not in told["parameters"]["properties"]


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        (["number=007"], {"number": "007", "parts": [], "express": False, "call": None, "from": None}),
        (
            ["number=a=b", "parts=[1, 2]", "express=true", "--uuid", "u-1", "--query", "from=100"],
            {"number": "a=b", "parts": [1, 2], "express": True, "call": "u-1", "from": "100"},
        ),
        (
            ['{"number": "x", "parts": [3]}'],
            {"number": "x", "parts": [3], "express": False, "call": None, "from": None},
        ),
    ],
)
def test_a_tool_is_run_as_a_call_would_run_it(arguments: list[str], result: dict[str, object]) -> None:
    done = run("order", *arguments)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == result  # and nothing else: it can be piped into something
    assert "order printed:\nasked for " in done.stderr
    assert "order answered after " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["order", "number=0"], 1, "the agent is told: there is no such order"),
        (["order", "number=1"], 1, "order raised ZeroDivisionError: division by zero ("),
        (["order", "number=1"], 1, "order.py, line 14)"),
        (["order"], 1, "the agent is told: wrong arguments for order: Object missing required field `number`"),
        (["order", "number=1", "parts=many"], 1, "wrong arguments for order: `parts`: Expected `array`"),
        (["order", "nummer=1"], 2, "order has no parameter nummer; it has: number, parts, express"),
        (["order", "number"], 2, "an argument must be KEY=VALUE, and not 'number'"),
        (["ordre"], 2, "there is no tool ordre in tools; there are: order"),
        (["order", "number=1", "--query", "from"], 2, "--query must be KEY=VALUE"),
        (["--uuid", "u-1"], 2, "--uuid and --query are for a tool that is run"),
    ],
)
def test_what_goes_wrong_is_told_to_people(arguments: list[str], code: int, words: str) -> None:
    done = run(*arguments)
    assert done.exit_code == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_tool_is_told_beside_those_that_are(directory: Path) -> None:
    (directory / "broken.py").write_text("def broken(:\n")
    done = run()
    assert done.exit_code == 1
    assert '"name": "order"' in done.stdout
    assert "tools/broken.py:1: this is not Python" in done.stderr
    assert "tools/broken.py:1: this is not Python" in run("broken").stderr


def test_call_control_needs_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMI_URL", "http://127.0.0.1:1")
    assert '"name": "dsai_transfer"' in run().stdout
    done = run("dsai_hangup")
    assert done.exit_code == 1
    assert "gave this call no id" in done.stderr


def test_without_tools_it_says_where_they_would_come_from(directory: Path) -> None:
    (directory / "order.py").unlink()
    done = run()
    assert done.exit_code == 0
    assert "put Python files into TOOLS_DIR" in done.stdout


def test_a_wrong_setting_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOL_SECONDS", "soon")
    done = run()
    assert done.exit_code == 2
    assert done.stderr.startswith("sts-trio: TOOL_SECONDS is 'soon'")
