"""What an agent is told of a function, and how its arguments reach it."""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import AsyncIterator, Callable, Iterator  # noqa: TC003 - types of tools are read as they run
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType, Optional

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.tools import CallContext, ToolError
from sts_trio.tools.tool import NotATool, describe

if TYPE_CHECKING:
    from decimal import Decimal

CALL = CallContext("u-1", {"from": "2000"})
Number = NewType("Number", str)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Place:
    """Where."""

    street: str
    number: int = 1


def everything(
    text: str,
    whole: int,
    part: float,
    switch: bool,
    many: list[str],
    place: Place,
    colour: Colour,
    day: date,
    size: Literal["s", "m"] = "m",
    maybe: int | None = None,
    loose: dict[str, int] | None = None,
    noted: Annotated[str, msgspec.Meta(description="noted by Meta", max_length=5)] = "x",
) -> str:
    """Do all of it.

    More about it.

    Args:
        text: what is
            said
        colour: of the paint
        noted: noted by the docstring

    Returns:
        Nothing of use.
    """
    return text


WHOLE_SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "description": "what is said"},
        "whole": {"type": "integer"},
        "part": {"type": "number"},
        "switch": {"type": "boolean"},
        "many": {"type": "array", "items": {"type": "string"}},
        "place": {"$ref": "#/$defs/Place"},
        "colour": {"$ref": "#/$defs/Colour", "description": "of the paint"},
        "day": {"type": "string", "format": "date"},
        "size": {"enum": ["m", "s"], "default": "m"},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        "loose": {
            "anyOf": [{"type": "object", "additionalProperties": {"type": "integer"}}, {"type": "null"}],
            "default": None,
        },
        "noted": {"type": "string", "description": "noted by Meta", "maxLength": 5, "default": "x"},
    },
    "required": ["text", "whole", "part", "switch", "many", "place", "colour", "day"],
    "$defs": {
        "Place": {
            "title": "Place",
            "description": "Where.",
            "type": "object",
            "properties": {"street": {"type": "string"}, "number": {"type": "integer", "default": 1}},
            "required": ["street"],
        },
        "Colour": {"title": "Colour", "enum": ["blue", "red"]},
    },
}
ARGUMENTS = {
    "text": "hello",
    "whole": 3,
    "part": 1.5,
    "switch": True,
    "many": ["a"],
    "place": {"street": "Main"},
    "colour": "red",
    "day": "2026-01-31",
}


def test_types_and_docstring_become_a_plain_object_schema() -> None:
    tool = describe(everything)
    schema = json.loads(tool.parameters)
    assert schema == WHOLE_SCHEMA
    assert (tool.name, tool.description) == ("everything", "Do all of it.\n\nMore about it.")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(ARGUMENTS, schema, jsonschema.Draft202012Validator)


def test_arguments_come_as_the_types_that_the_function_asks_for_and_defaults_stay_its_own() -> None:
    bound = describe(everything).bind(json.dumps(ARGUMENTS), CALL)
    assert bound == ARGUMENTS | {"place": Place("Main", 1), "colour": Colour.RED, "day": date(2026, 1, 31)}


def google(a: int, b: str = "") -> None:
    """Do it.

    Args:
        a: the first
        b (str): the second
    """


def numpy_style(a: int, b: str = "") -> None:
    """Do it.

    Parameters
    ----------
    a : int
        the first
    b : str, optional
        the second
    """


def rest(a: int, b: str = "") -> None:
    """Do it.

    :param a: the first
    :param b: the second
    :returns: nothing
    """


@pytest.mark.parametrize("function", [google, numpy_style, rest])
def test_the_usual_styles_of_docstring_are_read(function: Callable[..., object]) -> None:
    tool = describe(function)
    assert tool.description == "Do it."
    assert {name: part["description"] for name, part in json.loads(tool.parameters)["properties"].items()} == {
        "a": "the first",
        "b": "the second",
    }


def test_a_function_without_parameters_has_the_schema_of_an_empty_object() -> None:
    def ping() -> str:
        """Say pong."""
        return "pong"

    assert json.loads(describe(ping).parameters) == {"type": "object", "properties": {}, "required": []}


def with_call(call: CallContext, text: str) -> str:
    """Use the call."""
    return text


def with_optional_call(text: str, call: CallContext | None = None) -> str:
    """Use the call."""
    return text


def with_old_optional_call(text: str, call: Optional[CallContext] = None) -> str:  # noqa: UP045 - as some write it
    """Use the call."""
    return text


