"""Who gets the next connection, how places are shared out, how long a dead worker stays away, how many cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.workers.channel import Report
from sts_trio.workers.pool import (
    MAX_IN_FLIGHT,
    MISSED_SECONDS,
    Backoff,
    Load,
    cores_of,
    ranked,
    room_is_uncertain,
    shares,
    usable_cores,
    worker_count,
)

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(eq=False)
class Named:
    name: str
    load: Load


def worker(name: str, share: int = 0, **report: int | bool) -> Named:
    load = Load(share)
    load.on_report(Report(**report), 0.0)  # type: ignore[arg-type]  # fields by name
    return Named(name, load)


def chosen(*workers: Named, now: float = 0.0) -> str | None:
    return next((best.name for best in ranked(workers, now)), None)


@given(st.integers(0, 100_000), st.integers(1, 128))
def test_shares_are_all_there_is_and_differ_by_one_at_most(most: int, workers: int) -> None:
    parts = shares(most, workers)
    assert len(parts) == workers
    assert sum(parts) == most
    assert max(parts) - min(parts) <= 1


@pytest.mark.parametrize(
    ("workers", "best"),
    [
        ([worker("a", places=3), worker("b", places=2)], "b"),
        ([worker("a", 5, places=2), worker("b", 3, places=1)], "a"),
        ([worker("a", places=1), worker("b", new=2)], "a"),
        # Full, or shedding, or stopping: the other one, however many calls it has.
        ([worker("a", 2, places=2), worker("b", 9, places=1, new=30)], "b"),
        ([worker("a", ready=False), worker("b", places=90)], "b"),
        ([worker("a", detached=True), worker("b", 1, places=1)], "b"),
        # Nobody has room: somebody must say so.
        ([worker("a", 2, places=2), worker("b", 1, places=2)], "a"),
        ([worker("a", detached=True)], None),
        ([Named("a", Load(0))], None),
        ([], None),
    ],
)
def test_the_worker_with_the_most_free_places_gets_it(workers: list[Named], best: str | None) -> None:
    assert chosen(*workers) == best


def test_what_was_handed_over_counts_until_the_worker_tells_of_it() -> None:
    a, b = worker("a", places=1), worker("b")
    b.load.on_passed(0.0)
    b.load.on_passed(0.0)
    assert chosen(a, b) == "a"
    b.load.on_report(Report(taken=1), 0.0)  # a request that was no call; the other is still on its way
    assert b.load.in_flight == 1
    b.load.on_report(Report(taken=2), 0.0)
    assert chosen(a, b) == "b"


def test_a_worker_that_takes_nothing_comes_last_and_gets_so_many_at_most() -> None:
    stuck, busy = worker("stuck"), worker("busy", places=500)
    stuck.load.on_passed(10.0)
    for now, best in ((10.9, "stuck"), (11.1, "busy")):
        stuck.load.on_report(Report(), now)  # it beats, and takes nothing
        busy.load.on_report(Report(places=500), now)
        assert chosen(stuck, busy, now=now) == best
    while stuck.load.can_accept():
        stuck.load.on_passed(11.0)
    assert stuck.load.in_flight == MAX_IN_FLIGHT
    assert chosen(stuck, now=11.1) is None
    stuck.load.on_report(Report(taken=MAX_IN_FLIGHT), 12.0)
    assert chosen(stuck, busy, now=12.0) == "stuck"


def test_a_worker_that_misses_a_beat_comes_last_though_nothing_is_in_flight_to_it() -> None:
    stopped, busy = worker("stopped"), worker("busy", places=500)
    busy.load.on_report(Report(places=500), MISSED_SECONDS + 0.01)
    assert chosen(stopped, busy, now=MISSED_SECONDS - 0.01) == "stopped"
    assert chosen(stopped, busy, now=MISSED_SECONDS + 0.01) == "busy"
    assert chosen(stopped, now=MISSED_SECONDS + 0.01) == "stopped"  # there is no other
    stopped.load.on_report(Report(), MISSED_SECONDS + 0.02)
    assert chosen(stopped, busy, now=MISSED_SECONDS + 0.02) == "stopped"


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        ([worker("a", places=3, new=5)], False),
        ([worker("a", 3, places=1, new=1), worker("b", 3, places=3)], False),
        ([worker("a", 3, places=2, new=1), worker("b", 3, places=3)], True),
        ([worker("a", 3, places=2, new=1), worker("b", 3, places=2)], False),
        ([worker("a", 3, places=3, new=1), worker("b", 3, places=3)], False),
        ([worker("a", 3, places=2, new=1, ready=False)], False),
    ],
)
def test_who_has_room_is_open_while_the_last_places_may_be_gone_already(workers: list[Named], expected: bool) -> None:
    assert room_is_uncertain(workers, 0.0) is expected


@given(st.integers(0, 40), st.integers(1, 6), st.data())
def test_no_call_is_refused_while_another_worker_has_a_place(most: int, workers: int, data: st.DataObject) -> None:
    """Calls come and go at random, and reports come late by as many connections as the choice may run ahead."""
    pool = [Named(str(number), Load(share)) for number, share in enumerate(shares(max(most, workers), workers))]
    taken = dict.fromkeys(pool, 0)
    places = dict.fromkeys(pool, 0)

    def report(who: Named) -> None:
        who.load.on_report(Report(places=places[who], taken=taken[who]), 0.0)

    for each in pool:
        report(each)
    for step in data.draw(st.lists(st.sampled_from(["come", "come", "go", "report"]), max_size=80)):
        who = data.draw(st.sampled_from(pool))
        if step == "come":
            best = ranked(pool, 0.0)[0]
            best.load.on_passed(0.0)
            taken[best] += 1
            if places[best] < best.load.share:
                places[best] += 1
            else:
                unknown = [each for each in pool if each.load.report != Report(places=places[each], taken=taken[each])]
                assert all(places[each] == each.load.share or each in unknown for each in pool)
        elif step == "go" and places[who]:
            places[who] -= 1
            report(who)
        elif step == "report":
            report(who)


def test_a_worker_that_dies_again_and_again_is_started_ever_more_seldom() -> None:
    backoff = Backoff()
    assert [backoff.next(1.0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.next(61.0) == 0.5
    assert backoff.next(1.0) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max 100000\n", None), ("200000 100000\n", 2.0), ("50000 100000", 0.5), ("", None), ("1 0", None)],
)
def test_a_quota_is_so_many_cores(text: str, expected: float | None) -> None:
    assert cores_of(text) == expected


@pytest.mark.parametrize(
    ("quotas", "affinity", "expected"),
    [
        ({}, 6, 6),
        ({"cpu.max": "max 100000"}, 6, 6),
        ({"a.slice/b/cpu.max": "250000 100000"}, 6, 3),
        ({"a.slice/cpu.max": "200000 100000", "a.slice/b/cpu.max": "400000 100000"}, 6, 2),
        ({"a.slice/b/cpu.max": "900000 100000"}, 6, 6),
        ({"a.slice/b/cpu.max": "10000 100000"}, 6, 1),
        ({"other/cpu.max": "10000 100000"}, 6, 6),
    ],
)
def test_there_are_as_many_cores_as_affinity_and_quotas_leave(
    quotas: dict[str, str], affinity: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in quotas.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    (tmp_path / "membership").write_text("1:cpu:/x\n0::/a.slice/b\n")
    monkeypatch.setattr("sts_trio.workers.pool._CGROUPS", tmp_path / "groups")
    monkeypatch.setattr("sts_trio.workers.pool._MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(affinity)))
    assert usable_cores() == expected


@pytest.mark.parametrize(
    ("wanted", "most_calls", "expected"), [(1, 0, 1), (4, 0, 4), (4, 3, 3), (0, 0, 6), (0, 2, 2), (4, 100, 4)]
)
def test_there_are_never_more_workers_than_calls(
    wanted: int, most_calls: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sts_trio.workers.pool.usable_cores", lambda: 6)
    assert worker_count(wanted, most_calls) == expected
