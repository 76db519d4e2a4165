"""Reading what a provider says: as it should be, in one step; else for what can be made of it. Pure.

A message that cannot be used is an `OddMessage`, never the end of a session. What the decoder of JSON refuses is read
once more and mended: half a surrogate pair becomes U+FFFD, NaN becomes null, ids become short text, base64 may lack its
padding or be of the kind for URLs. Only who says nothing else for a while is taken for broken.
"""

from __future__ import annotations

import binascii
import json
import re
from math import inf
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import msgspec

from sts_trio.providers.base import OddKind, OddMessage, SessionEnd, SessionEndKind
from sts_trio.text import one_line
from sts_trio.websocket.lenient import LARGE_BYTES, PassedOver

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_ID = 128  # characters; the known services' have some 30. Ids are remembered, so they are cut where they enter
# An id, as a message's field: one that is none is mended, or left out.
Id = Annotated[str, msgspec.Meta(max_length=LONGEST_ID)] | None

# What a decoder raises for text that is no JSON, no UTF-8, nested too deeply, or of another shape.
_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
_SURROGATES = re.compile("[\ud800-\udfff]")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_BLANKS = b" \t\r\n"
_ESCAPED = re.compile(rb"\\[/nr]")  # what JSON's writers escape of base64
_MENDED_CHARACTERS = 2**16  # of anything but audio; to mend more would take the event loop 50 ms
_MANY = 5  # odd messages in a row
_SHORT = 64  # bytes of JSON that is no object, and no more than a sign of life
_LONGEST_DETAIL = 80
_LONGEST_NAME = 64  # characters of a type
_ANSWERED_BY = ("call_id", "tool_call_id")  # ids that we say again: half of one would be another's

Message = TypeVar("Message", bound=msgspec.Struct)


class _Typed(msgspec.Struct):
    type: object = None


_decode_type = msgspec.json.Decoder(_Typed).decode


class Language(Generic[Message]):
    """A protocol's messages, all derived from `base`. `audio` carries the agent's voice in its field `field`."""

    def __init__(self, messages: Any, base: type[msgspec.Struct], audio: type[msgspec.Struct], field: str) -> None:
        self.messages = messages
        self.decode: Callable[[str], Message] = msgspec.json.Decoder(messages).decode
        self.types = frozenset(str(kind.__struct_config__.tag) for kind in base.__subclasses__())
        self.audio = str(audio.__struct_config__.tag)
        self.field = field
        raws = [(name, msgspec.Raw, msgspec.Raw(b"null")) for name in audio.__struct_fields__]
        self.decode_raw = msgspec.json.Decoder(msgspec.defstruct("Raws", raws)).decode
        self._heads = (f'"{self.audio}"'.encode(), f'"{field}"'.encode())

    def fits(self, head: bytes) -> bool:
        """Whether a large message that begins with `head` may be audio: nothing else is of use if it is large."""
        return any(part in head for part in self._heads)


