"""One writer a shard: a lock file beside the outputs, taken over when its owner is dead.

A lock is made whole by a hard link, so that whoever sees it can read its owner. The owner touches it while it works
(heartbeat). It is stale where its process is gone, or has not touched it for a while: on another machine nothing
else can be told. A process that was only stopped finds out when it publishes: that happens under the lock's
own name, once.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import threading
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

HEARTBEAT = 10.0  # seconds between two touches
STALE = 90.0  # seconds without a touch after which the owner counts as dead
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # file systems without hard links


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock. machine tells boots and containers apart, started a number that is used again."""

    host: str
    machine: str
    pid: int
    started: str
    token: str


class Lock:
    """A lock that this process holds; a context manager that gives it back."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path, self.owner = path, owner
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True, name="heartbeat")
        self._heart.start()

    @property
    def held(self) -> bool:
        """Whether it is still ours: a process that slept for too long has lost it."""
        return read_owner(self.path) == self.owner

    def release(self) -> None:
        """Give it back, if it is still ours."""
        self._over.set()
        self._heart.join()
        if self.held:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT):
            with contextlib.suppress(OSError):
                if self.held:
                    os.utime(self.path)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def acquire(path: Path) -> Lock | None:
    """The lock, or None where a living process holds it.

    Raises:
        OSError: the folder cannot be written.
    """
    owner = this_process()
    if not _create(path, owner) and not (break_if_stale(path) and _create(path, owner)):
        return None
    return Lock(path, owner)


def this_process() -> Owner:
    return Owner(socket.gethostname(), _machine(), os.getpid(), _started(os.getpid()), secrets.token_hex(8))


def read_owner(path: Path) -> Owner | None:
    """Whose lock it is; None where there is none, or it cannot be read."""
    try:
        return Owner(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def publish(partial: Path, final: Path) -> bool:
    """Give a whole file its name, unless that is taken: whether it was given. The partial file is gone afterwards.

    Raises:
        OSError: the folder cannot be written.
    """
    try:
        os.link(partial, final)
    except FileExistsError:
        partial.unlink()
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if final.exists():
            partial.unlink()
            return False
        os.replace(partial, final)
    else:
        partial.unlink()
    return True


def _create(path: Path, owner: Owner) -> bool:
    """Make the lock with its owner in it at once; False where there is one."""
    partial = path.with_name(f"{path.name}.{owner.token}")
    try:
        partial.write_text(json.dumps(asdict(owner)))
        return publish(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def break_if_stale(path: Path) -> bool:
    """Remove the lock of a dead process: whether it was one.

    Two that find it stale at once both move it away; the later one may have moved a fresh lock and puts it back.
    """
    found = read_owner(path)
    if not _is_stale(path, found):
        return False
    aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return True  # given back, or broken by another
    if read_owner(aside) != found:
        with contextlib.suppress(OSError):
            publish(aside, path)
        return False
    aside.unlink()
    return True


def _is_stale(path: Path, owner: Owner | None) -> bool:
    if owner is not None and owner.machine == _machine() and not _is_alive(owner):
        return True
    try:
        touched = path.stat().st_mtime
    except OSError:
        return True
    return _now(path.parent) - touched > STALE


def _is_alive(owner: Owner) -> bool:
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return _started(owner.pid) == owner.started


def _now(folder: Path) -> float:
    """The file system's own time: clocks of several machines differ."""
    probe = folder / f".clock.{secrets.token_hex(8)}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


@cache
def _machine() -> str:
    """What tells this boot of this container from others; process ids count within it."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _started(pid: int) -> str:
    """When a process began, in the system's ticks; "" where that cannot be told. A zombie counts as ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]
