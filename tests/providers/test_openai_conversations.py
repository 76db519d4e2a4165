"""A thousand conversations with a Realtime service on its bad days: nothing is answered twice, nobody waits in vain."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sts_trio.providers.openai.dialect import OPENAI, XAI, Dialect
from tests.fakes.realtime_service import PLANS, Scene

WAITS = st.floats(0.02, 2.0) | st.floats(0.02, 15.0)
STEPS = st.lists(st.tuples(WAITS, st.sampled_from(("speaks", "speaks", "key", "prompt"))), min_size=1, max_size=10)
TIMES = st.tuples(st.sampled_from((0.01, 0.08, 0.3)), st.sampled_from((0.05, 0.5, 1.5)))


@pytest.mark.parametrize("dialect", [OPENAI, XAI], ids=lambda dialect: dialect.name)
@settings(max_examples=500)
@given(plans=st.lists(st.sampled_from(PLANS), max_size=8), times=TIMES, steps=STEPS)
def test_each_question_is_answered_once(
    dialect: Dialect, plans: list[str], times: tuple[float, float], steps: list[tuple[float, str]]
) -> None:
    scene = Scene(dialect, plans, times, steps)
    scene.play()
    assert not scene.wrongs, "\n".join([*scene.log, *scene.wrongs])
