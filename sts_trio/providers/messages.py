"""Reading a provider's JSON messages: one of a tagged union of structs, or a type that we do not know. Pure."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from sts_trio.errors import ProviderProtocolError

Message = TypeVar("Message")


class _Kind(msgspec.Struct):
    type: str


_decode_kind = msgspec.json.Decoder(_Kind).decode
_BROKEN = (msgspec.DecodeError, UnicodeError, RecursionError)


class Messages(Generic[Message]):
    """The messages of `peer`; its `decoder` reads a union of structs, all of them derived from `base`."""

    def __init__(self, peer: str, decoder: msgspec.json.Decoder[Message], base: type[msgspec.Struct]) -> None:
        self._peer = peer
        self._decode = decoder.decode
        self._known = {kind.__struct_config__.tag for kind in base.__subclasses__()}

    def parse(self, message: str | bytes) -> Message | None:
        """Read one message; None for a type that we do not know.

        Raises:
            ProviderProtocolError: no JSON object with a `type`, or a known type with fields that are not as they must
                be.
        """
        try:
            return self._decode(message)
        except _BROKEN as exc:
            kind = _kind_of(message)
            if kind is None:
                raise ProviderProtocolError(
                    f"{self._peer} sent a message that is no JSON object with a type: {exc}"
                ) from exc
            if kind in self._known:
                raise ProviderProtocolError(f"{self._peer} sent a broken {kind}: {exc}") from exc
            return None


def _kind_of(message: str | bytes) -> str | None:
    try:
        return _decode_kind(message).type
    except _BROKEN:
        return None
