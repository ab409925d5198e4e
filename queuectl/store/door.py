"""The only access to data files: everything that changes a byte on disk goes through here.

Each function does one thing to the disk, so that a test can make the n-th call fail, tear or kill
the process. An error of the operating system becomes DiskRefused, which names path and action.
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
TEMPORARY = ".new"  # suffix of a file that is being written
# A link is not followed, and a pipe in place of a file does not block: O_NONBLOCK has no effect on
# a plain file.
_WARILY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
LARGEST = 64_000_000  # bytes; the largest file that is read whole
_SET_BACK = 2_000_000_000  # ns


def refused(doing: str, path: str, error: OSError) -> DiskRefused:
    """The error that says what could not be done to which file, and why."""
    return DiskRefused(f"{doing} {path}: {error.strerror or error}; nothing was changed")


def unusable(folder: str, error: OSError) -> StoreError:
    """The error for a failing disk when nothing more specific is known."""
    return StoreError(f"{error.filename or folder}: {error.strerror or error}")


def gone(folder: str) -> FileMissing:
    """The error for a data folder that was removed while in use: it is not made again."""
    return FileMissing(f"data folder {folder} is gone")


class Presence:
    """Notices when the data folder that a long-lived front end saw once is gone."""

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
    """The error for a job file whose layout is not the one that was found before."""
    return BadFile(
        f"{folder}: a job file was changed while it was read; nothing was changed: try again, "
        "and if it stays so, run queuectl doctor"
    )


class Reading:
    """A block that reads a queue's files: failures in it become the errors above."""

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
    """A block that closes a descriptor at its end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)


def make_folder(path: str) -> None:
    """Make `path` and its parents if missing, private to the user."""
    try:
        os.makedirs(path, _FOLDER_MODE, exist_ok=True)
    except OSError as exc:
        raise refused("making", path, exc) from exc


def make_private(path: str, found: os.stat_result) -> None:
    """Remove the rights of others from what is ours; the rights of its owner stay.

    A file with several names is left alone: the others may not be ours to change.
    """
    several = stat.S_ISREG(found.st_mode) and found.st_nlink > 1
    if found.st_mode & 0o077 and os.geteuid() == found.st_uid and not several:
        set_mode(path, found.st_mode & 0o700)


def make_all_private(folder: str, is_ours: Callable[[str], bool]) -> None:
    """Make private each file in the folder whose name shows that it is ours."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_ours(entry.name) and entry.is_file(follow_symlinks=False):
                try:
                    make_private(entry.path, entry.stat(follow_symlinks=False))
                except FileNotFoundError:  # queue.lock may be removed at any moment
                    continue


def require_writable(folder: str) -> None:
    """Raise DiskRefused for a folder in which we may not make a file.

    A journal there can still be appended to, but it could never be folded, and no worker could
    start.
    """
    as_we_act = os.access in os.supports_effective_ids
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=as_we_act):
        raise DiskRefused(f"{folder} may not be written to; nothing was changed")


def set_mode(path: str, wanted: int) -> None:
    """Give the file or folder exactly these mode bits."""
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


# -- opening: only here is a file checked to be plain and ours alone


def oddity(found: os.stat_result, *, linked: bool = False) -> str:
    """Why this is not a file of ours alone, in words that follow its name; "" if it is one.

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
    """Why this is not a folder of ours, in words that follow its name; "" if it is or is absent."""
    return _not_ours(path, stat.S_IFDIR, "a folder")


def pipe_oddity(path: str) -> str:
    """Why this is not a named pipe of ours, in the form of `folder_oddity`."""
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
    """Raise BadFile if something else stands where a folder of the data folder should be."""
    fault = folder_oddity(path)
    if fault:
        raise odd(path, fault)


def odd(path: str, fault: str) -> BadFile:
    """The error for something that stands where a file of ours should be."""
    return BadFile(f"{path} {fault}; queuectl doctor --repair sets that right")


def open_ours(path: str, flags: int, *, linked: bool = False) -> tuple[int, os.stat_result]:
    """A descriptor that no child inherits, of a plain file that is ours alone, and its stat.

    `linked`: it may have several names. Raises FileMissing, DiskRefused, and BadFile for anything
    else in its place: a link, a folder, a pipe, a device, a file of another user.
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
    """`open_ours` without the stat."""
    return open_ours(path, flags)[0]