@pytest.mark.parametrize("function", [with_call, with_optional_call, with_old_optional_call])
def test_the_call_is_given_to_who_asks_for_it_and_the_agent_knows_nothing_of_it(
    function: Callable[..., object],
) -> None:
    tool = describe(function)
    assert list(json.loads(tool.parameters)["properties"]) == ["text"]
    assert tool.bind('{"text": "x", "call": {"uuid": "forged"}}', CALL) == {"text": "x", "call": CALL}


def test_a_wrapped_function_is_described_as_what_it_wraps() -> None:
    @functools.wraps(google)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        google(*args, **kwargs)

    assert describe(wrapper).parameters == describe(google).parameters
    assert describe(functools.cache(google)).parameters == describe(google).parameters


def test_a_default_that_json_cannot_say_is_not_told() -> None:
    def look(what: str = object()) -> str:  # type: ignore[assignment] # a sentinel
        """Look."""
        return what

    assert json.loads(describe(look).parameters)["properties"] == {"what": {"type": "string"}}


def no_docstring(a: int) -> None:
    pass


def only_parameters_documented(a: int) -> None:
    """:param a: the first"""


def no_type(a) -> None:  # type: ignore[no-untyped-def]  # that is the point
    """Do it."""


def star_args(*numbers: int) -> None:
    """Do it."""


def star_kwargs(**more: int) -> None:
    """Do it."""


def positional_only(a: int, /) -> None:
    """Do it."""


def strange_type(a: Iterator[int]) -> None:
    """Do it."""


def strange_nested_type(a: list[complex]) -> None:
    """Do it."""


def impossible_union(a: dict[str, int] | Place) -> None:
    """Do it."""


def unknown_type(a: Decimal) -> None:
    """Do it."""


def broken_hint(a: Place.nothing) -> None:  # type: ignore[name-defined]  # that is the point
    """Do it."""


def generator(a: int) -> Iterator[int]:
    """Do it."""
    yield a


async def async_generator(a: int) -> AsyncIterator[int]:
    """Do it."""
    yield a


def grüße(a: int) -> None:  # noqa: PLC2401 - what is not to be
    """Do it."""


def a_name_that_is_much_longer_than_sixty_four_characters_is_no_name_for_a_tool() -> None:
    """Do it."""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (no_docstring, "no_docstring has no docstring"),
        (only_parameters_documented, "has no docstring"),
        (no_type, "the parameter a of no_type has no type"),
        (star_args, r"takes `\*numbers: "),
        (star_kwargs, r"takes `\*\*more: "),
        (positional_only, "the parameter a of positional_only is positional-only"),
        (strange_type, "the type of the parameter a of strange_type cannot be described"),
        (strange_nested_type, "the type of the parameter a of strange_nested_type .*complex"),
        (impossible_union, "of impossible_union cannot be described in JSON .*more than one dict-like"),
        (unknown_type, "a type that is not known, Decimal: import it at the top"),
        (broken_hint, "the type hints of broken_hint cannot be read: .*nothing"),
        (generator, "generator yields"),
        (async_generator, "async_generator yields"),
        (grüße, "`grüße` is no name for a tool"),
        (a_name_that_is_much_longer_than_sixty_four_characters_is_no_name_for_a_tool, "is no name for a tool"),
        (lambda: None, "`<lambda>` is no name for a tool"),
    ],
)
def test_what_an_agent_could_not_call_is_refused_on_one_line(function: Callable[..., object], words: str) -> None:
    with pytest.raises(NotATool, match=words) as caught:
        describe(function)
    assert "\n" not in str(caught.value)


def lenient(
    whole: int = 1,
    part: float = 1.0,
    switch: bool = False,
    text: str = "x",
    number: Number = Number("1"),
    short: Annotated[str, msgspec.Meta(max_length=4)] = "x",
    maybe: str | None = "x",
    either: str | int = "x",
    anything: Any = 1,
    many: list[int] = [],  # noqa: B006 - what users write
) -> None:
    """Take what comes."""


