"""A file of faults: what it may say, and what is said of one that is wrong."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.lab.emulator import (
    CloseWith,
    EmulatorOptions,
    FaultsError,
    FaultsFile,
    GarbageOnly,
    LateDone,
    Mute,
    NoEnds,
    Outage,
    Refuse,
    Reset,
    SendBinary,
    SendError,
    SendGarbage,
    SendJunk,
    parse_faults,
)
from sts_trio.lab.emulator.evi.malformed import MALFORMED as EVI
from sts_trio.lab.emulator.malformed import JunkKind
from sts_trio.lab.emulator.options import KINDS
from sts_trio.lab.emulator.realtime.malformed import MALFORMED as REALTIME

DOCS = Path(__file__).parents[3] / "docs/internals/faults.md"

EXAMPLE = FaultsFile(
    faults=(
        Refuse(429, headers={"Retry-After": "3"}, connections="first 2"),
        Mute(connections=5),
        Reset(0.3, at="agent_speaking", nth=2, connections=[3, 4], chance=0.5),
        SendError(1.5, "E0300", close=1000),
        SendBinary(0, b"\x00\xff"),
    ),
    outages=(Outage(10, 2.5),),
    max_chats=3,
    seed=7,
)


def test_toml_and_json_say_the_same() -> None:
    toml = b"""
        seed = 7
        max_chats = 3
        faults = [
            {fault = "status", status = 429, headers = {"Retry-After" = "3"}, connections = "first 2"},
            {fault = "mute", connections = 5},
            {fault = "reset", after = 0.3, at = "agent_speaking", nth = 2, connections = [3, 4], chance = 0.5},
            {fault = "error", after = 1.5, code = "E0300", close = 1000},
            {fault = "binary", data = "AP8="},
        ]
        [[outages]]
        after = 10
        seconds = 2.5
    """
    assert parse_faults(toml, "a.toml") == EXAMPLE
    assert parse_faults(msgspec.json.encode(EXAMPLE), "a.JSON") == EXAMPLE
    assert parse_faults(b"\xef\xbb\xbf{}", "a.json") == parse_faults(b"", "a.toml") == FaultsFile()


def test_a_file_is_applied_to_the_options() -> None:
    options = EXAMPLE.applied(EmulatorOptions(rate=24_000))
    assert (options.rate, options.max_chats, options.seed) == (24_000, 3, 7)
    assert (options.faults, options.outages) == (EXAMPLE.faults, EXAMPLE.outages)


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_fault_with_all_its_defaults_survives_a_file(kind: Any) -> None:
    there_and_back = parse_faults(msgspec.json.encode({"faults": [kind()]}), "a.json")
    assert there_and_back.faults == (kind(),)
    assert parse_faults(json.dumps({"faults": [{"fault": kind().name}]}).encode(), "a.json") == there_and_back


def one(**fields: Any) -> bytes:
    return json.dumps({"faults": [{"fault": "mute"}, fields]}).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Expecting value: line 1 column 1"),
        (b'{"faults":\n [}', "line 2 column 3"),
        (b"[]", "the whole: Expected `object`, got `array`"),
        (b'{"faulst":[]}', "unknown field `faulst`"),
        (b"\xff", "byte 0: not UTF-8"),
        (b"[" * 100_000, "recursion"),
        (b'{"seed":-1}', "seed: Expected `int` >= 0"),
        (b'{"outages":[{"seconds":-1}]}', "outages[0].seconds: Expected `float` >= 0"),
        (one(), "faults[1]: Object missing required field `fault`"),
        (
            one(fault="lightning"),
            "faults[1].fault: Invalid value 'lightning' (known: asks_for_tool, binary, bytes, close, cut, ",
        ),
        (one(fault="close", cod=1011), "faults[1]: Object contains unknown field `cod`"),
        (one(fault="close", code="1011"), "faults[1].code: Expected `int`, got `str`"),
        (one(fault="close", code=999), "faults[1].code: Expected `int` >= 1000"),
        (one(fault="close", code=1006), "faults[1]: no close frame has the code 1006"),
        (one(fault="close", after=-1), "faults[1].after: Expected `float` >= 0"),
        (one(fault="close", at="lunch"), "faults[1].at: Invalid enum value 'lunch'"),
        (one(fault="mute", at="ready"), "faults[1]: Object contains unknown field `at`"),
        (one(fault="close", nth=0), "faults[1].nth: Expected `int` >= 1"),
        (one(fault="close", chance=10), "faults[1].chance: Expected `float` <= 1"),
        (one(fault="close", connections="second"), 'faults[1]: connections: say a number, a list of them, "first 3"'),
        (one(fault="close", connections=[-1]), "faults[1].connections[0]: Expected `int` >= 0"),
        (one(fault="delay", seconds=61), "faults[1].seconds: Expected `float` <= 60"),
        (one(fault="status", status=101), "faults[1].status: Expected `int` >= 200"),
        (one(fault="bytes", data="*"), "faults[1].data: Invalid base64"),
        (one(fault="junk", kind="fish"), "faults[1].kind: Invalid enum value 'fish'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_place(content: bytes, said: str) -> None:
    with pytest.raises(FaultsError) as info:
        parse_faults(content, "bad.json")
    assert str(info.value).startswith("bad.json: ")
    assert said in str(info.value)
    assert "\n" not in str(info.value)


def test_toml_names_its_place_too_and_another_name_is_refused() -> None:
    with pytest.raises(FaultsError, match=r"^a\.toml: .*line 2, column 6"):
        parse_faults(b"\nseed 7", "a.toml")
    with pytest.raises(FaultsError, match=r"^a\.yaml: its name must end in \.json or \.toml$"):
        parse_faults(b"", "a.yaml")


@given(st.binary(), st.sampled_from(["a.json", "a.toml"]))
def test_any_bytes_are_read_or_refused(content: bytes, name: str) -> None:
    with contextlib.suppress(FaultsError):
        parse_faults(content, name)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(list(KINDS)), st.data())
def test_any_value_in_any_field_is_read_or_refused(name: str, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(KINDS[name].__struct_fields__))
    content = one(fault=name, **{field: data.draw(JSON)})
    with contextlib.suppress(FaultsError):
        fault = parse_faults(content, "a.json").faults[1]
        assert fault.name == name
        assert not math.isnan(fault.chance)


def test_the_docs_name_every_fault_and_field_and_their_examples_are_right() -> None:
    text = DOCS.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))
    common = {"connections", "chance", "at", "nth", "after"}
    assert common <= rows.keys()
    assert set(KINDS) <= rows.keys()
    for name, kind in KINDS.items():
        fields = set(re.findall(r"`(\w+)=", rows[name]))
        assert fields == set(kind.__struct_fields__) - common, name
    examples = re.findall(r"```(toml|json)\n(.*?)```", text, re.DOTALL)
    assert len(examples) >= 2
    for language, example in examples:
        assert parse_faults(example.encode(), f"example.{language}").faults


def test_the_docs_have_every_kind_of_junk_and_what_has_it() -> None:
    text = DOCS.read_text(encoding="utf-8")
    table = text.partition("## Kinds of junk")[2]
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|([^|]*)\|$", table, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(get_args(JunkKind))
    for tables, column in ((EVI, 1), (REALTIME, 2)):
        named = {row[0] for row in rows if row[column].strip()}
        assert named == set(tables) | {"utf8"}


@pytest.mark.parametrize(
    ("service", "fault", "lack"),
    [
        ("humeai", SendJunk(kind="usage_text"), "junk of the kind usage_text"),
        ("openai", SendJunk(kind="scores_nan"), "junk of the kind scores_nan"),
        ("xai", GarbageOnly(kind="wav_rate_0"), "junk of the kind wav_rate_0"),
        ("xai", NoEnds(), "assistant_end"),
        ("humeai", LateDone(), "fault of the kind late_done"),
    ],
)
def test_what_a_protocol_does_not_have_is_refused(service: str, fault: Any, lack: str) -> None:
    with pytest.raises(FaultsError, match=rf"^faults\[1\]: the protocol of {service} has no {lack}$"):
        FaultsFile(faults=(Mute(), fault)).applied(EmulatorOptions(service=service))


def test_a_close_reason_fits_into_its_frame() -> None:
    assert CloseWith(reason="\u2028" * 41).reason
    with pytest.raises(FaultsError, match=r"no room for a reason of more than 123 bytes"):
        parse_faults(one(fault="close", reason="\u2028" * 42), "a.json")


def test_bytes_in_a_file_are_base64() -> None:
    content = one(fault="bytes", data=base64.b64encode(b"\xff\x00").decode())
    assert parse_faults(content, "a.json").faults[1] == SendGarbage(data=b"\xff\x00")


def test_reading_a_file_does_not_crash_the_interpreter_at_its_end() -> None:
    """It did, one time in three, with a `Meta(pattern=…)` among the types (msgspec 0.22, its issue 717)."""
    code = 'from sts_trio.lab.emulator import *; parse_faults(b\'{"faults":[{"fault":"mute"}]}\', \'a.json\')'
    for _ in range(4):
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("code", [1006, 999])
def test_close_codes_are_looked_at_in_errors_as_well(code: int) -> None:
    with pytest.raises(FaultsError, match=r"faults\[1\]"):
        parse_faults(one(fault="error", close=code), "a.json")
    assert parse_faults(one(fault="close", code=4000), "a.json").faults[1] == CloseWith(code=4000)
