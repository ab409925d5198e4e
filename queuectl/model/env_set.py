"""What a job takes along from where it was enqueued: variables that decide what a name means.

A set is `{"umask": "022", "env": {"PATH": "/usr/bin", "TZ": null}}`. Null: the variable was not
set, so the job does not get it even if its worker has it. `"only": true`: the job gets these
variables and none of its worker's others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# These decide which program a name means, and its language and time zone.
STANDARD = (
    *("PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "TZ", "LANG", "LC_ALL"),
    *("LC_CTYPE", "LC_NUMERIC", "LC_TIME", "LC_COLLATE", "LC_MONETARY", "LC_MESSAGES", "LC_PAPER"),
    *("LC_NAME", "LC_ADDRESS", "LC_TELEPHONE", "LC_MEASUREMENT", "LC_IDENTIFICATION"),
)
ALL = "all"  # as a name: every variable
_OURS = "QUEUECTL_"  # these come from the worker


def captured(environ: Mapping[str, str], umask: int, names: Iterable[str]) -> dict[str, Any]:
    """The set for this environment and umask: the variables of STANDARD and `names`."""
    wanted = list(dict.fromkeys([*STANDARD, *names]))
    env: dict[str, str | None]
    if ALL in wanted:
        env = {name: text for name, text in environ.items() if not name.startswith(_OURS)}
        return {"umask": f"{umask:03o}", "env": env, "only": True}
    env = {name: environ.get(name) for name in wanted if not name.startswith(_OURS)}
    return {"umask": f"{umask:03o}", "env": env}


def present(form: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a set that have a value."""
    return {name: text for name, text in form["env"].items() if text is not None}


def fault(form: object) -> str:
    """What is wrong with a set read from a file; empty if nothing is."""
    if not isinstance(form, dict) or not isinstance(form.get("env"), dict):
        return "it must be an object with the object env in it"
    for name, text in form["env"].items():
        if not name or "=" in name or "\0" in name:
            return f"{name!r} is not the name of a variable"
        if text is not None and (not isinstance(text, str) or "\0" in text):
            return f"the value of {name} must be text or null"
    umask = form.get("umask", "022")
    if not isinstance(umask, str) or not 0 < len(umask) <= 4 or not set(umask) <= set("01234567"):
        return f"umask must be three octal digits, not {umask!r}"
    return ""


def applied(form: Mapping[str, Any], base: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The environment of a job with this set; `base` is its worker's."""
    found = {} if form.get("only") else dict(base)
    for name, text in form["env"].items():
        key = name.encode("utf-8", "surrogateescape")
        if text is None:
            found.pop(key, None)
        else:
            found[key] = text.encode("utf-8", "surrogateescape")
    return found
