"""The only door to data files: everything that changes a byte on disk goes through here.

Each function does one thing to the disk, so that a test can make the n-th of them fail, tear or
kill the process. An operating system's refusal becomes DiskRefused, naming the path and the deed.
"""

from __future__ import annotations

import errno
import os
import stat

from queuectl.errors import BadFile, DiskRefused, FileMissing, NotConfirmed, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_FILE_MODE = 0o600
_FOLDER_MODE = 0o700
TEMPORARY = ".new"  # how the name of a file ends that is being written
# A link is not followed, nor does a pipe in the place of a file make us wait: O_NONBLOCK means
# nothing for a plain file.
_WARILY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
LARGEST = 64_000_000  # bytes of a file that is read whole
_SET_BACK = 2_000_000_000  # ns


def refused(doing: str, path: str, error: OSError) -> DiskRefused:
    """The error that tells what could not be done to which file, and why."""
    return DiskRefused(f"{doing} {path}: {error.strerror or error}; nothing was changed")


def unusable(folder: str, error: OSError) -> StoreError:
    """The error for a disk that fails where nothing better is known of it."""
    return StoreError(f"{error.filename or folder}: {error.strerror or error}")


def gone(folder: str) -> FileMissing:
    """The error for a data folder that was there and was removed: it is not made again."""
    return FileMissing(f"data folder {folder} is gone")


class Presence:
    """Whether the data folder that a long-lived front end once saw is still there."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = os.path.lexists(path)

    def check(self) -> None:
        """Raise FileMissing if the folder is gone; it may appear at any time."""
        if os.path.lexists(self._path):
            self._seen = True
        elif self._seen:
            raise FileMissing(f"{gone(self._path)}; 'init' makes a new one")


# Errors of reading lines that are not jobs.
NO_LINES = (LookupError, ValueError, TypeError, AttributeError)


def changed(folder: str) -> BadFile:
    """The error for a job file that is not laid out as it was found to be."""
    return BadFile(
        f"{folder}: a job file was changed while it was read; nothing was changed: try again, "
        "and if it stays so, run queuectl doctor"
    )


class Reading:
    """A block in which a queue's files are read: what fails there is told by the errors above."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __enter__(self) -> object:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise unusable(self._folder, error) from error
        if isinstance(error, NO_LINES):
            raise changed(self._folder) from error


class Closing:
    """A block at whose end a descriptor is closed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)


def make_folder(path: str) -> None:
    """Make `path` and what leads to it, if missing; private to the user."""
    try:
        os.makedirs(path, _FOLDER_MODE, exist_ok=True)
    except OSError as exc:
        raise refused("making", path, exc) from exc


def make_private(path: str, found: os.stat_result) -> None:
    """Mend the mode bits of what is ours and others could read; what its owner may stays.

    A file with several names is left alone: the others may not be ours to change.
    """
    several = stat.S_ISREG(found.st_mode) and found.st_nlink > 1
    if found.st_mode & 0o077 and os.geteuid() == found.st_uid and not several:
        set_mode(path, found.st_mode & 0o700)


def make_all_private(folder: str, is_ours: Callable[[str], bool]) -> None:
    """Make each file in the folder private that is ours by its name."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_ours(entry.name) and entry.is_file(follow_symlinks=False):
                try:
                    make_private(entry.path, entry.stat(follow_symlinks=False))
                except FileNotFoundError:  # queue.lock may be removed at any moment
                    continue


def require_writable(folder: str) -> None:
    """Raise DiskRefused for a folder in which we may make no file.

    A journal can still be appended to there, but nothing that was accepted would ever be folded,
    and no worker could start.
    """
    as_we_act = os.access in os.supports_effective_ids
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=as_we_act):
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


# -- opening: the one place where a file is seen to be one, and ours alone


def oddity(found: os.stat_result, *, linked: bool = False) -> str:
    """Why this is not a file of ours alone, told behind its name; empty for one that is.

    `linked`: it may have several names.
    """
    mode = found.st_mode
    if not stat.S_ISREG(mode):
        return f"is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file"
    if found.st_uid != os.geteuid():
        return f"belongs to another user (uid {found.st_uid})"
    if found.st_nlink > 1 and not linked:
        return f"has {found.st_nlink} names (hard links), so another folder would change with it"
    return ""


