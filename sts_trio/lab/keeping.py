"""What commands leave in files. Whether that can be written is known before the call: nobody waits for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sts_trio.errors import StsError

if TYPE_CHECKING:
    from pathlib import Path


class CannotWrite(StsError):
    """A file cannot be written; the message says which, and why, in one line."""


def check_writable(*files: Path | None) -> None:
    """Try to open each file for writing; one that was not there is not there afterwards.

    Raises:
        CannotWrite: one of them cannot be opened.
    """
    for file in files:
        if file is None:
            continue
        if not file.parent.is_dir():
            raise CannotWrite(f"cannot write {file}: there is no directory {file.parent}")
        try:
            fresh = not file.exists()
            if not fresh and not file.is_file() and not file.is_dir():
                continue  # a device or a pipe: to open it would wait, or be heard at its other end
            with file.open("ab"):
                pass
            if fresh:
                file.unlink(missing_ok=True)
        except OSError as exc:
            raise CannotWrite(f"cannot write {file}: {exc.strerror}") from exc


def keep(file: Path, data: bytes) -> None:
    """Write a file.

    Raises:
        CannotWrite: it cannot be written after all.
    """
    try:
        file.write_bytes(data)
    except OSError as exc:
        raise CannotWrite(f"cannot write {file}: {exc.strerror}") from exc
