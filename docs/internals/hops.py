"""How far a frame, a chunk, a barge-in, a drop and a tool call travel through the modules of the service.

    python docs/internals/hops.py [humeai|openai|xai] [--names]

One call runs in memory through the whole service: the door, the call, the link to a provider; only the sockets are
missing. `sys.setprofile` sees every function of ours (the package without its lab). For each stretch it prints

- files: how many of our modules the stretch passes;
- functions: how many of our functions;
- changes of file: how often control moves from a function in one of our files to one in another, calls and returns.
  A coroutine that waits and is woken again has not moved.

(a) begins with a caller's frame on its connection and ends with it on the provider's. (b) begins with a chunk of the
agent's voice, 0.2 s, on the provider's connection, and ends with the two messages it becomes on the caller's. The
others begin where the link to the provider has understood what came, and leave out its wait for what comes next: (c) a
barge-in until Core has its `interruption`, (d) a session that is gone until the next one has taken its place, (e) a
tool call until its answer is on the provider's connection.
With ``--names`` every stretch lists its files, with the functions of each in order.
"""

from __future__ import annotations

import dis
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[2]))

import trio
import trio.testing

import sts_trio
from sts_trio.logs import set_up_logging
from sts_trio.tools.tool import CallContext, Tool, ToolResult
from tests.call.fakes import FRAME
from tests.call.stage import Caller, open_stage
from tests.e2e.evi import Evi, evi_in_memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

OURS = str(Path(sts_trio.__file__).parent) + "/"
LAB = OURS + "lab/"
YIELDS = {"YIELD_VALUE", "SEND"}


class Hops:
    """What one stretch passes, in order. It begins after the function `after`, or at once."""

    def __init__(self, after: str = "") -> None:
        self.functions: dict[str, list[str]] = {}  # by file
        self.changes = 0
        self._after = after
        self._began = not after
        self._waiting: set[FrameType] = set()

    def see(self, frame: FrameType, event: str, _: object) -> None:
        """Take what the interpreter tells a profiler."""
        file = frame.f_code.co_filename
        if event not in ("call", "return") or not _is_ours(file):
            return
        if event == "return" and _waits(frame):
            self._waiting.add(frame)
            return
        if event == "call" and (frame in self._waiting or frame.f_lasti > _FIRST_STEPS):
            self._waiting.discard(frame)
            return
        if not self._began:
            self._began = event == "return" and frame.f_code.co_qualname == self._after
            return
        if self._after and _within(frame, self._after):
            return  # waits for what comes next
        if event == "call":
            names = self.functions.setdefault(file.removeprefix(OURS), [])
            if frame.f_code.co_qualname not in names:
                names.append(frame.f_code.co_qualname)
        other = frame.f_back
        while other is not None and not _is_ours(other.f_code.co_filename):
            other = other.f_back
        if other is not None and other.f_code.co_filename != file:
            self.functions.setdefault(other.f_code.co_filename.removeprefix(OURS), [])
            self.changes += 1

    @contextmanager
    def record(self) -> Iterator[Hops]:
        """Watch while the context lasts."""
        sys.setprofile(self.see)
        try:
            yield self
        finally:
            sys.setprofile(None)

    def show(self, title: str, *, names: bool) -> None:
        """Print the figures, and what they are of."""
        functions = sum(len(each) for each in self.functions.values())
        print(f"{title:<46}{len(self.functions):>6}{functions:>11}{self.changes:>9}")
        if names:
            for file, each in self.functions.items():
                print(f"    {file}: {', '.join(each)}")


_FIRST_STEPS = 8  # bytes of code before a function's first line; beyond them it is no call but goes on


def _is_ours(file: str) -> bool:
    return file.startswith(OURS) and not file.startswith(LAB)


def _within(frame: FrameType | None, function: str) -> bool:
    while frame is not None and frame.f_code.co_qualname != function:
        frame = frame.f_back
    return frame is not None


def _waits(frame: FrameType) -> bool:
    """Whether this return is only a wait, or a generator's next value."""
    return dis.opname[frame.f_code.co_code[frame.f_lasti]] in YIELDS


class Numbers:
    """The stretches of one call."""

    def __init__(self, evi: Evi, caller: Caller, clock: trio.testing.MockClock, *, names: bool) -> None:
        self._evi = evi
        self._caller = caller
        self._clock = clock
        self._names = names

    async def pass_time(self, seconds: float) -> None:
        """Let this much time pass in the call."""
        self._clock.autojump_threshold = 0
        await trio.sleep(seconds)
        self._clock.autojump_threshold = float("inf")
        await trio.testing.wait_all_tasks_blocked()

    async def run(self) -> None:
        """Measure them, and print."""
        await self._caller.speak(FRAME * 5)
        await self.pass_time(0.1)
        with Hops().record() as hops:
            await self._caller.say(type="audio", audio=FRAME)
            await trio.testing.wait_all_tasks_blocked()
        hops.show("a. a caller's frame to the provider", names=self._names)

        await self._evi.speak(0, 0.1, "r")
        await trio.testing.wait_all_tasks_blocked()
        with Hops().record() as hops:
            await self._evi.speak(0, 0.2, "r")
            await trio.testing.wait_all_tasks_blocked()
        hops.show("b. a chunk of the agent to Core", names=self._names)

        await self._evi.speak(0, 2.0, "r")
        await self.pass_time(0.3)
        understood = f"{'Hume' if self._evi.provider == 'humeai' else 'Realtime'}Link.receive"
        with Hops(understood).record() as hops:
            await self._evi.interrupt(0)
            await trio.testing.wait_all_tasks_blocked()
        hops.show("c. a barge-in to Core", names=self._names)

        await self.pass_time(1.0)
        with Hops(understood).record() as hops:
            await self._evi.ask(0, "call-1", "lookup", "{}")
            await trio.testing.wait_all_tasks_blocked()
        _must(self._evi.answers == [("call-1", "found", False)], "the tool call has no answer")
        answered = hops

        await self.pass_time(1.0)
        with Hops(understood).record() as hops:
            await self._evi.chats[0].aclose(1011, "gone")
            await trio.testing.wait_all_tasks_blocked()
        _must(self._evi.chats, "no session has taken the place of the one that is lost")
        hops.show("d. a session is lost, another takes its place", names=self._names)
        answered.show("e. a tool call to its answer", names=self._names)


def _must(held: object, otherwise: str) -> None:
    if not held:
        raise SystemExit(otherwise)


async def _look_up(_: str, __: CallContext) -> ToolResult:
    return ToolResult("found")


async def main(provider: str, clock: trio.testing.MockClock, *, names: bool) -> None:
    """Open the service with a provider, place a call and measure it."""
    set_up_logging("critical", "json", sys.stderr)
    tool = Tool("lookup", "Look something up.", "{}", _look_up)
    async with (
        evi_in_memory(provider) as (evi, dial),
        open_stage(provider=provider, dial=dial, tools=(tool,), welcome_message="") as stage,
    ):
        caller = await stage.call()
        await trio.testing.wait_all_tasks_blocked()
        _must(evi.chats, "there is no session")
        print(f"{provider:<46}{'files':>6}{'functions':>11}{'changes':>9}")
        await Numbers(evi, caller, clock, names=names).run()
        clock.autojump_threshold = 0
        await caller.socket.aclose()


if __name__ == "__main__":
    chosen = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    time = trio.testing.MockClock(autojump_threshold=0)
    trio.run(lambda: main(chosen[0] if chosen else "humeai", time, names="--names" in sys.argv), clock=time)