_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def folder_oddity(path: str) -> str:
    """Why this is not a folder of ours, in words behind its name; "" if it is one, or is absent."""
    return _not_ours(path, stat.S_IFDIR, "a folder")


def pipe_oddity(path: str) -> str:
    """Why this is not a named pipe of ours, as `folder_oddity` has it."""
    return _not_ours(path, stat.S_IFIFO, "a pipe")


def _not_ours(path: str, wanted: int, noun: str) -> str:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return ""
    except OSError as exc:
        return f"cannot be looked at: {exc.strerror}"
    kind = stat.S_IFMT(found.st_mode)
    if kind != wanted:
        return f"is {_KINDS.get(kind, 'a file')}, not {noun}"
    return "" if found.st_uid == os.geteuid() else f"belongs to another user (uid {found.st_uid})"


def check_folder_of_ours(path: str) -> None:
    """Raise BadFile if something else stands in the place of one of the data folder's folders."""
    fault = folder_oddity(path)
    if fault:
        raise odd(path, fault)


def odd(path: str, fault: str) -> BadFile:
    """The error for something that stands in the place of a file of ours."""
    return BadFile(f"{path} {fault}; queuectl doctor --repair sets that right")


def open_ours(path: str, flags: int, *, linked: bool = False) -> tuple[int, os.stat_result]:
    """A descriptor that no child inherits, and the stat of its file, which is plain and ours alone.

    `linked`: it may have several names. Raises FileMissing; BadFile for anything else in its place:
    a link, a folder, a pipe, a device, a file of another user; DiskRefused.
    """
    try:
        fd = os.open(path, flags | _WARILY, _FILE_MODE)
    except FileNotFoundError:
        raise FileMissing(f"{path} is missing; queuectl doctor --repair mends it") from None
    except OSError as exc:
        try:
            fault = oddity(os.lstat(path))
        except OSError:
            fault = ""
        raise (odd(path, fault) if fault else refused("opening", path, exc)) from exc
    found = os.fstat(fd)
    fault = oddity(found, linked=linked)
    if fault:
        os.close(fd)
        raise odd(path, fault)
    return fd, found


def open_file(path: str, flags: int) -> int:
    """As `open_ours`, without the stat."""
    return open_ours(path, flags)[0]


def open_pipe(path: str, flags: int) -> int:
    """A descriptor of a named pipe of ours that never makes us wait; OSError for anything else."""
    fd = os.open(path, flags | _WARILY)
    found = os.fstat(fd)
    if not stat.S_ISFIFO(found.st_mode) or found.st_uid != os.geteuid():
        os.close(fd)
        raise OSError(errno.EINVAL, "not a named pipe of ours", path)
    return fd


def open_folder(path: str) -> int:
    """A descriptor of a folder, that no child inherits; FileMissing, DiskRefused."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise FileMissing(f"{path} is missing") from None
    except OSError as exc:
        raise refused("opening", path, exc) from exc


def within(folder: str, name: str) -> str:
    """The path of a file of that name in the folder; BadFile for text that leads elsewhere."""
    if "/" in name or not name.isprintable() or name in ("", ".", ".."):
        raise BadFile(f"{folder}: {name!r} names no file in it; nothing was changed")
    return os.path.join(folder, name)


def check_size(path: str, size: int, most: int, what: str) -> None:
    """Raise BadFile for a file too large to be read into memory; `what` says what has `most`."""
    if size > most:
        raise BadFile(
            f"{path} holds {size:,} bytes, and {what} at most {most:,}; it was not read: "
            "see what it is, and put the right file there"
        )


def read(path: str, most: int = LARGEST) -> bytes:
    """The whole file; BadFile if it is missing, something else, too large, or cannot be read."""
    fd, found = open_ours(path, os.O_RDONLY)
    try:
        check_size(path, found.st_size, most, "such a file has")
        data = os.read(fd, found.st_size + 1)
        while more := os.read(fd, 1 << 20):
            data += more
        return data
    except OSError as exc:
        raise BadFile(f"reading {path}: {exc.strerror or exc}") from exc
    finally:
        os.close(fd)


def is_young(changed: int, now: float) -> bool:
    """Whether a change, at so many nanoseconds, is so late that a stat may not show one more.

    Two changes within one tick of a file system's clock look alike: one of 10 ms at most where
    times have fractions of a second, of two seconds where they have none.
    """
    return now - changed / 1e9 < (0.1 if changed % 1_000_000_000 else 2.0)


def change_mark(path: str) -> tuple[int, int, int] | None:
    """Differs once somebody put other bytes into the file, or another one in its place."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def set_back(path: str) -> None:
    """Give a file that nobody else knows yet a time of change that no later change can have.

    A time of two seconds ago: file systems whose times have no fractions may keep even seconds
    only. So its stat alone shows for ever whether it was changed; `is_young` never holds for it.
    """
    changed = os.stat(path).st_mtime_ns - _SET_BACK
    try:
        os.utime(path, ns=(changed, changed))
    except OSError:  # times cannot be set there: the checksum decides while the file is young
        return


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
    fd = open_folder(path)
    try:
        os.fsync(fd)
    except OSError as exc:
        raise refused("syncing", path, exc) from exc
    finally:
        os.close(fd)


