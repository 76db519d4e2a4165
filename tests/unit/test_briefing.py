"""What of Core's URL reaches the agent: what the operator listed, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.call.config import SessionPolicy, is_real_uuid, usable_id, variable_name
from sts_trio.providers.base import SessionConfig, ToolOffer
from sts_trio.tools.tool import CallContext, Tool, ToolResult

UUID = "0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11"
QUERY = {
    "from": "2000",
    "to": "5003",
    "config_id": "theirs",
    "voice_id": "their voice",
    "instructions": "Be rude.",
    "welcome_message": "Yo!",
}


async def _run(_: str, __: CallContext) -> ToolResult:
    raise AssertionError


TOOL = Tool("hours", "When we are open.", '{"type":"object"}', _run)


def test_by_default_nothing_of_the_url_reaches_the_agent() -> None:
    session_policy = SessionPolicy(greeting="Hello!")
    assert session_policy.session_config(QUERY, ()) == SessionConfig()
    assert session_policy.greeting_for(QUERY) == "Hello!"


def test_listed_parameters_become_variables() -> None:
    session_policy = SessionPolicy(variables=("from", "vicidial[leadId]", "missing"))
    session_config = session_policy.session_config(QUERY | {"vicidial[leadId]": "7"}, ())
    assert session_config.variables == {"from": "2000", "vicidial_leadId": "7"}
    assert "2000" not in repr(session_config)


@pytest.mark.parametrize(
    ("listed", "value"),
    [(("from", "from[]"), "plain"), (("from[]", "from"), "bracketed"), (("[from]", "from[]", "from"), "bracketed")],
)
def test_of_parameters_that_make_the_same_variable_the_first_listed_that_came_counts(
    listed: tuple[str, ...], value: str
) -> None:
    query = {"from": "plain", "from[]": "bracketed"}
    assert SessionPolicy(variables=listed).session_config(query, ()).variables == {"from": value}
    query = dict(reversed(query.items()))
    assert SessionPolicy(variables=listed).session_config(query, ()).variables == {"from": value}


def test_a_call_may_bring_its_own_settings_where_that_is_allowed() -> None:
    session_policy = SessionPolicy(greeting="Hello!", overrides=True)
    assert session_policy.session_config(QUERY, ()) == SessionConfig("theirs", "their voice", "Be rude.")
    assert session_policy.greeting_for(QUERY) == "Yo!"
    empty = dict.fromkeys(QUERY, "")
    assert session_policy.session_config(empty, ()) == SessionConfig()


@pytest.mark.parametrize(
    ("session_policy", "query", "greeting"),
    [
        (SessionPolicy("Hello!"), {}, "Hello!"),
        (SessionPolicy("Hello!", has_config=True), {}, ""),
        (SessionPolicy("Hello!", has_config=True, greet_with_config=True), {}, "Hello!"),
        (SessionPolicy("Hello!", overrides=True), {"config_id": "c"}, ""),
        (SessionPolicy("Hello!", overrides=False), {"config_id": "c"}, "Hello!"),
        (SessionPolicy("Hello!", overrides=True, greet_with_config=True), {"config_id": "c"}, "Hello!"),
        (SessionPolicy("Hello!", overrides=True, has_config=True), {"welcome_message": "Yo!"}, "Yo!"),
        (SessionPolicy("Hello!", overrides=True), {"welcome_message": ""}, ""),
        (SessionPolicy("Hello!", overrides=True), {"welcome_message": " \n"}, ""),
        (SessionPolicy("Hello!", overrides=False), {"welcome_message": ""}, "Hello!"),
    ],
)
def test_who_greets(session_policy: SessionPolicy, query: dict[str, str], greeting: str) -> None:
    assert session_policy.greeting_for(query) == greeting


def test_tools_are_declared_unless_the_configuration_does_it() -> None:
    assert SessionPolicy().session_config({}, (TOOL,)).tools == (
        ToolOffer("hours", "When we are open.", '{"type":"object"}'),
    )
    assert SessionPolicy(declare_tools=False).session_config({}, (TOOL,)).tools == ()


@given(st.dictionaries(st.text(max_size=80), st.text(max_size=400), max_size=8))
def test_a_variable_is_one_short_printable_line(query: dict[str, str]) -> None:
    session_config = SessionPolicy(variables=tuple(query)).session_config(query, ())
    for name, value in session_config.variables.items():
        assert name.isascii()
        assert name.replace("_", "a").isalnum()
        assert value.isprintable()
        assert len(value) <= 256


@pytest.mark.parametrize(
    ("parameter", "name"), [("from", "from"), ("vicidial[leadId]", "vicidial_leadId"), ("a b", "a_b"), ("[]", "_")]
)
def test_the_name_of_a_variable(parameter: str, name: str) -> None:
    assert variable_name(parameter) == name


@pytest.mark.parametrize("text", [UUID, UUID.upper()])
def test_a_uuid_is_real(text: str) -> None:
    assert is_real_uuid(text)


@pytest.mark.parametrize("text", [None, "", "unknown", "uuid-1", UUID.replace("-", ""), f"{{{UUID}}}", "1234-5"])
def test_anything_else_is_not(text: str | None) -> None:
    assert not is_real_uuid(text)


@pytest.mark.parametrize(
    ("text", "usable"),
    [("a", True), ("x" * 128, True), ("x" * 129, False), ("", False), ("unknown", False), ("a\n", False)],
)
def test_an_id_that_can_name_a_call(text: str, usable: bool) -> None:
    assert usable_id(text) is usable
