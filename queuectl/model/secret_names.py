"""Variables whose values are not shown: their names tell that they hold a secret."""

from __future__ import annotations

from collections.abc import Mapping

HIDDEN = "***"
_WORDS = ("TOKEN", "SECRET", "PASS", "KEY", "CREDENTIAL", "DATABASE_URL")


def hidden(env: Mapping[str, str]) -> dict[str, str]:
    """The variables as they are shown: what is a secret by its name is hidden."""
    return {name: HIDDEN if is_secret(name) else text for name, text in env.items()}


def is_secret(name: str) -> bool:
    """Whether a variable of this name holds what nobody should read over a shoulder."""
    return any(word in name.upper() for word in _WORDS)
