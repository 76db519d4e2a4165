"""How the unit tests use Hypothesis."""

from __future__ import annotations

import hypothesis

# A busy machine is no fault of the code: no example fails for being slow.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

# For mutants (docs/internals/mutation.md): the same few examples each time, and no search for the smallest that fails.
hypothesis.settings.register_profile(
    "mutation",
    parent=hypothesis.settings.get_profile("unhurried"),
    max_examples=20,
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