@pytest.mark.parametrize(
    ("arguments", "bound"),
    [
        ("", {}),
        ("  ", {}),
        ("null", {}),
        ("{}", {}),
        ('{"nobody": 1, "asked": {"for": [1]}}', {}),
        ('{"whole": "5"}', {"whole": 5}),
        ('{"whole": 5.0}', {"whole": 5}),
        ('{"part": "1.5"}', {"part": 1.5}),
        ('{"part": 2}', {"part": 2.0}),
        ('{"switch": "true"}', {"switch": True}),
        ('{"text": 2000}', {"text": "2000"}),
        ('{"text": 2000.0}', {"text": "2000"}),
        ('{"text": 1.5}', {"text": "1.5"}),
        ('{"number": 2000}', {"number": "2000"}),
        ('{"short": 2000}', {"short": "2000"}),
        ('{"either": 2000}', {"either": 2000}),
        ('{"anything": 2000}', {"anything": 2000}),
        ('{"anything": null}', {"anything": None}),
        ('{"maybe": null}', {"maybe": None}),
        ('{"maybe": 7}', {"maybe": "7"}),
        ('{"text": null, "whole": null, "many": null}', {}),
        ('{"many": ["1", 2]}', {"many": [1, 2]}),
        ('{"text": "a", "text": "b"}', {"text": "b"}),
    ],
)
def test_what_models_mix_up_is_understood(arguments: str, bound: dict[str, object]) -> None:
    assert describe(lenient).bind(arguments, CALL) == bound


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("{", "the arguments are no JSON that can be read"),
        ("[1]", "the arguments must be a JSON object"),
        ('"text"', "the arguments are no JSON that can be read"),
        ('"7"', "the arguments must be a JSON object"),
        ("\ud800", "half a character"),
        ("[" * 100_000, "nested too deeply"),
        ("{}", "wrong arguments for everything: Object missing required field `text`"),
        (
            json.dumps(ARGUMENTS | {"whole": "five"}),
            "wrong arguments for everything: `whole`: Expected `int`, got `str`",
        ),
        (json.dumps(ARGUMENTS | {"whole": None}), "`whole`: Expected `int`, got `null`"),
        (json.dumps(ARGUMENTS | {"text": True}), "`text`: Expected `str`, got `bool`"),
        (json.dumps(ARGUMENTS | {"place": {}}), "`place`: Object missing required field `street`"),
        (json.dumps(ARGUMENTS | {"place": {"street": 1}}), "`place.street`: Expected `str`, got `int`"),
        (json.dumps(ARGUMENTS | {"many": [1]}), r"`many\[0\]`: Expected `str`, got `int`"),
        (json.dumps(ARGUMENTS | {"colour": "pink"}), "`colour`: Invalid enum value 'pink'"),
        (json.dumps(ARGUMENTS | {"noted": "longer"}), "`noted`: Expected `str` of length <= 5"),
        (json.dumps(ARGUMENTS | {"day": "soon"}), "`day`: Invalid RFC3339"),
    ],
)
def test_what_does_not_fit_is_said_in_words_that_an_agent_can_act_on(arguments: str, words: str) -> None:
    with pytest.raises(ToolError, match=words):
        describe(everything).bind(arguments, CALL)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.text()
    | json_values.map(json.dumps)
    | st.fixed_dictionaries({}, optional=dict.fromkeys(ARGUMENTS, json_values)).map(json.dumps)
)
def test_no_arguments_do_more_than_be_refused(arguments: str) -> None:
    for function in (lenient, everything):
        tool = describe(function)
        bound = {}
        with suppress(ToolError):
            bound = tool.bind(arguments, CALL)
        assert bound.keys() <= tool._hints.keys()


@given(
    st.fixed_dictionaries(
        {
            "text": st.text(),
            "whole": st.integers(-(2**63), 2**63),
            "part": st.floats(allow_nan=False, allow_infinity=False),
            "switch": st.booleans(),
            "many": st.lists(st.text()),
            "place": st.fixed_dictionaries({"street": st.text()}, optional={"number": st.integers(-99, 99)}),
            "colour": st.sampled_from(["red", "blue"]),
            "day": st.dates().map(date.isoformat),
        }
    )
)
def test_what_the_schema_allows_is_accepted(arguments: dict[str, object]) -> None:
    tool = describe(everything)
    jsonschema.validate(arguments, json.loads(tool.parameters), jsonschema.Draft202012Validator)
    bound = tool.bind(json.dumps(arguments), CALL)
    assert {"text", "whole", "part", "switch", "many", "place", "colour", "day"} == bound.keys()
    assert (bound["text"], bound["whole"], bound["many"]) == (arguments["text"], arguments["whole"], arguments["many"])


def one_number(number: int) -> None:
    """Take a number."""


@pytest.mark.parametrize(
    "arguments",
    [
        '{"number":7}',
        '"{\\"number\\":7}"',
        '```json\n{"number":7}\n```',
        '```\n{"number":7}```',
        ' ```JSON {"number":7} ``` \n',
        '"```json\\n{\\"number\\":7}\\n```"',
    ],
)
def test_arguments_in_a_fence_or_in_text_are_read(arguments: str) -> None:
    assert describe(one_number).bind(arguments, CallContext()) == {"number": 7}


@pytest.mark.parametrize("arguments", ['"seven"', "```json", "``` ```", '"\\"{}\\""', '["```"]'])
def test_what_is_in_them_must_be_an_object(arguments: str) -> None:
    assert describe(one_number).check(arguments)
