"""What a response has cost, in tokens by direction and kind, as services tell it in their different ways. Pure."""

from __future__ import annotations

from typing import Any

_MOST_COUNT = 10**12  # of tokens; more is a mistake, and would spoil a sum for ever


def count_of(value: object) -> float | None:
    """Return what some services say as a float, and some as a text; None for what is no sensible count."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else -1.0
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < _MOST_COUNT else None


def tokens(usage: object, side: str, direction: str) -> dict[tuple[str, str], int]:
    """Return the tokens of one direction by kind. Those that are cached are in all other numbers, too.

    A service that does not say of which kind they were has the text first in a conversation: that is cached first.
    """
    used = fields(usage)
    details = fields(used.get(f"{side}_token_details"))
    again = fields(details.get("cached_tokens_details"))
    cached = unsaid = count_of(details.get("cached_tokens")) or 0
    kinds = {kind: count_of(details.get(f"{kind}_tokens")) or 0 for kind in ("text", "audio")}
    for kind, count in kinds.items():
        of_kind = count_of(again.get(f"{kind}_tokens"))
        taken = min(count, unsaid if of_kind is None else of_kind)
        kinds[kind], unsaid = count - taken, max(unsaid - taken, 0)
    rest = (count_of(used.get(f"{side}_tokens")) or 0) - cached - sum(kinds.values())
    counts = {**kinds, "cached": cached, "other": max(rest, 0)}
    return {(direction, kind): int(count) for kind, count in counts.items()}


def fields(value: object) -> dict[str, Any]:
    """Return a JSON object; an empty one for what is none."""
    return value if isinstance(value, dict) else {}
