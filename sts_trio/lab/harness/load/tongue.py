"""What a provider's protocol is to an agent of the load: ears and a mouth. The agents themselves are all alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sts_trio.lab.harness.load.frames import Message
    from sts_trio.lab.harness.load.profile import Step
    from sts_trio.lab.harness.load.stamps import Stamp


class Tongue(Protocol):
    """One chat's. Nothing waits; all messages are whole, as JSON."""

    def begin(self) -> Sequence[bytes]:
        """What is said when the chat is open."""
        ...

    def hear(self, message: Message, now_ns: int, /) -> tuple[Sequence[Stamp | None], Sequence[bytes]]:
        """Take a message: the stamps of the caller's frames in it, and what is to be answered."""
        ...

    def tell(self, step: Step, call: int, frame: int, now_ns: int, /) -> Sequence[bytes]:
        """Take a step of a turn. A chunk begins with `frame`; nothing is returned for one that is not to be sent."""
        ...


OpenTongue = Callable[[], Tongue]
