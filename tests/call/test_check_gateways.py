"""`sts-trio check` before Azure, API Management, proxies and the like: one line that names the setting."""

from __future__ import annotations

import base64
import json
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
import trustme

from sts_trio.check import check_all
from sts_trio.providers.base import CallInfo
from sts_trio.settings.headers import SecretHeaders
from sts_trio.settings.parsers import Secret
from sts_trio.wiring import open_provider
from tests.call.stage import ALL, make_settings
from tests.fakes.gateways import DEPLOYMENT, KEY, Answer, Gateway, api_management, azure, only, redirect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sts_trio.providers.dial import Endpoint
    from tests.fakes.gateways import Request

Clock = trio.testing.MockClock
AZURE = "https://clinic.openai.azure.com"
GENERAL = f"{AZURE}/openai/v1"
PREVIEW = f"{AZURE}/openai/realtime?api-version=2025-04-01-preview&deployment={DEPLOYMENT}"
APIM = "https://clinic.azure-api.net/voice"
OWN = "https://voice.clinic.example/openai/v1"
APIM_HEADER = "Ocp-Apim-Subscription-Key"


def jwt(expires: float) -> str:
    """A token such as Entra's; nobody checks its signature here."""
    parts = [{"typ": "JWT", "alg": "RS256"}, {"aud": "https://ai.azure.com", "exp": int(expires)}]
    coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join((*coded, "c2lnbmF0dXJl" * 150))


TOKEN = jwt(4e9)


async def told(gateway: Gateway, nursery: trio.Nursery, provider: str = "openai", **chosen: Any) -> str:
    """What `check` says of the provider. It is one line, and no secret is in it."""
    lines: list[str] = []
    values = {"model": DEPLOYMENT} if provider == "openai" else {}
    settings = make_settings(provider, **{**values, **chosen})
    worked = await check_all(settings, lines.append, gateway.dial(nursery))
    assert len(lines) == 2, lines
    assert worked == lines[1].startswith("ok: ")
    assert "\n" not in lines[1]
    assert not any(secret in lines[1] for secret in (KEY, TOKEN, "tenant-secret"))
    return lines[1]


