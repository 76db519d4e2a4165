"""Words of others: for one line of a log, an error or a terminal; and messages that could not be read. Pure."""

from __future__ import annotations

import msgspec

from sts_trio.errors import ProviderProtocolError


def one_line(text: str) -> str:
    """Bring text onto one printable line: line breaks, control characters and runs of blanks become one blank each."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def first_error(error: BaseException) -> BaseException:
    """Return the first exception of a group, however deep it lies; any other exception as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


# What a decoder raises for text that is no JSON, no UTF-8, nested too deeply, or of another shape.
UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)


class _Typed(msgspec.Struct):
    type: str


_decode_type = msgspec.json.Decoder(_Typed).decode


def known_types(base: type[msgspec.Struct]) -> frozenset[object]:
    """The `type` of each message that is derived from `base`."""
    return frozenset(kind.__struct_config__.tag for kind in base.__subclasses__())


def refuse_broken(peer: str, message: str | bytes, known: frozenset[object], reason: Exception) -> None:
    """Return if `message` has a `type` that is not `known`: it may be skipped. `peer` is who sent it.

    Raises:
        ProviderProtocolError: it is no JSON object with a `type`, or of a known type with fields of the wrong shape.
    """
    try:
        type_ = _decode_type(message).type
    except UNREADABLE:
        raise ProviderProtocolError(f"{peer} sent a message that is no JSON object with a type: {reason}") from reason
    if type_ in known:
        raise ProviderProtocolError(f"{peer} sent a broken {type_}: {reason}") from reason
