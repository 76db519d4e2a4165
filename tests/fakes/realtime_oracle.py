"""What the vendor's own types say of a message that we send."""

from __future__ import annotations

import json
from typing import Any

from openai.types.realtime import RealtimeClientEvent
from pydantic import TypeAdapter

from sts_trio.providers.openai import wire

# The vendor's models ignore fields that they do not know; for what we send that would hide a wrong name.
ORACLE: TypeAdapter[Any] = TypeAdapter(RealtimeClientEvent)


def checked(message: wire.ToService) -> dict[str, Any]:
    """Read a message of ours with the vendor's types; nothing of it may be unknown to them."""
    sent: dict[str, Any] = json.loads(wire.encode_to_service(message))
    read = ORACLE.validate_python(sent)
    assert json.loads(json.dumps(read.model_dump(mode="json", exclude_unset=True))) == sent
    assert not unknown(read), "a field that the vendor does not know"
    return sent


def unknown(read: Any) -> list[str]:
    """Names of fields that a model took without knowing them."""
    if isinstance(read, list):
        return [name for part in read for name in unknown(part)]
    if not hasattr(read, "model_fields_set"):
        return []
    extra = list(read.model_extra or ())
    return extra + [name for part in read.model_fields_set for name in unknown(getattr(read, part))]
