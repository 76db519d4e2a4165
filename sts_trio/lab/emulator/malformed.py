"""Frames that no provider would send, by the kinds of `steps.SendJunk`, and frames that break off. Pure.

What is odd in any protocol is here; `evi.malformed` and `realtime.malformed` have what is odd in theirs. A message of
megabytes is made when it is sent.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from sts_trio.lab.websocket import BINARY, CONTINUATION, PING, PONG, TEXT, encode_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


# A text goes in a text frame, bytes in a binary one.
Odd = str | bytes | Callable[[], str]

# Each is a row of docs/internals/faults.md (a test compares).
JunkKind = Literal[
    # The frame, and the message as a whole.
    "json", "no_object", "no_type", "unknown_type", "field", "base64", "wav", "utf8",
    "empty_frame", "ping_text", "null", "number", "nesting", "type_null", "type_number", "binary_frame",
    # Its fields.
    "surrogate", "message_null", "message_missing", "message_text", "content_null", "content_parts", "content_number",
    "id_number", "id_list", "scores_nan", "scores_text", "scores_list", "scores_infinite",
    "usage_floats", "usage_text", "status_details_text", "item_unknown", "item_null", "output_text", "expires_text",
    # Its sound.
    "audio_null", "audio_missing", "audio_number", "audio_unpadded", "audio_urlsafe", "audio_pcm",
    "wav_24_bit", "wav_rate_0", "wav_cut",
    # What is said of an error, or of a tool.
    "error_bare", "error_list", "error_number", "tool_number", "tool_object", "tool_nameless",
    # Too much of it.
    "huge_unknown", "huge_list", "huge_scores", "huge_error", "huge_id", "huge_text",
    # For the eyes of who reads a log.
    "escapes_in_id", "escapes_in_error", "escapes_in_type",
]  # fmt: skip

HUGE = 15 * 2**20  # characters: one less than what a provider's message may have (docs/protocols/evi.md 6.1)
HUGE_ID = 12_000_000
# Colours, a new title, a cleared screen and a bell of a terminal; right to left; line and paragraph separators;
# a line end that begins a forged line.
ESCAPES = "\x1b[31m\x1b]0;mine\x07\x1b[2J\u202e\u2066\u2028\u2029\u0085\x00\r\n2026-01-01 [error] forged"
HALF_A_PAIR = "\\ud83d"  # as JSON writes it


def numbers(size: int) -> str:
    """Return a list in JSON of about so many characters."""
    return f"[{'0,' * (size // 2 - 1)}0]"


ANY: dict[str, Odd] = {
    "no_type": '{"id":"junk"}',
    "unknown_type": '{"type":"news","text":"of a later version"}',
    "empty_frame": "",
    "ping_text": '"ping"',
    "null": "null",
    "number": "7",
    "nesting": "[" * 100_000,
    "type_null": '{"type":null,"id":"junk"}',
    "type_number": '{"type":7,"id":"junk"}',
    "binary_frame": bytes(range(256)),
    "huge_unknown": lambda: f'{{"type":"news","text":"{"x" * HUGE}"}}',
    "huge_list": lambda: numbers(HUGE),
    "escapes_in_type": json.dumps({"type": ESCAPES}),
}
"""What is odd in any protocol."""


def malformed_frame(kind: str, texts: Mapping[str, Odd]) -> bytes:
    """Return a server's whole frame; `texts` has what breaks the protocol in use, by kind."""
    if kind == "utf8":
        return encode_frame(TEXT, b'{"type":"\xff\xfe"}')
    odd = texts[kind]
    if isinstance(odd, bytes):
        return encode_frame(BINARY, odd)
    return encode_frame(TEXT, (odd if isinstance(odd, str) else odd()).encode())


def half_a_frame() -> bytes:
    """Return a server's text frame of 2000 bytes, of which only 1000 come."""
    return encode_frame(TEXT, b'{"type":"audio_output","id":"junk","index":0,"data":"UklGR'.ljust(2000, b"A"))[:-1000]


AT_ONCE = 1000  # frames of a flood that are written in one go: 3 kB


def flood_of(kind: str, count: int, each: int) -> Iterator[bytes]:
    """Give the frames of a flood, some `AT_ONCE` at a time, and never a part of a message."""
    if kind in ("pongs", "pings"):
        frame = encode_frame(PONG if kind == "pongs" else PING, b"")
        for sent in range(0, count, AT_ONCE):
            yield frame * min(AT_ONCE, count - sent)
        return
    message = _in_fragments(each, empty=kind == "empty_fragments")
    messages = max(count // each, 1)
    together = max(AT_ONCE // each, 1)
    for sent in range(0, messages, together):
        yield message * min(together, messages - sent)


def _in_fragments(count: int, *, empty: bool) -> bytes:
    """One message of an unknown type, in so many frames, or a few more."""
    text = b'{"type":"news"}'
    pieces = [text[:1], *[b""] * count, text[1:]] if empty else [bytes((byte,)) for byte in text.ljust(count)]
    first, *rest = (encode_frame(TEXT if not at else CONTINUATION, piece) for at, piece in enumerate(pieces))
    # All but the last have no FIN bit.
    frames = [bytes((frame[0] & 0x7F,)) + frame[1:] for frame in (first, *rest[:-1])]
    return b"".join((*frames, rest[-1]))


def base64_of(data: bytes) -> str:
    """Return base64, as a message has it."""
    return base64.b64encode(data).decode()
