"""Variables whose values are not shown, because their names suggest a secret."""

from __future__ import annotations

from collections.abc import Mapping

HIDDEN = "***"
_WORDS = ("TOKEN", "SECRET", "PASS", "KEY", "CREDENTIAL", "DATABASE_URL")


def hidden(env: Mapping[str, str]) -> dict[str, str]:
    """The variables as they are shown: values that are secret by their names are hidden."""
    return {name: HIDDEN if is_secret(name) else text for name, text in env.items()}


def is_secret(name: str) -> bool:
    """Whether a variable of this name probably holds a secret."""
    return any(word in name.upper() for word in _WORDS)
