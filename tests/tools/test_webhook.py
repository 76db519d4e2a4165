"""Events of a call on their way to an operator's own service."""

from __future__ import annotations

import json
import ssl
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import pytest
import structlog
import trio
import trio.testing

from sts_trio.http_client import WEBHOOK_SECONDS, HttpClient, HttpFailed, HttpReply, post_event
from tests.tools.http_server import free_port, raw, reply, serving

if TYPE_CHECKING:
    from tests.tools.http_server import Answer

UUID = "0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11"
TOLD = {"emotion": "Anger", "scores": {"Anger": 0.7}}


@pytest.fixture(scope="module")
def http() -> HttpClient:
    return HttpClient(ssl.create_default_context())


async def test_an_event_has_the_shape_of_cores_own(http: HttpClient) -> None:
    with structlog.testing.capture_logs() as lines:
        async with serving(reply(200, {})) as server:
            await post_event(http, f"{server.url}/hook?token=secret", UUID, "emotion", TOLD)
    (asked,) = server.asked
    event = json.loads(asked.body)
    assert (asked.method, asked.target) == ("POST", "/hook?token=secret")
    assert asked.headers["content-type"] == "application/json"
    assert datetime.fromisoformat(event.pop("timestamp")).utcoffset() is not None
    assert event == {"uuid": UUID, "type": "emotion", "payload": TOLD}
    assert lines == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (reply(500, {}), "it answered HTTP 500"),
        (reply(302, {}), "it answered HTTP 302"),
        (raw(b"SSH-2.0-OpenSSH\r\n\r\n"), "illegal status line"),
        (None, "Connection refused"),
    ],
)
async def test_what_fails_is_one_line_with_the_host_alone(http: HttpClient, answer: Answer | None, reason: str) -> None:
    """Chat systems put their secret into the path of the URL."""
    with structlog.testing.capture_logs() as lines:
        if answer is None:
            url = f"http://127.0.0.1:{await free_port()}"
            await post_event(http, f"{url}/services/T0/secret", UUID, "emotion", TOLD)
        else:
            async with serving(answer) as server:
                await post_event(http, f"{server.url}/services/T0/secret", UUID, "emotion", TOLD)
    (line,) = lines
    assert (line["log_level"], line["event"], line["host"]) == ("warning", "webhook failed", "127.0.0.1")
    assert reason in line["reason"]
    assert "secret" not in str(line)
    assert "Anger" not in str(line)


class Deaf:
    """Answers nothing, and says how long it was waited for."""

    async def post_json(self, url: str, body: object, *, seconds: float) -> HttpReply:
        await trio.sleep(seconds)
        raise HttpFailed(f"{url} did not answer within {seconds:g} s")


async def test_who_does_not_answer_is_given_up_after_three_seconds_and_not_asked_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    posting = partial(post_event, Deaf())  # type: ignore[arg-type]  # as much of a client as it uses
    with structlog.testing.capture_logs() as lines:
        await posting("https://hooks.test/secret", UUID, "emotion", TOLD)
    assert trio.current_time() == pytest.approx(WEBHOOK_SECONDS)
    assert [line["host"] for line in lines] == ["hooks.test"]
