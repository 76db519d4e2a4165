"""How a chat is opened: what stands in its URL, with the vendor's SDK as the oracle, and what waits for a message."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from hume.core.query_encoder import single_query_encoder
from hume.empathic_voice import types as vendor
from hypothesis import given, settings
from hypothesis import strategies as st

from sts_trio.providers.base import CallInfo, SessionConfig, ToolOffer
from sts_trio.providers.hume.opening import ChatRequest, chat_request, plan_opening
from sts_trio.providers.hume.wire import SessionSettings, ToolDeclaration

PATH = "/v0/evi/chat"
OURS = ChatRequest(session_id="call-7f3a", voice_id="v-1", instructions="Be brief & kind: 100 % [yes]?")
HOSTILE = "a&config_id=x#y"
WEATHER = ToolOffer("weather", "What the weather is like.", '{"type":"object"}')


def parameters(request: ChatRequest, path: str = PATH) -> dict[str, str]:
    """What a server reads of the query when it stands in a URL."""
    url = urlsplit(f"wss://evi{plan_opening(request, path).target}")
    assert url.path == PATH
    assert not url.fragment
    pairs = parse_qsl(url.query, keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs), "a parameter came twice"
    return dict(pairs)


def late(request: ChatRequest) -> SessionSettings | None:
    return plan_opening(request, PATH).late


def of_vendor(request: ChatRequest) -> dict[str, str]:
    """What the vendor's SDK puts into the URL for the same settings."""
    asked = vendor.ConnectSessionSettings(
        audio=vendor.ConnectSessionSettingsAudio(encoding="linear16", sample_rate=8000, channels=1),
        custom_session_id=request.session_id,
        voice_id=request.voice_id,
        system_prompt=request.instructions,
        variables=dict(request.variables),
    )
    pairs = single_query_encoder("session_settings", asked)
    if request.config_id:
        pairs.append(("config_id", request.config_id))
    if request.resume:
        pairs.append(("resumed_chat_group_id", request.resume))
    encoded = str(httpx.QueryParams([(name, value) for name, value in pairs if value is not None]))
    return dict(parse_qsl(encoded, keep_blank_values=True))


# The URL.


@pytest.mark.parametrize(
    "request_",
    [
        OURS,
        ChatRequest("x"),
        replace(OURS, config_id="11111111-2222-3333-4444-555555555555"),
        replace(OURS, resume="9b6d"),
        replace(OURS, session_id=HOSTILE),
        replace(OURS, variables={"from": "+49 30 1234", "vicidial_leadId": HOSTILE, "empty": "", "open": "true"}),
    ],
)
def test_the_query_says_what_the_vendors_sdk_would_say(request_: ChatRequest) -> None:
    assert parameters(request_) == of_vendor(request_)
    assert late(request_) is None


def test_the_audio_format_is_declared_before_the_first_byte() -> None:
    assert parameters(ChatRequest("x")) == {
        "session_settings[audio][encoding]": "linear16",
        "session_settings[audio][sample_rate]": "8000",
        "session_settings[audio][channels]": "1",
        "session_settings[custom_session_id]": "x",
    }


def test_a_query_of_the_endpoints_own_is_kept() -> None:
    assert parameters(OURS, f"{PATH}?region=eu") == parameters(OURS) | {"region": "eu"}


@given(st.text(max_size=40).filter(lambda text: text.isprintable()) | st.just(HOSTILE))
@settings(deadline=None)
def test_no_value_can_become_another_parameter(value: str) -> None:
    value = value or "x"
    names = set(parameters(replace(OURS, resume="r", variables={"v": "1"})))
    asked = parameters(
        ChatRequest(value, voice_id=value, instructions=value, resume=value, variables={"v": value}),
    )
    assert set(asked) == names
    assert asked["session_settings[custom_session_id]"] == value
    assert asked["session_settings[variables][v]"] == value


@pytest.mark.parametrize("name", ["a][b", "a[b]", "", "a b", "a&b=c", "é"])
def test_a_variable_with_an_odd_name_goes_as_a_message(name: str) -> None:
    request = replace(OURS, variables={"plain": "1", name: "2"})
    assert "session_settings[variables][plain]" in parameters(request)
    assert sum("variables" in asked for asked in parameters(request)) == 1
    assert late(request) == SessionSettings(variables={"plain": "1", name: "2"})


def test_the_target_is_plain_ascii_with_percent_20_for_a_space() -> None:
    target = plan_opening(replace(OURS, instructions="Grüße + mehr"), PATH).target
    assert target.isascii()
    assert "Gr%C3%BC%C3%9Fe%20%2B%20mehr" in target
    assert not set("+[] #") & set(target)


def test_no_key_is_in_the_query() -> None:
    assert not {"api_key", "access_token"} & set(parameters(replace(OURS, config_id="c", resume="r")))


# What is too long for it.


