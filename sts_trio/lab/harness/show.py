"""A call on the terminal: its events as they come, and its figures at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from sts_trio.audio.pcm import FRAME_BYTES, seconds
from sts_trio.lab.harness import wire
from sts_trio.lab.harness.caller import place_call
from sts_trio.lab.harness.recording import Utterance
from sts_trio.lab.harness.report import AgentBegins
from sts_trio.lab.harness.script import Press, Unmet, plain_script
from sts_trio.lab.harness.speech import SAMPLE, speech_from_wav

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from rich.console import Console

    from sts_trio.lab.harness.caller import Dial
    from sts_trio.lab.harness.report import CallReport, Ending, Event
    from sts_trio.lab.harness.script import Key

# As many emotions as fit beside a line of text.
TOP_EMOTIONS = 3
# Of a line: "   3.24 s  caller speaks". What is said after that is folded beneath itself.
_TIME_WIDTH = 11
_WHO_WIDTH = 7


async def call_and_show(
    url: str,
    console: Console,
    *,
    speech: bytes | None = None,
    keys: Sequence[Key] = (),
    dial: Dial | None = None,
    hang_up: Callable[[], Awaitable[object]] | None = None,
) -> CallReport:
    """Call any connector, say `speech` (or the bundled sample), show the call live and its figures at the end.

    `keys` are pressed at their times; when `hang_up` returns, the caller hangs up.

    Raises:
        CallFailed: no call came about.
    """
    script = plain_script(speech or speech_from_wav(SAMPLE), keys)
    report = await place_call(url, script, on_event=LiveCall(console), dial=dial, keys=keys, hang_up=hang_up)
    show_summary(console, report)
    return report


class LiveCall:
    """Prints each event of a call as one line; to be passed as `on_event`."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, event: Event) -> None:
        """Print `event`, if it is one to see: audio messages are not, the speech they begin is."""
        match event.what:
            case AgentBegins():
                self._line(event, "agent", "speaks", "green")
            case Utterance(name=name, pcm=pcm, over=over):
                how = "speaks over the agent" if over else "speaks"
                self._line(event, "caller", f"{how}: {name}, {seconds(len(pcm)):.1f} s", "cyan")
            case wire.Transcript(role=role, text=text, emotions=emotions):
                who, style = ("agent", "green") if role == "agent" else ("caller", "cyan")
                self._line(event, who, f"“{printable(text)}”", style, strongest(emotions))
            case wire.Interruption():
                self._line(event, "agent", "is interrupted", "yellow")
            case wire.Error(message=message):
                self._line(event, "error", printable(message), "bold red")
            case wire.Unknown(about=about):
                self._line(event, "?", f"not understood: {printable(about)}", "yellow")
            case Press(digit=digit):
                self._line(event, "caller", f"presses {digit}", "cyan")
            case Unmet(step=step):
                self._line(event, "caller", f"gives up: {step}", "yellow")

    def _line(self, event: Event, who: str, what: str, style: str, note: str = "") -> None:
        grid = Table.grid()
        grid.add_column(width=_TIME_WIDTH)
        grid.add_column(width=_WHO_WIDTH)
        grid.add_column()
        said = Text.assemble(what, (f"  {note}" if note else "", "magenta"))
        grid.add_row(Text(f"{event.at:7.2f} s", "dim"), Text(who, style), said)
        self._console.print(grid)


def strongest(emotions: Mapping[str, float]) -> str:
    """Name the strongest emotions, strongest first, with their scores."""
    ranked = sorted(emotions.items(), key=lambda item: (-item[1], item[0]))[:TOP_EMOTIONS]
    return ", ".join(f"{printable(name)} {score:.2f}" for name, score in ranked)


def printable(text: str) -> str:
    """`text` as one line without control characters: a far end must not steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def milliseconds(value: float | None) -> str:
    """A time in whole milliseconds, or a dash."""
    return "-" if value is None else f"{value * 1000:.0f} ms"


ENDINGS: Mapping[Ending, str] = {
    "script": "script",
    "far end": "far end",
    "limit": "time limit",
    "stalled": "far end that stopped reading",
    "caller": "caller, who was told to hang up",
}


def show_summary(console: Console, report: CallReport) -> None:
    """Print the figures of a call: how it ended, frames each way, and the times of every turn."""
    received = report.bytes_received / FRAME_BYTES
    rows = [
        ("call", report.uuid),
        ("ended by", f"{ENDINGS[report.ended]}, close {report.close_code} {printable(report.close_reason)}".rstrip()),
        ("connection", f"{milliseconds(report.setup)} to open, {report.duration:.1f} s long"),
        ("frames", f"{report.frames_sent} sent ({report.frames_late} late), {received:g} received"),
        ("first audio", milliseconds(report.measures.first_audio)),
    ]
    for turn in report.measures.turns:
        figures = f"answered after {milliseconds(turn.response)}"
        if turn.interrupted is not None:
            figures += f", agent silent after {milliseconds(turn.stop)}, {turn.stale_bytes} stale bytes"
        rows.append((f"turn: {turn.name}", figures))
    rows += [
        ("transcripts", str(len(report.transcripts))),
        ("holes in speech", str(report.recording.underruns)),
        ("errors", "; ".join(printable(error) for error in report.errors) or "none"),
    ]
    table = Table(show_header=False, box=None, padding=(0, 1))
    for name, figure in rows:
        table.add_row(Text(name, "dim"), Text(figure))
    console.print(table)
