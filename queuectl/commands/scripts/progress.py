"""The progress of a script, kept in a file, so that `--resume FILE` goes on where it stopped.

One line for each step: `begun N CRC` before the N-th statement of the script, `done N CRC` after
it, or `failed N CRC` if its failure ended the script: then the next start is at the first
statement, since the cause may be further up. CRC is the checksum of all statements up to that one,
so that another script is noticed. A last line without its end was cut off with its process.
"""

from __future__ import annotations

import os
from typing import Literal
from zlib import crc32

from queuectl.commands.scripts.statements import Statement
from queuectl.errors import InvalidInput, QueuectlError
from queuectl.store.door import oddity

_ANEW = os.O_CREAT | os.O_EXCL
_WORDS = (b"begun ", b"done ", b"failed ")
_LONGEST = 40  # bytes of a line
_LARGEST = 64_000_000  # bytes
_WARILY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Progress:
    """The progress of a script. Nothing is on the disk before the first statement begins."""

    def __init__(self, path: str) -> None:
        """Raises InvalidInput if the file exists and is not the progress of a script."""
        self.path = path
        self._fd, self._is_there = -1, False
        self._at, self._crc = 0, 0
        self._done, self._begun, self._known = 0, 0, 0
        self.failed = 0  # the statement that ended the script the last time, counted from 1
        try:
            fd = self._open(os.O_RDONLY)
            with open(fd, "rb") as file:
                *lines, torn = file.read(_LARGEST).split(b"\n")
        except FileNotFoundError:
            return
        except OSError as exc:
            raise self._failed("reading", exc) from None
        self._is_there = True
        if len(torn) > _LONGEST or not any(word.startswith(torn[: len(word)]) for word in _WORDS):
            raise self._not_ours()
        for line in lines:
            self._take(line)

    def _not_ours(self) -> InvalidInput:
        return InvalidInput(f"{self.path} does not tell how far a script got; name another file")

    def _take(self, line: bytes) -> None:
        words = line.split()
        try:
            number, crc = int(words[1]), int(words[2], 16)
        except (IndexError, ValueError):
            raise self._not_ours() from None
        if not line.startswith(_WORDS) or len(line) > _LONGEST:
            raise self._not_ours()  # it would be overwritten, and removed at the end
        self.failed = number if words[0] == b"failed" else 0
        if words[0] == b"done":
            self._done, self._known = number, crc
        elif words[0] == b"failed":
            self._done = self._begun = self._known = 0
        else:
            self._begun = number

    def is_done(self, statement: Statement) -> bool:
        """Whether the script's next statement was done before; call it for each in turn.

        Raises InvalidInput if another text was done before.
        """
        self._at += 1
        self._crc = crc32(statement.text.encode("utf-8", "surrogateescape"), self._crc)
        if self._at == self._done and self._crc != self._known:
            raise InvalidInput(
                f"{self.path} tells of another script: of {statement.name}, lines up to "
                f"{statement.line} were changed since; remove that file to run it from its start"
            )
        return self._at <= self._done

    def was_begun(self) -> bool:
        """Whether the statement of the last `is_done` was begun before, and perhaps run."""
        return self._at == self._begun

    def note(self, word: Literal["begun", "done", "failed"]) -> None:
        """Note the progress of the statement of the last `is_done`; synced if it is over.

        The note `failed` ends the script.
        """
        try:
            if self._fd < 0:
                self._fd = self._open(os.O_RDWR | (0 if self._is_there else _ANEW))
                whole = os.pread(self._fd, os.fstat(self._fd).st_size, 0).rfind(b"\n") + 1
                os.ftruncate(self._fd, whole)
                os.lseek(self._fd, whole, os.SEEK_SET)
            os.write(self._fd, f"{word} {self._at} {self._crc:08x}\n".encode())
            if word != "begun":
                os.fsync(self._fd)
        except OSError as exc:
            raise self._failed("writing", exc) from None

    def close(self, *, whole: bool) -> None:
        """Close the file, and remove it if the script was run to its end.

        Raises InvalidInput if the script is shorter than the noted progress.
        """
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if whole and self._at < self._done:
            raise InvalidInput(
                f"{self.path} tells of another script: {self._done} of its commands were done, "
                f"this one has {self._at}; remove that file to run it from its start"
            )
        if whole and self._at:
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                return
            except OSError as exc:
                raise self._failed("removing", exc) from None

    def _open(self, flags: int) -> int:
        """Open the file, which must be a plain one of this user: links are not followed."""
        try:
            fd = os.open(self.path, flags | _WARILY, 0o600)
        except OSError as exc:
            if not os.path.islink(self.path):
                raise
            fault = oddity(os.lstat(self.path))
            raise InvalidInput(f"{self.path} {fault}; name another for --resume") from exc
        fault = oddity(os.fstat(fd))
        if fault:
            os.close(fd)
            raise InvalidInput(f"{self.path} {fault}; name another for --resume")
        return fd

    def _failed(self, doing: str, error: OSError) -> QueuectlError:
        return QueuectlError(
            f"{doing} {self.path}: {error.strerror}; how far the script got is not known"
        )
