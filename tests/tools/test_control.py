"""Transfer and hang-up through the AMI service, against a real HTTP server in its place."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING

import jsonschema
import pytest
import structlog
import trio

from sts_trio.http_client import HttpClient
from sts_trio.tools import CallContext
from sts_trio.tools.control import AmiClient, AmiFailed, call_control_tools, hang_up
from sts_trio.tools.tool import ToolResult
from tests.tools.http_server import HttpServer, dripping, flooding, free_port, raw, reply, serving, silence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from structlog.typing import EventDict

    from tests.tools.http_server import Answer

UUID = "0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11"
CALL = CallContext(UUID, {"from": "+15550100"})
QUEUED = {"message": f"Call with UUID {UUID} redirect with action: 1763789000123"}
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def http() -> HttpClient:
    return HttpClient(ssl.create_default_context())


@pytest.fixture
def lines() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as logs:
        yield logs


def ami(server: HttpServer, http: HttpClient, seconds: float = 2) -> AmiClient:
    return AmiClient(server.url, http, seconds)


def test_the_tools_are_those_of_the_family(http: HttpClient) -> None:
    transfer, hangup = call_control_tools(AmiClient("http://ami:6006", http))
    assert (transfer.name, hangup.name) == ("dsai_transfer", "dsai_hangup")
    assert (transfer.ends_call, hangup.ends_call) == (True, True)
    assert (transfer.hangs_up, hangup.hangs_up) == (False, True)
    schema = json.loads(transfer.parameters)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["required"] == ["transfer_extension"]
    assert {name: (part["type"], part.get("default")) for name, part in schema["properties"].items()} == {
        "transfer_extension": ("string", None),
        "transfer_context": ("string", "demo"),
        "transfer_priority": ("string", "1"),
    }
    assert all(part["description"] for part in schema["properties"].values())
    assert json.loads(hangup.parameters) == {"type": "object", "properties": {}, "required": []}


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ('{"transfer_extension": "2000"}', {"exten": "2000", "context": "demo", "priority": 1}),
        ('{"transfer_extension": 2000}', {"exten": "2000", "context": "demo", "priority": 1}),
        ('{"transfer_extension": " 2000 "}', {"exten": "2000", "context": "demo", "priority": 1}),
        (
            '{"transfer_extension": "+49*30#", "transfer_context": "from-internal", "transfer_priority": "2"}',
            {"exten": "+49*30#", "context": "from-internal", "priority": 2},
        ),
        (
            '{"transfer_extension": "s", "transfer_context": "queue_1.b", "transfer_priority": 3}',
            {"exten": "s", "context": "queue_1.b", "priority": 3},
        ),
        (
            '{"transfer_extension": "2000", "transfer_priority": "start"}',
            {"exten": "2000", "context": "demo", "priority": "start"},
        ),
        (
            '{"transfer_extension": "2000", "transfer_context": "", "transfer_priority": ""}',
            {"exten": "2000", "context": "demo", "priority": 1},
        ),
        (
            '{"transfer_extension": "2000", "transfer_context": null, "transfer_priority": null, "why": "asked"}',
            {"exten": "2000", "context": "demo", "priority": 1},
        ),
    ],
)
async def test_a_transfer_posts_exactly_where_to(http: HttpClient, arguments: str, place: dict[str, object]) -> None:
    async with serving(reply(200, QUEUED)) as server:
        transfer, _ = call_control_tools(ami(server, http))
        assert await transfer.run(arguments, CALL) == ToolResult(QUEUED["message"])
    (asked,) = server.asked
    assert (asked.method, asked.target, asked.headers["content-type"]) == ("POST", "/transfer", "application/json")
    assert json.loads(asked.body) == {"uuid": UUID} | place


@pytest.mark.parametrize("arguments", ["", "{}", '{"reason": "done"}'])
async def test_a_hang_up_posts_exactly_the_uuid(http: HttpClient, arguments: str) -> None:
    async with serving(reply(200, {"message": "queued"})) as server:
        _, hangup = call_control_tools(ami(server, http))
        assert await hangup.run(arguments, CALL) == ToolResult("queued")
    (asked,) = server.asked
    assert (asked.method, asked.target, asked.body) == (
        "POST",
        "/hangup",
        json.dumps({"uuid": UUID}).replace(" ", "").encode(),
    )


async def test_a_slash_at_the_end_of_the_address_does_no_harm(http: HttpClient) -> None:
    async with serving(reply(200, QUEUED)) as server:
        await AmiClient(f"{server.url}/ami/", http).hang_up(UUID)
    assert server.asked[0].target == "/ami/hangup"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(reply(200, {}), "the hangup is queued", id="no message"),
        pytest.param(reply(202, {"message": "x", "more": [1]}), "x", id="more than we know"),
        pytest.param(reply(200, {"message": "a\r\nb\x00" + "c" * 1000}), "a b " + "c" * 496, id="a long message"),
        pytest.param(reply(200, QUEUED, after=0.2), QUEUED["message"], id="slowly"),
    ],
)
async def test_odd_answers_that_mean_queued_are_taken(http: HttpClient, answer: Answer, message: str) -> None:
    async with serving(answer) as server:
        assert await ami(server, http).hang_up(UUID) == message


@pytest.mark.parametrize(
    ("answer", "told", "logged"),
    [
        pytest.param(
            reply(404, {"message": f"Call with UUID {UUID} not found"}),
            f"Call with UUID {UUID} not found",
            "/hangup answered HTTP 404",
            id="404",
        ),
        pytest.param(
            reply(500, {"message": "Error communicating with Asterisk"}),
            "Error communicating with Asterisk",
            "/hangup answered HTTP 500",
            id="500",
        ),
        pytest.param(
            reply(502, b"<html>Bad Gateway"), "refused the command", "/hangup answered HTTP 502", id="a proxy"
        ),
        pytest.param(
            reply(301, b"", headers="Location: /x\r\n"), "refused the command", "answered HTTP 301", id="moved"
        ),
        pytest.param(reply(200, b"<html>Hello"), "makes no sense", "check AMI_URL", id="some other server"),
        pytest.param(reply(200, {"message": 7}), "makes no sense", "check AMI_URL", id="a message of another kind"),
        pytest.param(reply(200, b"[" * 100_000), "makes no sense", "check AMI_URL", id="nested"),
        pytest.param(silence, "did not answer", "did not answer within 0.3 s", id="never"),
        pytest.param(reply(200, QUEUED, after=5), "did not answer", "did not answer within 0.3 s", id="too slowly"),
        pytest.param(dripping(OK, b"X: y\r\n"), "did not answer", "did not answer within 0.3 s", id="drips"),
        pytest.param(
            flooding(OK + b"Content-Length: 99999999999\r\n\r\n", bytes(65536)),
            "did not answer",
            "answered with more than 262144 bytes",
            id="a huge body",
        ),
        pytest.param(raw(b"SSH-2.0-OpenSSH\r\n\r\n"), "did not answer", "illegal status line", id="no HTTP"),
        pytest.param(
            raw(OK + b"Content-Length: 99\r\n\r\n{"), "did not answer", "peer closed connection", id="cut off"
        ),
        pytest.param(raw(), "did not answer", "Server disconnected", id="closed"),
    ],
)
async def test_what_fails_is_told_to_the_agent_and_logged(
    http: HttpClient, lines: list[EventDict], answer: Answer, told: str, logged: str
) -> None:
    async with serving(answer) as server:
        _, hangup = call_control_tools(ami(server, http, 0.3))
        with trio.fail_after(1.5):
            result = await hangup.run("", CALL)
    assert result.failed
    assert result.content.startswith("Error during hangup: ")
    assert told in result.content
    assert "127.0.0.1" not in result.content
    (line,) = lines
    assert (line["log_level"], line["event"], line["tool"]) == ("warning", "call control failed", "dsai_hangup")
    assert logged in line["error"]


async def test_a_service_that_is_not_there_is_told_and_logged(http: HttpClient, lines: list[EventDict]) -> None:
    url = f"http://127.0.0.1:{await free_port()}"
    transfer, _ = call_control_tools(AmiClient(url, http))
    result = await transfer.run('{"transfer_extension": "2000"}', CALL)
    assert result == ToolResult("Error during transfer: the telephone system did not answer", failed=True)
    assert lines[0]["error"] == f"{url}/transfer: Connection refused"


async def test_no_number_reaches_the_log(http: HttpClient, lines: list[EventDict]) -> None:
    async with serving(reply(404, {"message": "no 4930123456 in demo"})) as server:
        transfer, _ = call_control_tools(ami(server, http))
        result = await transfer.run('{"transfer_extension": "4930123456"}', CALL)
    assert "4930123456" in result.content
    assert "4930123456" not in str(lines)
    assert "4930123456" not in repr(result)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("{}", "Object missing required field `transfer_extension`"),
        ("not JSON", "the arguments are no JSON"),
        ('{"transfer_extension": ["2000"]}', "`transfer_extension`: Expected `str`, got `array`"),
        ('{"transfer_extension": null}', "`transfer_extension`: Expected `str`, got `null`"),
        *(
            (json.dumps({"transfer_extension": value}), "`transfer_extension` must be 1 to 79 of letters, digits")
            for value in (
                "",
                "   ",
                "2000\r\nAction: Originate",
                "20\n00",
                "2000&PJSIP/9001",
                "${SHELL(id)}",
                "2000,1",
                "the sales team",
                "\N{FULLWIDTH DIGIT TWO}000",
                "2" * 80,
                "\x00",
            )
        ),
        ('{"transfer_extension": "2000", "transfer_context": "a b"}', "`transfer_context` must be"),
        ('{"transfer_extension": "2000", "transfer_priority": "1\\n2"}', "`transfer_priority` must be"),
    ],
)
async def test_what_must_not_reach_a_dialplan_does_not(
    http: HttpClient, lines: list[EventDict], arguments: str, words: str
) -> None:
    async with serving(reply(200, QUEUED)) as server:
        transfer, _ = call_control_tools(ami(server, http))
        result = await transfer.run(arguments, CALL)
    assert result.failed
    assert result.content.startswith("Error during transfer: ")
    assert words in result.content
    assert not server.asked
    assert not lines


async def test_a_call_without_an_id_cannot_be_controlled(http: HttpClient) -> None:
    async with serving(reply(200, QUEUED)) as server:
        for tool in call_control_tools(ami(server, http)):
            result = await tool.run('{"transfer_extension": "2000"}', CallContext())
            assert result.failed
            assert "gave this call no id" in result.content
    assert not server.asked


async def test_the_line_can_be_hung_up_without_an_agent(http: HttpClient, lines: list[EventDict]) -> None:
    async with serving(reply(200, {"message": "queued"})) as server:
        assert await hang_up(ami(server, http), UUID) is True
    assert json.loads(server.asked[0].body) == {"uuid": UUID}
    assert not lines
    assert await hang_up(AmiClient(f"http://127.0.0.1:{await free_port()}", http), UUID) is False
    assert [(line["event"], line["tool"]) for line in lines] == [("call control failed", "hang_up")]


async def test_a_cancelled_command_ends_at_once_and_is_not_repeated(http: HttpClient) -> None:
    async with serving(silence) as server:
        with trio.move_on_after(0.1) as scope:
            await ami(server, http).hang_up(UUID)
        assert scope.cancelled_caught
    assert len(server.asked) == 1


async def test_a_failure_says_what_is_fit_for_a_log(http: HttpClient) -> None:
    async with serving(reply(404, {"message": "peer's own words"})) as server:
        with pytest.raises(AmiFailed) as caught:
            await ami(server, http).transfer(UUID, "2000", "demo", 1)
    assert str(caught.value) == f"{server.url}/transfer answered HTTP 404"
    assert caught.value.told == "peer's own words"


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ('{"transfer_extension":"2000"}', None),
        ('{"transfer_extension":2000,"transfer_context":null}', None),
        ("{}", "transfer_extension"),
        ('{"transfer_extension":"20 00"}', "transfer_extension"),
        ('{"transfer_extension":"2000","transfer_context":"a,b"}', "transfer_context"),
        ("nonsense", "arguments"),
    ],
)
def test_what_is_wrong_with_a_transfer_can_be_said_before_it_is_made(
    http: HttpClient, arguments: str, wrong: str | None
) -> None:
    transfer, hangup = call_control_tools(AmiClient("http://127.0.0.1:1", http))
    why = transfer.check(arguments)
    assert (why is None) if wrong is None else (why is not None and wrong in why)
    assert hangup.check("{}") is None
