"""Sizes in bytes as people write them."""

from __future__ import annotations

from queuectl.errors import InvalidInput

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_size(text: str) -> int:
    """Bytes in `1500`, `100MB`, `1.5 GB`, `64KiB`; InvalidInput for anything else."""
    usual = text.strip().lower().removesuffix("b")
    number = usual[: len(usual) - len(usual.lstrip("0123456789."))]
    try:
        return int(float(number) * (_UNITS | _BINARY)[usual[len(number) :].strip()])
    except (ValueError, KeyError, OverflowError):
        raise InvalidInput(f"'{text}' is not a size like 1500, 100MB or 1.5GB") from None


def format_size(size: int) -> str:
    """A size for people: `950 bytes`, `1.2 GB`."""
    for unit in ("TB", "GB", "MB", "KB"):
        if size >= (least := _UNITS[unit[0].lower()]):
            return f"{size / least:.1f} {unit}"
    return f"{size} bytes"
