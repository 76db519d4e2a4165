"""What the code says of the protocols, it cites: `docs/protocols` has each file and each section that is named.

A citation is a path with numbers behind it: one, several with commas or ``and``, or a range with ``to``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PLACES = ("sts_trio", "tests", "docs", "examples", "README.md")
KINDS = {".py", ".md", ".toml", ".json", ".yml", ".yaml", ".txt", ".sh", ".conf"}

# A line may end anywhere in a citation, and its comment go on in the next.
_GAP = r"(?:[ ]|[ ]*\n[ \t]*(?:\#[ ]?)?)"
_NUMBER = r"\d{1,2}(?:\.\d{1,2})?(?![\d%])"
_PROTOCOL = re.compile(
    rf"docs/protocols/(?P<name>[\w-]+\.md)(?P<sections>(?:,?{_GAP}(?:sections?{_GAP})?{_NUMBER}"
    rf"(?:(?:,{_GAP}(?:and{_GAP})?|{_GAP}(?:and|to){_GAP}){_NUMBER})*)?)"
)
_DOCUMENT = re.compile(r"(?<![\w/.-])(?:\./)?docs/(?:[\w-]+/)*[\w-]+\.md")
_HEADING = re.compile(r"^#{2,4} (\d{1,2}(?:\.\d{1,2})?)\.? ", re.MULTILINE)
_OLD_FORMS = (
    re.compile(rf"\bcontract,?{_GAP}(?:\(?sections?{_GAP})?\d"),
    re.compile(rf"\bcontract{_GAP}\(section"),
    re.compile(rf"Core{_GAP}contract,{_GAP}section"),
    re.compile(r"(?:hume-evi|openai-realtime|core-sts-contract)\.md"),
)


def _files() -> Iterator[Path]:
    for place in PLACES:
        path = ROOT / place
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and file.suffix in KINDS and file != Path(__file__).resolve():
                yield file


def _sections_of(text: str) -> set[str]:
    return set(_HEADING.findall(text))


def _cited(sections: str) -> list[str]:
    """The numbers in the tail of a citation; of a range of whole sections, those in between as well."""
    numbers = re.findall(_NUMBER, sections)
    for first, last in re.findall(rf"({_NUMBER}){_GAP}to{_GAP}({_NUMBER})", sections):
        if first.isdecimal() and last.isdecimal():
            numbers += [str(number) for number in range(int(first) + 1, int(last))]
    return numbers


def _faults(text: str) -> list[str]:
    """What is wrong with the citations in `text`."""
    wrong = [f"{found[0]!r} is no citation any more" for old in _OLD_FORMS for found in old.finditer(text)]
    wrong += [f"there is no {found[0]}" for found in _DOCUMENT.finditer(text) if not (ROOT / found[0]).is_file()]
    for found in _PROTOCOL.finditer(text):
        file = ROOT / "docs" / "protocols" / found["name"]
        known = _sections_of(file.read_text(encoding="utf-8")) if file.is_file() else set()
        wrong += [
            f"{found['name']} has no section {cited}" for cited in _cited(found["sections"]) if cited not in known
        ]
    return wrong


def test_every_citation_has_its_section() -> None:
    wrong = {
        str(file.relative_to(ROOT)): faults
        for file in _files()
        if (faults := _faults(file.read_text(encoding="utf-8")))
    }
    assert wrong == {}


@pytest.mark.parametrize("name", ["core.md", "evi.md", "realtime.md"])
def test_a_section_has_one_heading(name: str) -> None:
    numbers = _HEADING.findall((ROOT / "docs" / "protocols" / name).read_text(encoding="utf-8"))
    assert len(numbers) == len(set(numbers)) > 10


def test_the_code_cites_each_of_the_protocols() -> None:
    cited: dict[str, set[str]] = {}
    for file in _files():
        if file.suffix == ".py":
            for found in _PROTOCOL.finditer(file.read_text(encoding="utf-8")):
                cited.setdefault(found["name"], set()).update(_cited(found["sections"]))
    assert {"1.2", "1.3", "2", "3"} <= cited["core.md"]
    assert {"2.2", "6.3", "6.4"} <= cited["evi.md"]
    assert {"6.1", "7.2", "8"} <= cited["realtime.md"]


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("(docs/protocols/core.md 1.3).", ["1.3"]),
        ("docs/protocols/core.md, section 2; 4 more", ["2"]),
        ("docs/protocols/core.md, sections 1 and 2)", ["1", "2"]),
        ("docs/protocols/core.md 1.3, 6.1); None", ["1.3", "6.1"]),
        ("docs/protocols/core.md 2 to 5", ["2", "5", "3", "4"]),
        ("docs/protocols/core.md\n    # 1.3 and\n    # 2", ["1.3", "2"]),
        ("docs/protocols/core.md\n\n2 of them", []),
        ("docs/protocols/core.md: any client", []),
    ],
)
def test_what_a_citation_names(text: str, sections: list[str]) -> None:
    found = _PROTOCOL.search(text)
    assert found is not None
    assert _cited(found["sections"]) == sections


@pytest.mark.parametrize(
    "text",
    [
        "docs/protocols/core.md 1.9",
        "docs/protocols/core.md 1 and 77",
        "docs/protocols/evi.md 9 to 12",
        "docs/protocols/nobody.md 1",
        "see docs/nobody.md",
        "(contract 1.3)",
        "Core contract, section 2",
        "Core contract,\n    sections 1 and 2",
        "the contract (section 3)",
        "hume-evi.md",
        "openai-realtime.md 7.2",
    ],
)
def test_a_wrong_citation_is_found(text: str) -> None:
    assert _faults(text)
