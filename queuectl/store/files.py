"""The only door to data files: everything that changes a byte on disk goes through here.

Each function does one thing to the disk, so that a test can make the n-th of them fail, tear or
kill the process. An operating system's refusal becomes DiskRefused, naming the path and the deed.
"""

from __future__ import annotations

import os

from queuectl.errors import BadFile, DiskRefused, NotConfirmed, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_FILE_MODE = 0o600
_FOLDER_MODE = 0o700


def refused(doing: str, path: str, error: OSError) -> DiskRefused:
    """The error that tells what could not be done to which file, and why."""
    return DiskRefused(f"{doing} {path}: {error.strerror or error}; nothing was changed")


def unusable(folder: str, error: OSError) -> StoreError:
    """The error for a disk that fails where nothing better is known of it."""
    return StoreError(f"{error.filename or folder}: {error.strerror or error}")


NO_LINES = (LookupError, ValueError)  # what comes of reading job lines that are none


def changed(folder: str) -> BadFile:
    """The error for a job file that is not laid out as it was found to be."""
    return BadFile(
        f"{folder}: a job file was changed while it was read; nothing was changed: try again, "
        "and if it stays so, run queuectl doctor"
    )


def make_folder(path: str) -> None:
    """Make `path` and what leads to it, if missing; private to the user."""
    try:
        os.makedirs(path, _FOLDER_MODE, exist_ok=True)
    except OSError as exc:
        raise refused("making", path, exc) from exc


def make_private(path: str, found: os.stat_result) -> None:
    """Mend the mode bits of a file of ours that others could read; what its owner may stays."""
    if found.st_mode & 0o077 and os.geteuid() in (0, found.st_uid):
        set_mode(path, found.st_mode & 0o700)


def require_writable(folder: str) -> None:
    """Raise DiskRefused for a folder in which we may make no file.

    A journal can still be appended to there, but nothing that was accepted would ever be folded,
    and no worker could start.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DiskRefused(f"{folder} may not be written to; nothing was changed")


def set_mode(path: str, wanted: int) -> None:
    """Give the file or folder just these mode bits."""
    try:
        os.chmod(path, wanted)
    except OSError as exc:
        raise refused("setting the mode of", path, exc) from exc


def make_pipe(path: str) -> None:
    """Make a named pipe, private to the user."""
    try:
        os.mkfifo(path, _FILE_MODE)
    except OSError as exc:
        raise refused("making", path, exc) from exc


def read(path: str) -> bytes:
    """The whole file; BadFile if it is missing or cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as exc:
        raise BadFile(f"reading {path}: {exc.strerror or exc}") from exc


def is_young(found: os.stat_result, now: float) -> bool:
    """Whether a file changed so lately that its stat may not show one more change.

    Two changes within one tick of a file system's clock look alike: one of 10 ms at most where
    times have fractions of a second, of two seconds where they have none.
    """
    return now - found.st_mtime < (0.1 if found.st_mtime_ns % 1_000_000_000 else 2.0)


def open_file(path: str, flags: int) -> int:
    """A descriptor that no child inherits; BadFile if there is no such file."""
    try:
        return os.open(path, flags | os.O_CLOEXEC, _FILE_MODE)
    except FileNotFoundError:
        raise BadFile(f"{path} is missing") from None
    except OSError as exc:
        raise refused("opening", path, exc) from exc


def append(fd: int, data: bytes, end: int, path: str) -> None:
    """Write `data` at the end of the file, which is at `end`; all of it or none of it."""
    try:
        written = os.write(fd, data)
        while written < len(data):
            written += os.write(fd, data[written:])
    except OSError as exc:
        truncate(fd, end, path)
        raise refused("writing to", path, exc) from exc


def truncate(fd: int, size: int, path: str) -> None:
    """Cut the file to `size` bytes."""
    try:
        os.ftruncate(fd, size)
    except OSError as exc:
        raise refused("cutting", path, exc) from exc


def sync(fd: int) -> None:
    """Wait until the disk has what was written; the caller answers for an OSError."""
    os.fsync(fd)


def sync_folder(path: str) -> None:
    """Wait until the names in the folder have reached the disk."""
    fd = open_file(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as exc:
        raise refused("syncing", path, exc) from exc
    finally:
        os.close(fd)


def write_new(path: str, chunks: Iterable[bytes]) -> None:
    """Write a file of its own and sync it; nothing of it is left if that fails."""
    fd = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(fd, view) :]
        os.fsync(fd)
    except OSError as exc:
        remove(path)
        raise refused("writing", path, exc) from exc
    except BaseException:
        remove(path)
        raise
    finally:
        os.close(fd)


def rename(old: str, new: str) -> None:
    """Put the file under its new name, over what was there."""
    try:
        os.rename(old, new)
    except OSError as exc:
        raise refused("renaming to", new, exc) from exc


def link(old: str, new: str) -> None:
    """Give the file a second name, which must be free: it outlives the first."""
    try:
        os.link(old, new)
    except OSError as exc:
        raise refused("setting aside under", new, exc) from exc


def replace(path: str, data: bytes, suffix: str = ".new") -> None:
    """Make `data` the file's whole content, at once and for good.

    It is written beside the file first, under its name and `suffix`. NotConfirmed: it is there, but
    the disk did not say that it will stay.
    """
    fresh = path + suffix
    write_new(fresh, (data,))
    rename(fresh, path)
    try:
        sync_folder(os.path.dirname(path))
    except DiskRefused as exc:
        why = exc.__cause__.strerror if isinstance(exc.__cause__, OSError) else exc
        raise NotConfirmed(
            f"{path} was written, but may not survive a power cut: syncing its folder: {why}"
        ) from exc


def remove(path: str) -> None:
    """Take the file away; one that is gone already is fine."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        raise refused("removing", path, exc) from exc
