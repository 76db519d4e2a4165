"""What is printed becomes lines of the log."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from sts_trio.printed import printed_to_log

if TYPE_CHECKING:
    from tests.conftest import Logged


def printed(logged: Logged) -> list[tuple[str, str]]:
    return [(line["stream"], line["text"]) for line in logged.lines if line["event"] == "printed"]


def test_each_line_is_one_of_the_log_and_empty_ones_are_none(logged: Logged) -> None:
    with printed_to_log():
        print("looking up", 17)
        print("two\nlines\n\n", end="")
        print("half a", end=" ")
        print("line", flush=True)
        sys.stderr.write("grüße\n")
    print("not this")
    assert printed(logged) == [
        ("stdout", "looking up 17"),
        ("stdout", "two"),
        ("stdout", "lines"),
        ("stdout", "half a line"),
        ("stderr", "grüße"),
    ]


def test_what_threads_print_at_once_is_not_mixed(logged: Logged) -> None:
    at_once = threading.Barrier(4)

    def work(name: str) -> None:
        at_once.wait()
        for _ in range(50):
            print(name, name, name)

    with printed_to_log():
        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(printed(logged)) == sorted(
        [("stdout", f"{name} {name} {name}") for name in "abcd" for _ in range(50)]
    )


def test_a_line_without_an_end_is_not_kept_whole(logged: Logged) -> None:
    with printed_to_log():
        for _ in range(100):
            sys.stdout.write("x" * 1000)
    assert len(printed(logged)) == 9


def test_what_python_itself_says_is_logged(logged: Logged) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("in a finalizer")

    with printed_to_log():
        before, sys.unraisablehook = sys.unraisablehook, sys.__unraisablehook__
        try:
            broken = Broken()
            del broken
        finally:
            sys.unraisablehook = before
    said = str(printed(logged))
    assert "ValueError: in a finalizer" in said