ROWS: dict[str, tuple[Callable[[Request], Answer | None], dict[str, Any], str]] = {
    "Azure": (azure(), {"url": GENERAL}, "ok: clinic.openai.azure.com:443 opened a chat"),
    "Azure, the host as the portal shows it": (azure(), {"url": f"{AZURE}/"}, "ok: clinic.openai.azure.com:443 opened"),
    "Azure, the whole URL": (
        azure(),
        {"url": f"wss://clinic.openai.azure.com/openai/v1/realtime?model={DEPLOYMENT}", "model": "another"},
        "ok: ",
    ),
    "Azure, a wrong key": (
        azure(keys=("another",)),
        {"url": GENERAL},
        "(check OPENAI_API_KEY: a key of this resource is wanted; a token of Entra's goes into OPENAI_TOKEN_FILE)",
    ),
    "Azure, a token in place of the key": (
        azure(),
        {"url": GENERAL, "key": TOKEN},
        "(OPENAI_API_KEY holds a token; put it into a file, and name that by OPENAI_TOKEN_FILE)",
    ),
    "Azure, an unknown deployment": (
        azure(),
        {"url": GENERAL, "model": "gpt-realtime-2.1"},
        "(clinic.openai.azure.com has no deployment 'gpt-realtime-2.1'; "
        "OPENAI_MODEL must name a deployment there, which is not the model)",
    ),
    "Azure, an unknown deployment in the URL": (
        azure(),
        {"url": f"{GENERAL}/realtime?model=gone"},
        "has no deployment 'gone'; OPENAI_BASE_URL must name a deployment there",
    ),
    "Azure, a deployment that does not speak": (
        azure(),
        {"url": GENERAL, "model": "chat-only"},
        "(the deployment 'chat-only' is not of a realtime model; OPENAI_MODEL must name one that is)",
    ),
    "Azure, api-version left on": (
        azure(),
        {"url": f"{GENERAL}/realtime?api-version=2025-04-01-preview"},
        "(take api-version out of OPENAI_BASE_URL: Azure's /openai/v1 refuses it)",
    ),
    "Azure, a path of old": (
        azure(),
        {"url": f"{AZURE}/openai"},
        "(set OPENAI_BASE_URL to https://clinic.openai.azure.com/openai/v1)",
    ),
    "Azure, the preview path": (
        azure(),
        {"url": PREVIEW},
        "OPENAI_BASE_URL has Azure's preview path, which speaks the beta of this protocol; set it to "
        f"https://clinic.openai.azure.com/openai/v1, and OPENAI_MODEL to '{DEPLOYMENT}'",
    ),
    "Azure, the preview path when it is gone": (
        lambda _: Answer(410, "Gone"),
        {"url": PREVIEW},
        "(OPENAI_BASE_URL has Azure's preview path, which speaks the beta of this protocol; set it to https://clinic.",
    ),
    "Azure, machines are kept out": (
        lambda _: Answer(403, {"error": {"code": "403", "message": "Access denied due to Virtual Network rules."}}),
        {"url": GENERAL},
        "(check OPENAI_API_KEY, and whether the resource's network rules let this machine in)",
    ),
    "an own domain": (azure(), {"url": OWN, "key_header": "api-key"}, "ok: voice.clinic.example:443 opened"),
    "an own domain, the key as bearer": (
        azure(),
        {"url": OWN},
        "(check OPENAI_API_KEY; before Azure it goes into a header of its own: OPENAI_KEY_HEADER=api-key)",
    ),
    "API Management": (api_management(), {"url": APIM, "key_header": APIM_HEADER}, "ok: clinic.azure-api.net:443 open"),
    "API Management that was made of Azure's": (api_management("api-key"), {"url": APIM}, "ok: clinic.azure-api.net"),
    "API Management, the key elsewhere": (
        api_management(),
        {"url": APIM},
        "(the gateway wants its key in another header: set OPENAI_KEY_HEADER to Ocp-Apim-Subscription-Key or api-key)",
    ),
    "API Management, a wrong key": (
        api_management(),
        {"url": APIM, "key_header": APIM_HEADER, "key": "a-key-of-another"},
        "(check OPENAI_API_KEY: the key of this gateway is wanted; a token of Entra's goes into OPENAI_TOKEN_FILE)",
    ),
    "API Management, another path": (
        api_management(),
        {"url": "https://clinic.azure-api.net/voices"},
        "(nothing speaks this protocol at /voices; check OPENAI_BASE_URL, which is taken as it stands)",
    ),
    "API Management at a domain of its own": (
        api_management(),
        {"url": "https://api.clinic.example/voice", "key_header": APIM_HEADER},
        "ok: api.clinic.example:443 opened",
    ),
    "a gateway's path": (only("/acct/gw/openai"), {"url": "https://gw.example/acct/gw/openai"}, "ok: gw.example:443"),
    "a base URL": (only("/proxy/v1/realtime"), {"url": "https://gw.example/proxy/v1/"}, "ok: gw.example:443"),
    "a wrong base URL": (
        only("/v1/realtime"),
        {"url": "https://gw.example/v2"},
        "(nothing speaks this protocol at /v2/realtime; check OPENAI_BASE_URL, to which /realtime is added)",
    ),
    "no room": (lambda _: Answer(429, "slow down"), {"url": GENERAL}, "try again in a minute; if that lasts, the acco"),
    "broken": (lambda _: Answer(503, "sorry"), {"url": GENERAL}, "try again in a minute, or check OPENAI_BASE_URL"),
    "an odd status": (lambda _: Answer(418, "tea"), {"url": GENERAL}, "check OPENAI_BASE_URL and OPENAI_API_KEY"),
}


