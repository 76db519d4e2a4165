"""The page of a load: its curves are of the looks that were taken, and what is told of it is text."""

from __future__ import annotations

import pytest

from sts_trio.lab.load.curves import MOST_POINTS, Curves
from sts_trio.lab.page.load_page import load_page
from tests.lab.page.examples import EVIL, NOON, curves, look, results
from tests.lab.page.reading import Read


def test_the_curves_are_of_the_looks_that_were_taken() -> None:
    read = Read(load_page([(results(), curves())], "openai", (), made=NOON))
    up_p99, up_p50, server, load, calls = (path["d"] for path in read.all("path"))
    # 4 ms after 2 of 8 s, up to 16 of 20 ms; nothing before it.
    assert up_p99.startswith("M25 80L")
    assert up_p99.endswith("L100 20")
    assert up_p50 == "M25 95" + "".join(f"L{place:g} 95" for place in (37.5, 50, 62.5, 75, 87.5, 100))
    assert server.startswith("M12.5 0L")  # 10 per cent, the most there is
    assert load.startswith("M12.5 50L")  # of the first look nobody knows since when
    assert calls.startswith("M0 0L")
    spans = [each["style"] for each in read.all("i", "span")]
    assert spans == ["left:25.0%;width:50.0%"] * 3
    assert any("up, p99 ends at 16" in each.get("aria-label", "") for each in read.all("figure"))


def test_there_are_never_more_points_than_can_be_drawn() -> None:
    made = curves(4 * MOST_POINTS)
    assert MOST_POINTS / 2 <= len(made.points) <= MOST_POINTS
    gaps = {round(b.at - a.at) for a, b in zip(made.points[:-1], made.points[1:], strict=True)}
    assert gaps == {4}
    assert made.seconds == pytest.approx(4 * MOST_POINTS, rel=0.01)


def test_what_strangers_say_is_text_and_nothing_comes_from_outside() -> None:
    run = results(url=f"ws://{EVIL}/", failures={EVIL: 3}, failed=3, warnings=(EVIL,))
    compared = ((EVIL, "other"), ((EVIL, EVIL, "1.00", "-"),))
    read = Read(load_page([(run, curves()), (run, curves())], "openai", (EVIL,), compared, NOON))
    assert len(read.all("script")) == 1
    assert "alert" not in read.script
    assert read.text.count(EVIL) >= 8
    addresses = [each[name] for _, each in read.found for name in ("src", "href") if name in each]
    assert all(address.startswith(("data:", "#")) for address in addresses)


@pytest.mark.parametrize(
    ("exceeded", "failed", "words"),
    [
        ((), 0, "The load was held"),
        ((), 1, "The load was held, and 1 call failed"),
        (("latency",), 1, "The load exceeded 1 limit"),
        (("latency", "frames"), 0, "The load exceeded 2 limits"),
    ],
)
def test_how_it_went_is_said_first(exceeded: tuple[str, ...], failed: int, words: str) -> None:
    page = load_page([(results(failed=failed), curves())], "openai", exceeded, made=NOON)
    assert f">{words}</h1>" in page.decode()


def test_a_run_of_which_little_is_known_has_a_page() -> None:
    unknown = results(up=None, first_audio=None, stop=None, cpu=None, cpu_per_call=None, memory_per_call=None)
    made = Curves()
    made.add(look(5.0, p99=None, server=None))
    read = Read(load_page([(unknown, made)], "openai", (), made=NOON))
    assert len(read.all("figure")) == 1  # of calls
    assert "nan" not in read.text.lower()
