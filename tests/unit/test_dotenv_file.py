"""A `.env` file means to this service what it means to Compose, or is refused with its line."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from sts_trio.errors import ConfigError
from sts_trio.settings.dotenv_file import DotenvFile
from tests.fakes.programs import NEEDS_COMPOSE, compose

if TYPE_CHECKING:
    from pathlib import Path

# A file, and the value of X in it for Compose 2.26; None: Compose refuses the file. `REFUSED` are those that we do.
FILES: dict[str, str | None] = {
    "X=a b": "a b",
    "X = spaced ": "spaced",
    "export X=1": "1",
    "  export   X='a b'": "a b",
    "X=a#b": "a#b",
    "X=a # comment": "a",
    "X=#a": "#a",
    'X="a # b" # comment': "a # b",
    "X='a # b'# comment": "a # b",
    'X="two\nlines"': "two\nlines",
    "X='two\nlines' # comment": "two\nlines",
    'X="a\\tb\\nc\\rd\\"e\\\\f"': 'a\tb\nc\rd"e\\f',
    'X="a\\qb"': "a\\qb",
    "X='it\\'s'": "it's",
    "X='a\\b'": "a\\b",
    "X=a\\nb": "a\\nb",
    "X=he said \"hi\" and 'ho'": "he said \"hi\" and 'ho'",
    "X=cost 5$ now": "cost 5$ now",
    "X='$HOME and ${HOME}'": "$HOME and ${HOME}",
    "X=5 # costs $HOME": "5",
    "X=`x` $(x)": "`x` $(x)",
    "X==a": "=a",
    "X=": "",
    "X=''": "",
    "X=1\nX=2": "2",
    "# X=1\n\nX=2\r\nY=3\r\n": "2",
    "\ufeffX=bom": "bom",
    "X=ümläut": "ümläut",
}
REFUSED: dict[str, str | None] = {
    "X=$HOME": "/root",
    'X="a ${HOME}"': "a /root",
    "X=$$a": "$a",
    'X="a\\$HOME"': "a$HOME",
    "X='a\\\\b'": "a\\\\b",
    'X="it\\\'s"': "it\\'s",
    "X= #a": "#a",
    "X=a\t#b": "a\t#b",
    "X: 1": "1",
    "X='a": None,
    'X="a""b"': None,
}
NOT_COMPARED = ('X="a" b', 'X="\\a\\v"')  # Compose itself is not of one mind about them


def read(file: Path, text: str) -> DotenvFile:
    file.write_text(text, encoding="utf-8", newline="")
    return DotenvFile(file)


@pytest.mark.parametrize("text", FILES)
def test_a_value_is_composes(text: str, tmp_path: Path) -> None:
    found = read(tmp_path / ".env", text)
    assert "X" in found
    assert found["X"] == FILES[text]


@pytest.mark.parametrize("text", [*REFUSED, *NOT_COMPARED])
def test_what_would_differ_is_refused_with_its_line_and_without_its_value(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / ".env", f"# first\nY=1\n{text}\n")
    (problem,) = caught.value.problems
    assert problem.startswith("line 3 of ")
    assert "HOME" not in problem


@NEEDS_COMPOSE
@pytest.mark.parametrize("text", [*FILES, *REFUSED])
def test_compose_reads_the_file_as_this_table_says(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/root")
    (tmp_path / ".env").write_text(text, encoding="utf-8", newline="")
    (tmp_path / "compose.yml").write_text("services: {a: {image: a, env_file: .env}}\n")
    command = [*compose(), "config", "--format", "json"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    expected = (FILES | REFUSED)[text]
    if expected is None:
        assert shown.returncode != 0
    else:
        value = json.loads(shown.stdout)["services"]["a"]["environment"]["X"]
        assert value.replace("$$", "$") == expected