class Reader(Generic[Message]):
    """Reads the messages of one session with `peer`.

    `garbage` seconds of nothing but odd messages make a session broken. Signs of life do not count: a caller may be
    silent for long, and the agent with them.
    """

    def __init__(self, language: Language[Message], peer: str, garbage: float) -> None:
        self._language = language
        self._decode = language.decode
        self._peer = peer
        self._garbage = garbage
        self._odd_since = inf
        self._odd_at = -inf
        self._odd_count = 0

    def read(self, message: str | bytes, now: float) -> Message | OddMessage | SessionEnd | None:
        """Read one message; None for a type that we do not know. `now` in seconds.

        `SessionEnd`: for `garbage` seconds nothing else than odd messages has come.
        """
        try:
            if isinstance(message, str) and len(message) <= LARGE_BYTES:
                read = self._decode(message)
                self._odd_since = inf
                return read
        except _UNREADABLE:
            pass
        odd = self._look_closer(message)
        if not isinstance(odd, OddMessage):
            self._odd_since = inf
        elif odd.kind is not OddKind.EMPTY and self._is_garbage(now):
            cause = f"{self._peer} has sent nothing that can be understood for {self._garbage:g} s: {odd.about}"
            return SessionEnd(cause, SessionEndKind.PROTOCOL_ERROR)
        return odd

    def _is_garbage(self, now: float) -> bool:
        """Note an odd message; return whether there has been nothing else for too long.

        After a pause without any message it begins anew, and a few are not enough: who says little is not broken.
        """
        if self._odd_since == inf or now - self._odd_at > self._garbage:
            self._odd_since, self._odd_count = now, 0
        self._odd_at = now
        self._odd_count += 1
        return now - self._odd_since >= self._garbage and self._odd_count >= _MANY

    def _look_closer(self, message: str | bytes) -> Message | OddMessage | None:
        if isinstance(message, PassedOver):
            return OddMessage(OddKind.SIZE, f"a message of {message.size} bytes")
        if isinstance(message, bytes):
            kind = OddKind.BINARY if message else OddKind.EMPTY
            return OddMessage(kind, f"a binary message of {len(message)} bytes")
        if not message.strip():
            return OddMessage(OddKind.EMPTY, "a message without text")
        try:
            if len(message) <= _MENDED_CHARACTERS:
                return self._mend(json.loads(message))
            if _decode_type(message).type != self._language.audio:
                return OddMessage(OddKind.SIZE, f"a message of {len(message)} characters that is too long, or odd")
            try:
                return self._decode(message)
            except _UNREADABLE:
                return self._mend_audio(message)
        except (ValueError, RecursionError):  # of either decoder
            return OddMessage(OddKind.JSON, f"a message of {len(message)} characters that is no JSON")

    def _mend(self, read: object) -> Message | OddMessage | None:
        if not isinstance(read, dict):
            small = len(repr(read)) <= _SHORT
            kind = OddKind.EMPTY if small else OddKind.JSON
            return OddMessage(kind, "a message that is no JSON object")
        type_ = read.get("type")
        if not isinstance(type_, str):
            return OddMessage(OddKind.TYPE, "a message without a type")
        if type_ not in self._language.types:
            return None
        fields = mended(read)
        if type_ == self._language.audio:
            data = fields.get(self._language.field)
            if isinstance(data, str) and (audio := decode_base64(data.encode())) is not None:
                fields[self._language.field] = audio
            elif data is not None:
                return OddMessage(OddKind.AUDIO, f"a {type_} without base64 that can be read")
        return self._convert(type_, fields)

    def _mend_audio(self, message: str) -> Message | OddMessage:
        """Read a large message of audio; of the rest of it only what is short."""
        raws = self._language.decode_raw(message)
        fields: dict[str, object] = {"type": self._language.audio}
        for name in raws.__struct_fields__:
            raw = bytes(getattr(raws, name))
            if name == self._language.field:
                fields[name] = decode_base64(_ESCAPED.sub(_unescaped, raw[1:-1])) if raw[:1] == b'"' else None
                if fields[name] is None:
                    return OddMessage(OddKind.AUDIO, f"a {self._language.audio} without base64 that can be read")
            elif len(raw) <= LONGEST_ID:
                fields[name] = json.loads(raw)
        return self._convert(self._language.audio, mended(fields))

    def _convert(self, type_: str, fields: dict[str, object]) -> Message | OddMessage:
        try:
            return msgspec.convert(fields, self._language.messages)  # type: ignore[no-any-return]  # a union of structs, given as a value
        except (msgspec.ValidationError, RecursionError) as exc:
            return OddMessage(
                OddKind.FIELD, f"a broken {type_[:_LONGEST_NAME]} ({one_line(str(exc), _LONGEST_DETAIL)})"
            )


def _unescaped(escape: re.Match[bytes]) -> bytes:
    return b"/" if escape[0] == b"\\/" else b""


def decode_base64(data: bytes) -> bytes | None:
    """Read base64 of either alphabet, with its padding or without; None if it is none."""
    data = data.translate(_URL_SAFE, _BLANKS).rstrip(b"=")
    try:
        return binascii.a2b_base64(data + b"=" * (-len(data) % 4), strict_mode=True)
    except binascii.Error:
        return None


def shown(value: object, most: int = LONGEST_ID) -> str:
    """Make one line of at most `most` characters of what a provider said, whatever it is."""
    if value is None:
        return ""
    return one_line(value if isinstance(value, str) else str(value), most)


def mended(value: Any, name: str = "") -> Any:
    """Return a JSON value without halves of characters, numbers that are none, and odd ids."""
    if name == "id" or name.endswith("_id"):
        return _fit_id(value, whole=name in _ANSWERED_BY)
    if isinstance(value, dict):
        return {mended(key): mended(part, key) for key, part in value.items()}
    if isinstance(value, list):
        return [mended(part) for part in value]
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, float) and not -inf < value < inf:
        return None
    return value


def _fit_id(value: object, *, whole: bool) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = _SURROGATES.sub("\ufffd", str(value))
    return None if whole and len(text) > LONGEST_ID else text[:LONGEST_ID]