@pytest.mark.parametrize("row", ROWS)
async def test_each_way_to_a_service_is_one_line_that_names_the_setting(
    row: str, nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    judge, chosen, line = ROWS[row]
    said = await told(Gateway(judge), nursery, **chosen)
    assert line in said
    assert said.startswith("ok: ") or "OPENAI_" in said


@ALL
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_shown_and_not_followed(
    status: int, provider: str, nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    """The key would go wherever the answer says."""
    path = "/v0/evi/chat" if provider == "humeai" else "/v1/realtime"
    gateway = Gateway(redirect(status, f"https://me:tenant-secret@new.example{path}?key=tenant-secret"), provider)
    said = await told(gateway, nursery, provider)
    setting = "HUMEAI_WS_URL" if provider == "humeai" else f"{provider.upper()}_BASE_URL"
    assert f"answered HTTP {status} to the upgrade (it points to https://new.example{path}: set {setting} to " in said
    assert "<html>" not in said
    assert len(gateway.requests) == 1


@ALL
@pytest.mark.parametrize(
    ("location", "line"),
    [
        ("{path}/", "it points to https://{host}{path}/: set {setting} to that"),
        ("//other.example{path}", "it points to https://other.example{path}: set {setting} to that"),
        (
            "https://login.example/sign-in",
            "https://login.example/sign-in, which may be a page to log in; check {setting}",
        ),
        ("https://[::1/", "it points to a broken URL; check {setting}"),
        ("", "it says not where to; check {setting}"),
        ("https://x.example/\x1b[31m" + "a" * 5000, "it points to https://x.example/"),
    ],
)
async def test_where_a_redirect_points_is_told_in_full(
    location: str, line: str, provider: str, nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    hume = provider == "humeai"
    names = {
        "path": "/v0/evi/chat" if hume else "/v1/realtime",
        "host": "evi.test" if hume else "realtime.test",
        "setting": "HUMEAI_WS_URL" if hume else f"{provider.upper()}_BASE_URL",
    }
    said = await told(Gateway(redirect(307, location.format(**names)), provider), nursery, provider)
    assert line.format(**names) in said
    assert "\x1b" not in said
    assert len(said) < 500


@ALL
async def test_what_a_redirect_says_can_be_set(provider: str, nursery: trio.Nursery, autojump_clock: Clock) -> None:
    """The URL that is shown, with its slash at the end, leads there."""
    path = "/v0/evi/chat/" if provider == "humeai" else "/v1/realtime/"
    said = await told(Gateway(only(path), provider), nursery, provider, url=f"https://new.example{path}")
    assert said.startswith("ok: new.example:443 opened")


@ALL
async def test_a_whole_url_gets_nothing_added(provider: str, nursery: trio.Nursery, autojump_clock: Clock) -> None:
    urls = {"humeai": "wss://gw.example/evi?tenant=5", "xai": "https://gw.example/grok?model=grok-voice-latest"}
    url = urls.get(provider, "https://gw.example/oai/realtime?model=gpt-realtime-2.1&tenant=5")
    gateway = Gateway(lambda _: None, provider)
    assert (await told(gateway, nursery, provider, url=url)).startswith("ok: gw.example:443")
    [request] = gateway.requests
    whole = url.partition("gw.example")[2]
    assert request.target.startswith(f"{whole}&") if provider == "humeai" else request.target == whole


@ALL
@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_names_the_providers_own_setting(
    status: int, provider: str, nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    said = await told(Gateway(lambda _: Answer(status, KEY), provider), nursery, provider)
    names = (
        ("HUMEAI_WS_URL", "HUMEAI_API_KEY") if provider == "humeai" else ("_BASE_URL", f"{provider.upper()}_API_KEY")
    )
    assert names[status != 404] in said


# What is sent.


async def sent(nursery: trio.Nursery, provider: str = "openai", **chosen: Any) -> dict[str, str]:
    gateway = Gateway(lambda _: None, provider)
    await told(gateway, nursery, provider, **chosen)
    return gateway.requests[0].headers


@ALL
async def test_more_headers_travel_with_the_key(provider: str, nursery: trio.Nursery, autojump_clock: Clock) -> None:
    headers = await sent(nursery, provider, headers=SecretHeaders((("X-Tenant", Secret("tenant-secret")),)))
    assert headers["x-tenant"] == "tenant-secret"
    assert KEY in (headers.get("authorization", "") + headers.get("x-hume-api-key", ""))


@ALL
async def test_a_header_that_a_service_repeats_is_starred(
    provider: str, nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    gateway = Gateway(lambda request: Answer(400, f"odd: {request.headers['x-tenant']}"), provider)
    said = await told(gateway, nursery, provider, headers=SecretHeaders((("X-Tenant", Secret("Key tenant-secret")),)))
    assert "odd: ***" in said


@pytest.mark.parametrize(
    ("url", "key_header", "name"),
    [
        (GENERAL, "auto", "api-key"),
        ("https://x.cognitiveservices.azure.com/openai/v1", "auto", "api-key"),
        ("https://x.openai.azure.us/openai/v1", "auto", "api-key"),
        (APIM, "auto", "api-key"),
        (OWN, "auto", "authorization"),
        ("https://azure.com.example/v1", "auto", "authorization"),
        ("https://api.openai.com/v1", "auto", "authorization"),
        (GENERAL, "bearer", "authorization"),
        (OWN, "api-key", "api-key"),
        (APIM, APIM_HEADER, APIM_HEADER.lower()),
    ],
)
async def test_the_key_goes_into_the_header_that_the_host_wants_or_the_operator_says(
    url: str, key_header: str, name: str, nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    headers = await sent(nursery, url=url, key_header=key_header, model="gpt-realtime-2.1")
    assert headers[name] == (f"Bearer {KEY}" if name == "authorization" else KEY)
    assert sum(KEY in value for value in headers.values()) == 1


# Tokens. They are read in threads, for which the clock must not jump.


@pytest.fixture
def patient_clock(autojump_clock: Clock) -> Clock:
    """A clock that jumps when nothing has happened for a moment."""
    autojump_clock.autojump_threshold = 0.1
    return autojump_clock


@pytest.mark.parametrize("key_header", ["auto", APIM_HEADER])
async def test_a_token_goes_as_bearer_and_the_key_only_where_it_was_told_to(
    key_header: str, nursery: trio.Nursery, tmp_path: Path, patient_clock: Clock
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    headers = await sent(nursery, url=GENERAL, token_file=str(tmp_path / "token"), key_header=key_header)
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert headers.get(APIM_HEADER.lower()) == (None if key_header == "auto" else KEY)
    assert sum(KEY in value for value in headers.values()) == (key_header != "auto")


async def test_each_session_has_the_token_that_is_in_the_file_then(
    nursery: trio.Nursery, tmp_path: Path, patient_clock: Clock
) -> None:
    file = tmp_path / "token"
    gateway = Gateway(azure(keys=(), tokens=("first", "second")))
    settings = make_settings("openai", url=GENERAL, model=DEPLOYMENT, token_file=str(file), api_key=None)
    provider = open_provider(settings, gateway.dial(nursery))
    for token in ("first", "second"):
        file.write_text(token)
        async with provider(CallInfo("call-1")):
            pass
    assert [each.headers["authorization"] for each in gateway.requests] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "which cannot be read: No such file or directory"),
        ("", "which is empty; it must hold a token"),
        (" \n", "which is empty; it must hold a token"),
        (f"Bearer {TOKEN}", "which holds no token; it must be one word, without `Bearer` and quotes"),
        ("tökèn", "which holds no token; it must be one word"),
        ("a\nX-Other: b", "which holds no token; it must be one word"),
        ('{"accessToken":"abc"}', "which holds JSON; it must be the token alone (az: --query accessToken -o tsv)"),
        ("a" * 20_000, "which holds no token"),
        (jwt(time.time() - 3600), "which holds a token that expired "),
    ],
)
async def test_a_file_without_a_token_is_one_line_that_names_the_setting(
    content: str | None, line: str, nursery: trio.Nursery, tmp_path: Path, patient_clock: Clock
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    gateway = Gateway(azure())
    said = await told(gateway, nursery, url=GENERAL, token_file=str(file), api_key=None)
    assert said.startswith(f"failed: OPENAI_TOKEN_FILE is {file}, {line}")
    assert not gateway.requests


async def test_a_token_that_is_refused_is_told_with_what_it_must_be(
    nursery: trio.Nursery, tmp_path: Path, patient_clock: Clock
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    gateway = Gateway(lambda request: Answer(401, f"bad token {request.headers['authorization']}"))
    said = await told(gateway, nursery, url=GENERAL, token_file=str(tmp_path / "token"))
    assert (
        "bad token Bearer *** (check the token in OPENAI_TOKEN_FILE: Azure's has the scope https://ai.azure.com/"
        in said
    )
    assert TOKEN[-40:] not in said


# Schemes: on loopback, with TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def trusting(authority: trustme.CA, path: Path) -> str:
    authority.cert_pem.write_to_path(str(path / "ca.pem"))
    return str(path / "ca.pem")


async def listening(nursery: trio.Nursery, gateway: Gateway, authority: trustme.CA | None) -> int:
    """The port of a gateway, with TLS if there is an authority."""
    listeners: Any = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    if authority is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(context)
        listeners = [trio.SSLListener(listener, context, https_compatible=True) for listener in listeners]
    nursery.start_soon(trio.serve_listeners, _kept_alive(gateway), listeners)
    return int(port)


def _kept_alive(gateway: Gateway) -> Callable[[Any], Any]:
    async def serve(stream: Any) -> None:
        try:
            await gateway.serve(stream)
        except (trio.BrokenResourceError, ssl.SSLError):
            await trio.aclose_forcefully(stream)

    return serve


@ALL
@pytest.mark.parametrize(
    ("scheme", "tls", "line"),
    [
        ("https", True, "ok: localhost:"),
        ("wss", True, "ok: localhost:"),
        ("http", False, "ok: localhost:"),
        ("ws", False, "ok: localhost:"),
        ("https", False, "(is there TLS at this port? {setting} asks for it by https:// or wss://; without it is http"),
        (
            "http",
            True,
            "(check {setting}: it begins with http:// or ws://, which is without TLS; https:// may be wanted)",
        ),
    ],
)
async def test_a_wrong_scheme_is_told(
    scheme: str, tls: bool, line: str, provider: str, nursery: trio.Nursery, authority: trustme.CA, tmp_path: Path
) -> None:
    path = "/v0/evi/chat" if provider == "humeai" else "/v1/realtime"
    port = await listening(nursery, Gateway(only(path), provider), authority if tls else None)
    url = f"{scheme}://localhost:{port}{'/v0/evi/chat' if provider == 'humeai' else '/v1'}"
    settings = make_settings(provider, url=url, ca_file=trusting(authority, tmp_path))
    lines: list[str] = []
    await check_all(settings, lines.append)
    setting = "HUMEAI_WS_URL" if provider == "humeai" else f"{provider.upper()}_BASE_URL"
    assert line.format(setting=setting) in lines[1]


@ALL
async def test_nobody_there_and_no_trust_name_their_settings(
    provider: str, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    port = await listening(nursery, Gateway(lambda _: None, provider), authority)
    prefix = "HUMEAI_WS" if provider == "humeai" else f"{provider.upper()}_BASE"
    for chosen, line in ((port, f"name its authority by {provider.upper()}_CA_FILE"), (9, f"(check {prefix}_URL)")):
        lines: list[str] = []
        scheme = "https" if chosen == port else "http"
        await check_all(make_settings(provider, url=f"{scheme}://localhost:{chosen}/v1"), lines.append)
        assert line in lines[1] or f"(check {prefix}_URL: it begins with" in lines[1]


async def test_a_service_that_says_nothing_names_how_long_it_was_given(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    async def dial(endpoint: Endpoint) -> trio.abc.Stream:
        return trio.testing.memory_stream_pair()[0]

    lines: list[str] = []
    await check_all(make_settings("openai"), lines.append, dial)
    assert lines[1].endswith("check OPENAI_BASE_URL and the way there, or give it longer by READY_SECONDS")