def open_pipe(path: str, flags: int) -> int:
    """A non-blocking descriptor of a named pipe of ours; OSError for anything else."""
    fd = os.open(path, flags | _WARILY)
    found = os.fstat(fd)
    if not stat.S_ISFIFO(found.st_mode) or found.st_uid != os.geteuid():
        os.close(fd)
        raise OSError(errno.EINVAL, "not a named pipe of ours", path)
    return fd


def open_folder(path: str) -> int:
    """A descriptor of a folder that no child inherits. Raises FileMissing or DiskRefused."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise FileMissing(f"{path} is missing") from None
    except OSError as exc:
        raise refused("opening", path, exc) from exc


def within(folder: str, name: str) -> str:
    """The path of a file of that name in the folder; BadFile for a name that leads elsewhere."""
    if "/" in name or not name.isprintable() or name in ("", ".", ".."):
        raise BadFile(f"{folder}: {name!r} names no file in it; nothing was changed")
    return os.path.join(folder, name)


def check_size(path: str, size: int, most: int, what: str) -> None:
    """Raise BadFile for a file too large to read into memory; `what` names what has `most`."""
    if size > most:
        raise BadFile(
            f"{path} holds {size:,} bytes, and {what} at most {most:,}; it was not read: "
            "see what it is, and put the right file there"
        )


def read(path: str, most: int = LARGEST) -> bytes:
    """The whole file; BadFile if it is missing, not a file, too large, or cannot be read."""
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
    """Whether a change (ns since 1970) is so recent that a stat may not show another one.

    Two changes within one tick of the file system's clock look alike. A tick has at most 10 ms
    where times have fractions of a second, and 2 s where they have none.
    """
    return now - changed / 1e9 < (0.1 if changed % 1_000_000_000 else 2.0)


def change_mark(path: str) -> tuple[int, int, int] | None:
    """A value that differs once the file has other bytes or was replaced; None if it is gone."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def set_back(path: str) -> None:
    """Give a file that no other process knows yet a time of change that no later change can have.

    The time is two seconds ago, since file systems without fractions may keep only even seconds.
    From then on the stat alone shows whether it was changed; `is_young` never holds for it.
    """
    changed = os.stat(path).st_mtime_ns - _SET_BACK
    try:
        os.utime(path, ns=(changed, changed))
    except OSError:  # times cannot be set here: the checksum decides while the file is young
        return


def append(fd: int, data: bytes, end: int, path: str) -> None:
    """Write `data` at the end of the file, which is at `end`: all of it or nothing."""
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
    """Wait until the disk has what was written. Raises OSError, which the caller must handle."""
    os.fsync(fd)


def sync_folder(path: str) -> None:
    """Wait until the names in the folder are on the disk."""
    fd = open_folder(path)
    try:
        os.fsync(fd)
    except OSError as exc:
        raise refused("syncing", path, exc) from exc
    finally:
        os.close(fd)


def write_new(path: str, chunks: Iterable[bytes]) -> str:
    """Write a file beside `path` and sync it; returns its name. A failure leaves nothing behind.

    The name cannot be guessed, so nothing can have been put there before.
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
    """Write a nameless file on the disk of `path`, gone once closed; returns its descriptor."""
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
    """Write or overwrite a file without syncing. A failure leaves nothing behind."""
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
    """Copy a file, overwriting what was there, without syncing. A failure leaves nothing behind."""
    read = open_file(source, os.O_RDONLY)
    with open(read, "rb", buffering=0) as file:
        write_unsynced(path, iter(lambda: file.read(1 << 20), b""))


def rename(old: str, new: str) -> None:
    """Rename a file, replacing what was there. If that fails, a temporary one is removed."""
    try:
        os.rename(old, new)
    except OSError as exc:
        try:
            if old.endswith(TEMPORARY):
                os.unlink(old)  # if that fails too, the next writer removes it
        finally:
            raise refused("renaming to", new, exc) from exc


def link(old: str, new: str) -> None:
    """Give the file a second name, which must be free and outlives the first."""
    try:
        os.link(old, new)
    except OSError as exc:
        raise refused("setting aside under", new, exc) from exc


def replace(path: str, data: bytes) -> None:
    """Make `data` the file's whole content, atomically and durably.

    Raises DiskRefused, or NotConfirmed if the file is there but the disk did not confirm it.
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
    """Remove the file; it may be gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        raise refused("removing", path, exc) from exc


def above_standard(fd: int) -> int:
    """The same file on a descriptor above 2: 0 to 2 would clash with what a child is given."""
    if fd > 2:
        return fd
    with Closing(fd):
        import fcntl

        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