def write_new(path: str, chunks: Iterable[bytes]) -> str:
    """Write a file beside `path` and sync it: its name; nothing of it is left if that fails.

    Nobody can guess the name, so nobody can have put something there.
    """
    fresh = f"{path}.{os.urandom(8).hex()}{TEMPORARY}"
    fd = open_file(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        _write_all(fd, chunks)
        os.fsync(fd)
    except OSError as exc:
        remove(fresh)
        raise refused("writing", path, exc) from exc
    except BaseException:
        remove(fresh)
        raise
    finally:
        os.close(fd)
    return fresh


def _write_all(fd: int, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            view = view[os.write(fd, view) :]


def write_nameless(path: str, chunks: Iterable[bytes]) -> int:
    """Write a file on the disk of `path` that has no name and goes when it is closed; open."""
    fresh = f"{path}.{os.urandom(8).hex()}{TEMPORARY}"
    fd = open_file(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        remove(fresh)
        _write_all(fd, chunks)
    except OSError as exc:
        os.close(fd)
        raise refused("writing", path, exc) from exc
    except BaseException:
        os.close(fd)
        raise
    return fd


def write_unsynced(path: str, chunks: Iterable[bytes]) -> None:
    """Write a file, over what was there; not synced, and nothing of it is left if that fails."""
    fd = -1
    try:
        if os.path.lexists(path):  # its writer was killed
            os.unlink(path)
        fd = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        _write_all(fd, chunks)
    except OSError as exc:
        remove(path)
        raise refused("writing", path, exc) from exc
    finally:
        if fd >= 0:
            os.close(fd)


def copy_unsynced(source: str, path: str) -> None:
    """Copy a file, over what was there; not synced, and nothing of it is left if that fails."""
    read = open_file(source, os.O_RDONLY)
    with open(read, "rb", buffering=0) as file:
        write_unsynced(path, iter(lambda: file.read(1 << 20), b""))


def rename(old: str, new: str) -> None:
    """Put the file under its new name, over what was there; one that was temporary, or it goes."""
    try:
        os.rename(old, new)
    except OSError as exc:
        try:
            if old.endswith(TEMPORARY):
                os.unlink(old)  # if that fails too, the next writer does it
        finally:
            raise refused("renaming to", new, exc) from exc


def link(old: str, new: str) -> None:
    """Give the file a second name, which must be free: it outlives the first."""
    try:
        os.link(old, new)
    except OSError as exc:
        raise refused("setting aside under", new, exc) from exc


def replace(path: str, data: bytes) -> None:
    """Make `data` the file's whole content, at once and for good.

    NotConfirmed: it is there, but the disk did not say that it will stay.
    """
    rename(write_new(path, (data,)), path)
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


def above_standard(fd: int) -> int:
    """The file on a descriptor above 2: with one of 0 to 2, what a child is given gets mixed up."""
    if fd > 2:
        return fd
    with Closing(fd):
        import fcntl

        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
