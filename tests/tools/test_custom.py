"""A directory of operators' files: what is loaded, and what is said of the rest."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from sts_trio.tools import CallContext
from sts_trio.tools.custom import load_tools
from sts_trio.tools.tool import ToolResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sts_trio.tools.custom import LoadedTools

GOOD = '''
def NAME(text: str = "") -> str:
    """Say NAME."""
    return "NAME" + text
'''


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    modules, finders = set(sys.modules), list(sys.meta_path)
    yield
    sys.meta_path[:] = finders
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def fill(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        (directory / f"{name}.py").write_text(dedent(text), encoding="utf-8")
    return directory


def load(directory: Path, *, explicit: bool = True, taken: tuple[str, ...] = ()) -> LoadedTools:
    return load_tools(directory, explicit=explicit, seconds=5, taken=taken)


async def test_every_file_is_a_tool_in_the_order_of_their_names(tmp_path: Path) -> None:
    fill(tmp_path, b=GOOD.replace("NAME", "second"), a=GOOD.replace("NAME", "first"))
    loaded = load(tmp_path)
    assert not loaded.problems
    assert [tool.name for tool in loaded.tools] == ["first", "second"]
    assert [tool.description for tool in loaded.tools] == ["Say first.", "Say second."]
    assert not any(tool.ends_call for tool in loaded.tools)
    assert await loaded.tools[1].run('{"text": "!"}', CallContext()) == ToolResult("second!")


async def test_async_functions_and_the_call_work_with_types_as_text(tmp_path: Path) -> None:
    fill(
        tmp_path,
        who='''
        from __future__ import annotations
        from dataclasses import dataclass
        import trio
        from sts_trio.tools import CallContext

        @dataclass
        class Person:
            name: str
            born: int | None = None

        async def who(person: Person, call: CallContext) -> dict[str, object]:
            """Say who."""
            await trio.sleep(0)
            return {"name": person.name, "from": call.query["from"]}
        ''',
    )
    (tool,) = load(tmp_path).tools
    result = await tool.run('{"person": {"name": "Ann"}}', CallContext("u", {"from": "2000"}))
    assert result == ToolResult('{"name":"Ann","from":"2000"}')


def test_what_begins_with_an_underscore_or_a_dot_or_is_no_python_is_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, _helper="raise SystemExit", good=GOOD.replace("NAME", "good"))
    (tmp_path / ".hidden.py").write_text("raise SystemExit")
    (tmp_path / "__init__.py").write_text("raise SystemExit")
    (tmp_path / "README.md").write_text("# read me")
    (tmp_path / "data.json").write_text("{}")
    (tmp_path / "package.py").mkdir()
    (tmp_path / "__pycache__").mkdir()
    loaded = load(tmp_path)
    assert [tool.name for tool in loaded.tools] == ["good"]
    assert not loaded.problems


def test_of_several_functions_the_one_that_bears_the_files_name_is_the_tool(tmp_path: Path) -> None:
    source = GOOD.replace("NAME", "other") + GOOD.replace("NAME", "several") + GOOD.replace("NAME", "_third")
    (tool,) = load(fill(tmp_path, several=source)).tools
    assert tool.name == "several"


def test_what_was_imported_is_no_function_of_the_file(tmp_path: Path) -> None:
    source = """
    import functools
    from json import dumps, loads
    from os.path import join

    class Helper:
        def method(self): ...

    @functools.cache
    def cached(text: str) -> str:
        '''Cached.'''
        return text

    again = cached
    """
    loaded = load(fill(tmp_path, anything=source))
    assert [tool.name for tool in loaded.tools] == ["cached"]
    assert not loaded.problems


async def test_neighbours_that_begin_with_an_underscore_can_be_imported(tmp_path: Path) -> None:
    fill(
        tmp_path,
        _sts_shared="GREETING = 'hello'",
        _sts_later="TIME = 'later'",
        greet='''
        from _sts_shared import GREETING

        def greet() -> str:
            """Greet."""
            import _sts_later
            return f"{GREETING} {_sts_later.TIME}"
        ''',
    )
    (tool,) = load(tmp_path).tools
    assert await tool.run("", CallContext()) == ToolResult("hello later")
    assert str(tmp_path) not in sys.path


def test_a_tools_file_is_not_what_a_library_finds(tmp_path: Path) -> None:
    fill(tmp_path, sts_brotli=GOOD.replace("NAME", "sts_brotli"))
    load(tmp_path)
    with pytest.raises(ModuleNotFoundError):
        __import__("sts_brotli")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("def f(:\n", r"bad\.py:1: this is not Python: invalid syntax"),
        ("x = 1\n  y = 2\n", r"bad\.py:2: this is not Python: unexpected indent"),
        ("import sys\n\nsys.exit(3)\n", r"bad\.py:3: it ends the program as it is loaded"),
        ("x = {}\nx['secret']\n", r"bad\.py:2: it fails as it is loaded: KeyError: 'secret'"),
        ("def f():\n    raise ValueError\nf()\n", r"bad\.py:2: it fails as it is loaded: ValueError$"),
        ("raise GeneratorExit\n", r"bad\.py:1: it fails as it is loaded: GeneratorExit$"),
        ("import sts_nothing.at_all\n", r"bad\.py:1: No module named 'sts_nothing': install it beside sts-trio"),
        ("from json import nothing\n", r"bad\.py:1: it fails as it is loaded: ImportError: cannot import name"),
        ("from . import other\n", r"bad\.py:1: it fails as it is loaded: ImportError: attempted relative import"),
        ("import _sts_broken\n", r"bad\.py:1: this is not Python: .* \(in .*_sts_broken\.py, line 1\)"),
        ("", r"bad\.py: it has no function: define one"),
        ("def _private(): ...\n", r"bad\.py: it has no function"),
        ("class Tool: ...\nvalue = 1\n", r"bad\.py: it has no function"),
        ("def a(): ...\ndef b(): ...\n", r"bad\.py: it has 2 functions \(a, b\): call one bad, or let the others"),
        ("\n\ndef f(a):\n    'Do.'\n", r"bad\.py:3: the parameter a of f has no type"),
        ("def f(a: int): ...\n", r"bad\.py:1: f has no docstring"),
        ("def f(*a: int):\n    'Do.'\n", r"bad\.py:1: f takes `\*a: int`"),
        ("def dsai_hangup():\n    'Do.'\n", r"bad\.py: dsai_hangup is the name of a built-in tool: rename"),
        ("def fine():\n    'Do.'\n", None),
        ("def good():\n    'Do.'\n", r"good\.py: good is in bad\.py already: rename one of the two"),
        ("def f():\n    'Do.'\n\x00", r"bad\.py.*: (this is not Python|it fails as it is loaded): .*null bytes"),
    ],
)
def test_a_broken_file_is_one_line_and_stops_no_other(
    tmp_path: Path, source: str, problem: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, bad=source, good=GOOD.replace("NAME", "good"), _sts_broken="def (")
    before = set(sys.modules)
    loaded = load(tmp_path, taken=("dsai_hangup", "dsai_transfer"))
    assert "good" in [tool.name for tool in loaded.tools]
    if problem is None:
        assert not loaded.problems
    else:
        (line,) = loaded.problems
        assert re.search(problem, line)
        assert line.startswith(str(tmp_path))
        assert "\n" not in line
    assert len({name for name in set(sys.modules) - before if name.startswith("sts_trio_tool_")}) <= 2
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_not_utf8_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_bytes(b"x = '\xff'\n")
    (line,) = load(tmp_path).problems
    assert line.startswith(f"{tmp_path}/bad.py")
    assert "utf-8" in line.lower()


def test_a_link_to_nowhere_and_a_pipe_are_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.py")
    assert load(tmp_path).problems == (
        f"{tmp_path}/gone.py: this is no file, or it is gone",
        f"{tmp_path}/pipe.py: this is no file, or it is gone",
    )


def test_a_tool_in_javascript_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    (tmp_path / "lookup.js").write_text("module.exports = {}")
    assert load(tmp_path).problems == (f"{tmp_path}/lookup.js: JavaScript is not run here: write the tool in Python",)


def test_an_interrupt_as_files_are_loaded_is_the_operators(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        load(fill(tmp_path, slow="raise KeyboardInterrupt"))


@pytest.mark.parametrize("explicit", [True, False])
def test_a_missing_directory_is_a_problem_only_where_it_was_asked_for(tmp_path: Path, explicit: bool) -> None:
    missing = tmp_path / "nowhere"
    expected = (f"{missing}: there is no such directory: make it, or correct TOOLS_DIR",) if explicit else ()
    loaded = load(missing, explicit=explicit)
    assert (loaded.tools, loaded.problems) == ((), expected)


def test_a_file_for_a_directory_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "tools").write_text("")
    assert load(tmp_path / "tools", explicit=False).problems == (
        f"{tmp_path}/tools: its files cannot be listed: Not a directory",
    )


def test_a_directory_may_be_named_from_where_the_service_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tools").mkdir()
    fill(tmp_path / "tools", bad="x = 1\nraise ValueError\n")
    monkeypatch.chdir(tmp_path)
    assert load(Path("tools")).problems == (f"{tmp_path}/tools/bad.py:2: it fails as it is loaded: ValueError",)
