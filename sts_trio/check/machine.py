"""What the service needs of its machine: a port, processes, room for its log."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sts_trio.check.finding import Finding, Level
from sts_trio.http_client import HttpFailed
from sts_trio.text import one_line
from sts_trio.web.connections import listen
from sts_trio.wiring import open_http
from sts_trio.workers.pool import usable_cores, worker_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sts_trio.check.finding import Report
    from sts_trio.settings import Settings
    from sts_trio.settings.service import ServiceSettings

_HEALTH_SECONDS = 2.0
_LONGEST_NAME = 40
_LISTENING = "0A"  # the state of a socket in /proc/net/tcp (Linux, include/net/tcp_states.h)
_FULL_BYTES, _NEARLY_FULL_BYTES = 2**20, 100 * 2**20


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that listens on a port."""

    pid: int
    name: str
    arguments: tuple[str, ...]

    @property
    def is_service(self) -> bool:
        """Whether it is `sts-trio serve`, one of its workers included."""
        programs = {Path(argument).name for argument in self.arguments}
        return "serve" in self.arguments and bool(programs & {"sts-trio", "sts_trio"})


class _Health(msgspec.Struct):
    """What of `GET /health` is of interest here."""

    status: str
    version: str
    log_lines_dropped: int = 0


def check_workers(settings: Settings, report: Report) -> None:
    """Tell how many processes there would be."""
    service, cores = settings.service, usable_cores()
    workers = worker_count(service.workers, service.max_calls)
    told = f"{workers} worker{'s' * (workers != 1)} on {cores} core{'s' * (cores != 1)}"
    if workers > cores:
        hint = "set WORKERS to 0, for one on each core"
        report(Finding(Level.NOTE, "workers", f"{told}, where they wait for each other: {hint}", "WORKERS"))
    else:
        report(Finding(Level.OK, "workers", f"{told} (WORKERS is {service.workers})"))


async def check_port(settings: Settings, report: Report) -> bool:
    """Tell if the port is free, or if it is we who serve there already, and then if the log loses lines.

    Returns whether all of that is well.
    """
    service = settings.service
    place = f"HOST {service.host}, PORT {service.port}"
    try:
        listen(service.host, service.port).close()
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            return await _check_holder(service, report)
        report(Finding(Level.WRONG, "port", f"cannot listen on {place}: {_why_not(exc)}"))
        return False
    free = f"PORT {service.port} is free" if service.port else "PORT is 0: a free one is taken, which the log names"
    report(Finding(Level.OK, "port", free))
    return True


def _why_not(exc: OSError) -> str:
    match exc.errno:
        case errno.EACCES:
            return f"user {os.getuid()} may not; set PORT to 1024 or more"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address; set HOST to one of its own, or to 0.0.0.0"
        case errno.EAFNOSUPPORT:
            return "this machine has no IPv6; set HOST to 0.0.0.0"
        case _:
            name = isinstance(exc, socket.gaierror)
            return "this name has no address; correct HOST" if name else f"{os.strerror(exc.errno or 0)}; correct HOST"


async def _check_holder(service: ServiceSettings, report: Report) -> bool:
    holder = find_holder(service.port)
    health = await _ask(service)
    who = f"{holder.name}, pid {holder.pid}" if holder else "a process that this user cannot see"
    if health is None and not (holder and holder.is_service):
        told = f"PORT {service.port} is taken by {who}: stop that, or set PORT to another"
        report(Finding(Level.WRONG, "port", told))
        return False
    report(Finding(Level.OK, "port", f"PORT {service.port} is held by this service itself, which runs ({who})"))
    lost = health.log_lines_dropped if health else 0
    full = holder is not None and not _check_log(holder, report)
    if lost and not full:
        what = f"the running service has lost {lost} lines of its log"
        told = f"{what}: the disk it is written to is full, or its reader has stopped; LOG_LEVEL=warning makes less"
        report(Finding(Level.WRONG, "disk", told, "LOG_LEVEL"))
    return not (lost or full)


async def _ask(service: ServiceSettings) -> _Health | None:
    """Ask whoever listens there if it is one of us."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(service.host, service.host)
    url = f"http://[{host}]:{service.port}/health" if ":" in host else f"http://{host}:{service.port}/health"
    try:
        reply = await open_http().get(url, seconds=_HEALTH_SECONDS)
        return msgspec.json.decode(reply.body, type=_Health)
    except (HttpFailed, msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def find_holder(port: int, proc: Path = Path("/proc")) -> Holder | None:
    """Return the process that listens on a TCP port, as far as this user may see it. Linux."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port, proc)}
    found = [holder for pid in _pids(proc) if _files_of(pid, proc) & sockets and (holder := _holder(pid, proc))]
    return min(found, key=lambda holder: holder.pid, default=None)  # the first of several is the supervisor


def _listening(port: int, proc: Path) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        for line in _read(proc / "net" / table).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _pids(proc: Path) -> list[int]:
    try:
        return [int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal()]
    except OSError:
        return []


def _files_of(pid: int, proc: Path) -> set[str]:
    files = set()
    try:
        for entry in (proc / str(pid) / "fd").iterdir():
            files.add(str(entry.readlink()))
    except OSError:
        pass  # it is another user's, or it has ended meanwhile
    return files


def _holder(pid: int, proc: Path) -> Holder | None:
    name = one_line(_read(proc / str(pid) / "comm"), _LONGEST_NAME)
    arguments = tuple(_read(proc / str(pid) / "cmdline").split("\0"))
    return Holder(pid, name, arguments) if name else None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _check_log(holder: Holder, report: Report) -> bool:
    """Look for room where the running service writes its log, if that is a file. Returns whether there is some."""
    open_files = [Path(f"/proc/{holder.pid}/fd/{number}") for number in (1, 2)]
    try:
        logs = {str(each.readlink()): each for each in open_files if each.is_file()}
    except OSError:
        return True  # it has ended meanwhile
    rooms = [check_room(name, file, report) for name, file in logs.items()]
    return all(rooms)


def check_room(name: str, file: Path, report: Report) -> bool:
    """Look for room on the disk of a file that is written to, and is called `name`. Returns whether there is some."""
    try:
        disk = os.statvfs(file)
    except OSError:
        return True
    free = disk.f_bavail * disk.f_frsize
    if free >= _NEARLY_FULL_BYTES and (disk.f_favail or not disk.f_files):
        return True
    full = free < _FULL_BYTES or not (disk.f_favail or not disk.f_files)
    told = f"the disk of {name}, the service's log, {'is full' if full else f'has only {free >> 20} MB left'}"
    what = "make room; lines of the log are lost meanwhile" if full else "make room soon"
    level = Level.WRONG if full else Level.NOTE
    report(Finding(level, "disk", f"{told}: {what}. LOG_LEVEL=warning makes fewer lines", "LOG_LEVEL"))
    return not full