@pytest.mark.parametrize(
    ("text", "too_long"),
    [
        ("p" * 1000, False),
        ("p" * 1001, True),
        ("ü" * 166, False),  # 6 characters each once encoded
        ("ü" * 167, True),
        ("", False),
    ],
)
def test_a_text_too_long_for_a_url_goes_as_a_message_instead(text: str, *, too_long: bool) -> None:
    prompt = replace(OURS, instructions=text)
    assert late(prompt) == (SessionSettings(system_prompt=text) if too_long else None)
    assert ("session_settings[system_prompt]" in parameters(prompt)) == (bool(text) and not too_long)
    variable = replace(OURS, variables={"note": text})
    assert late(variable) == (SessionSettings(variables={"note": text}) if too_long else None)
    assert ("session_settings[variables][note]" in parameters(variable)) == (not too_long)


def test_what_fits_only_alone_is_cut_off_where_the_url_is_full_and_the_message_has_all_variables() -> None:
    variables = {f"v{number}": str(number) * 900 for number in range(10)}
    request = replace(OURS, variables=variables)
    asked = parameters(request)
    in_url = [name for name in variables if f"session_settings[variables][{name}]" in asked]
    assert in_url == ["v0", "v1", "v2"]
    assert late(request) == SessionSettings(variables=variables)


@given(
    st.builds(
        ChatRequest,
        session_id=st.text(min_size=1, max_size=128),
        config_id=st.none() | st.text(max_size=36),
        voice_id=st.none() | st.text(max_size=1024),
        instructions=st.none() | st.text(max_size=2000),
        variables=st.dictionaries(st.text(max_size=64), st.text(max_size=256), max_size=32),
        tools=st.just(()) | st.just((WEATHER,)),
    )
)
@settings(deadline=None)
def test_nothing_is_lost_and_the_url_stays_short(request: ChatRequest) -> None:
    opening = plan_opening(request, PATH)
    assert len(opening.target) < 4500  # 128 characters of a session id alone may be 1,536 once encoded
    asked, told = parameters(request), opening.late or SessionSettings()
    assert (asked.get("session_settings[voice_id]") or told.voice_id) == (request.voice_id or None)
    assert (asked.get("session_settings[system_prompt]") or told.system_prompt) == (request.instructions or None)
    in_url = {name: asked.get(f"session_settings[variables][{name}]") for name in request.variables}
    assert request.variables in (told.variables, in_url)
    assert (told.tools is None) == (not request.tools)


# Tools.


def test_tools_go_as_a_message_together_with_all_that_is_late() -> None:
    prompt = "long " * 400
    assert late(replace(OURS, tools=(WEATHER,), instructions=prompt)) == SessionSettings(
        system_prompt=prompt,
        tools=[ToolDeclaration(WEATHER.name, WEATHER.description, WEATHER.parameters)],
    )


# What a call brings, and what the provider was set up with.

DEFAULTS = {"voice_id": "our voice", "instructions": "our prompt"}
OWN = SessionConfig(config="own config", voice="own voice", instructions="own prompt")


@pytest.mark.parametrize(
    ("session_config", "config", "wanted"),
    [
        (SessionConfig(), None, (None, "our voice", "our prompt")),
        (SessionConfig(), "our config", ("our config", None, None)),
        (replace(OWN, config=None), None, (None, "own voice", "own prompt")),
        (replace(OWN, config=None, voice=None), None, (None, "our voice", "own prompt")),
        (replace(OWN, config=None, instructions=None), None, (None, "own voice", "our prompt")),
        (replace(OWN, config=None), "our config", ("our config", "own voice", "own prompt")),
        (OWN, None, ("own config", "own voice", "own prompt")),
        (OWN, "our config", ("own config", "own voice", "own prompt")),
        (SessionConfig(config="own config"), None, ("own config", None, None)),
        (SessionConfig(config="own config"), "our config", ("own config", None, None)),
    ],
)
def test_a_calls_own_wishes_stand_above_the_settings_and_a_config_above_prompt_and_voice(
    session_config: SessionConfig, config: str | None, wanted: tuple[str | None, ...]
) -> None:
    request = chat_request(CallInfo("c", session_config=session_config), config_id=config, **DEFAULTS)
    assert (request.config_id, request.voice_id, request.instructions) == wanted


@pytest.mark.parametrize("config", [None, "our config"])
@pytest.mark.parametrize("resume", [None, "group-1"])
def test_variables_and_tools_are_always_sent_on_a_resume_too(config: str | None, resume: str | None) -> None:
    session_config = SessionConfig(variables={"from": "2000"}, tools=(WEATHER,))
    call = CallInfo("c", resume=resume, session_config=session_config)
    request = chat_request(call, config_id=config, **DEFAULTS)
    assert (request.variables, request.tools, request.resume) == ({"from": "2000"}, (WEATHER,), resume)
    assert parameters(request)["session_settings[variables][from]"] == "2000"
    assert late(request) is not None


def test_neither_prompt_nor_variables_are_in_a_repr() -> None:
    request = replace(OURS, instructions="private", variables={"from": "555 0142"}, tools=(WEATHER,))
    shown = f"{request!r} {plan_opening(request, PATH)!r}"
    assert "private" not in shown
    assert "555" not in shown
