"""How the unit tests use Hypothesis."""

from __future__ import annotations

import hypothesis

# A busy machine is no fault of the code: no example fails for being slow.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")
