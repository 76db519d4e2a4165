"""What becomes of a provider's JSON message that could not be read: skipped if its type is unknown, else a fault. Pure.

Each protocol's `wire` decodes its own tagged union of structs, and asks here only about what that decoder refused.
"""

from __future__ import annotations

import msgspec

from sts_trio.errors import ProviderProtocolError

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
