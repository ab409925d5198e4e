"""`python -m queuectl`."""

from __future__ import annotations

from queuectl.cli import entry

if __name__ == "__main__":
    entry()
