"""A job's file of variables, NAME=VALUE lines. Secrets belong there, so that no queue holds them.

A value is everything up to the end of its line: nothing is expanded, and quotes are part of it.
Blank lines and lines that begin with # are skipped.
"""

from __future__ import annotations

from queuectl.errors import InvalidInput

LARGEST = 1_000_000  # bytes


def variables(data: bytes, path: str) -> dict[bytes, bytes]:
    """The variables in the bytes of such a file; InvalidInput names the line of a mistake."""
    if len(data) > LARGEST:
        raise InvalidInput(f"env_file {path} is longer than {LARGEST:,} bytes")
    found: dict[bytes, bytes] = {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        text = line.lstrip()
        if not text or text.startswith(b"#"):
            continue
        name, equals, value = text.partition(b"=")
        name = name.rstrip()
        if not equals or not name.replace(b"_", b"a").isalnum() or name[:1].isdigit():
            raise InvalidInput(f"env_file {path}:{number}: not NAME=VALUE")
        if b"\0" in value:
            raise InvalidInput(f"env_file {path}:{number}: the value holds a NUL byte")
        found[name] = value
    return found
