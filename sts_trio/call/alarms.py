"""Deadlines by name. Pure."""

from __future__ import annotations

from math import inf


class Deadlines:
    """Each name rings once, when its time has come; setting it again moves it. `deadline` is that of the earliest."""

    def __init__(self) -> None:
        self.deadline = inf
        self._at: dict[str, float] = {}

    def set(self, name: str, at: float) -> None:
        """Ring at this time; infinity for never."""
        if at == inf:
            self._at.pop(name, None)
        else:
            self._at[name] = at
        self.deadline = min(self._at.values(), default=inf)

    def ring(self, now: float) -> frozenset[str]:
        """Return the names whose time has come; each is told once."""
        due = frozenset(name for name, at in self._at.items() if at <= now)
        for name in due:
            self.set(name, inf)
        return due
