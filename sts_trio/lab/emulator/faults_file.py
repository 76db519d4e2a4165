"""Faults from a file, JSON or TOML, with the names and fields of `script` (docs/faults.md). No file is opened here."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from typing import TYPE_CHECKING, get_args

import msgspec

from sts_trio.lab.emulator.script import AnyFault, Fault, Number, Outage

if TYPE_CHECKING:
    from sts_trio.lab.emulator.options import EmulatorOptions


class FaultsError(ValueError):
    """What is wrong with a file of faults, and where: one line for a person."""


class FaultsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file says. The fields are those of `EmulatorOptions`."""

    faults: tuple[AnyFault, ...] = ()
    outages: tuple[Outage, ...] = ()
    max_chats: Number | None = None
    seed: Number | None = None

    def applied(self, options: EmulatorOptions) -> EmulatorOptions:
        """Return the options with these faults."""
        return dataclasses.replace(
            options, faults=self.faults, outages=self.outages, max_chats=self.max_chats, seed=self.seed
        )


KINDS: dict[str, type[Fault]] = {str(kind.__struct_config__.tag): kind for kind in get_args(AnyFault)}


def parse_faults(data: bytes, name: str) -> FaultsFile:
    """Read a file's content; `name` ends in ``.toml`` or ``.json``, and stands in what is said of it.

    Raises:
        FaultsError: it cannot be read.
    """
    read = {"toml": tomllib.loads, "json": json.loads}.get(name.rpartition(".")[2].lower())
    if read is None:
        raise FaultsError(f"{name}: its name must end in .json or .toml")
    try:
        return msgspec.convert(read(data.decode("utf-8-sig")), FaultsFile)
    except msgspec.ValidationError as exc:
        text, _, place = str(exc).partition(" - at `$")
        place = place.rstrip("`").lstrip(".")
        known = f" (known: {', '.join(sorted(KINDS))})" if place.endswith("].fault") else ""
        raise FaultsError(f"{name}: {place or 'the whole'}: {text}{known}") from exc
    except UnicodeDecodeError as exc:
        raise FaultsError(f"{name}: byte {exc.start}: not UTF-8") from exc
    except (ValueError, RecursionError) as exc:  # of both parsers; they name line and column
        raise FaultsError(f"{name}: {' '.join(str(exc).split())}") from exc
