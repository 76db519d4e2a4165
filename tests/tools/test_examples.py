"""The examples do what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from sts_trio.tools import CallContext
from sts_trio.tools.custom import load_tools
from sts_trio.tools.tool import ToolResult
from tests.tools.http_server import free_port, reply, serving

if TYPE_CHECKING:
    from sts_trio.tools.tool import Tool

CALL = CallContext("u-1", {"from": "2000"})


@pytest.fixture(scope="module")
def examples() -> dict[str, Tool]:
    directory = Path(__file__).parents[2] / "examples" / "tools"
    loaded = load_tools(directory, explicit=True, seconds=8)
    assert not loaded.problems
    return {tool.name: tool for tool in loaded.tools}


def test_every_example_is_loaded_and_described(examples: dict[str, Tool]) -> None:
    assert set(examples) == {"open_ticket", "opening_hours"}
    for tool in examples.values():
        schema = json.loads(tool.parameters)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert tool.description
        assert all(part["description"] for part in schema["properties"].values())


@pytest.mark.parametrize(
    ("arguments", "content"),
    [
        ('{"day": "wednesday"}', "9:00 to 13:00"),
        ('{"day": "sunday"}', "closed all day"),
        (
            "",
            '{"monday":"9:00 to 18:00","tuesday":"9:00 to 18:00","wednesday":"9:00 to 13:00",'
            '"thursday":"9:00 to 18:00","friday":"9:00 to 16:00"}',
        ),
    ],
)
async def test_opening_hours(examples: dict[str, Tool], arguments: str, content: str) -> None:
    assert await examples["opening_hours"].run(arguments, CALL) == ToolResult(content)


async def test_opening_hours_of_no_day(examples: dict[str, Tool]) -> None:
    result = await examples["opening_hours"].run('{"day": "someday"}', CALL)
    assert result == ToolResult("wrong arguments for opening_hours: `day`: Invalid enum value 'someday'", failed=True)


async def test_open_ticket(examples: dict[str, Tool], monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(reply(201, {"number": 17})) as server:
        monkeypatch.setenv("TICKETS_URL", f"{server.url}/api/tickets")
        result = await examples["open_ticket"].run('{"summary": "No dial tone", "urgency": "high"}', CALL)
    assert result == ToolResult("Ticket 17 is open.")
    assert json.loads(server.asked[0].body) == {
        "summary": "No dial tone",
        "urgency": "high",
        "caller": "2000",
        "call": "u-1",
    }


async def test_open_ticket_without_a_ticket_system(examples: dict[str, Tool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETS_URL", f"http://127.0.0.1:{await free_port()}/")
    result = await examples["open_ticket"].run('{"summary": "No dial tone"}', CALL)
    assert result == ToolResult("The ticket system cannot be reached now. Offer to call back.", failed=True)
