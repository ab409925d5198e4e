"""Which queue is meant, the names in its folder, and the folders for a user's own files."""

from __future__ import annotations

import os

from queuectl.errors import InvalidInput, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# The names in a data folder, defined only here; README.md says what each is for.
MARKER = ".queuectl"  # the file that makes a folder a queue
JOBS, DEAD, JOURNAL, NOTES = "jobs.json", "dlq.json", "journal", ".folded"
SETTINGS, ENV_SETS, WORKER_LIST = "config.json", "env_sets.json", "worker_pids.json"
LOCK, LOGS, WORKERS = "queue.lock", "logs", "workers"
ADDRESS = "mongodb"  # names the queue of a host folder; also the folder that holds all host folders
SCHEMES = ("mongodb://", "mongodb+srv://")  # of the URLs of those queues


def find_folder(option: str | None, environ: Mapping[str, str]) -> str:
    """The data folder's absolute path: `--data`, QUEUECTL_DATA, ./data if ours, or the user's own.

    Raises StoreError if the user's own is needed but no home folder is known, and InvalidInput for
    an address: store/opening.py handles those of queues in MongoDB.
    """
    named = option or environ.get("QUEUECTL_DATA")
    if named:
        refuse_address(named)
        path = expand(named)
    else:
        path = "data"
        if not os.path.lexists(os.path.join(path, MARKER)):
            path = own_folder(environ, "XDG_DATA_HOME", ".local/share")
            if is_anothers(path):
                raise StoreError(
                    f"data folder {path} would be root's in the home of another user; "
                    "name a data folder with --data DIR, or use sudo -H"
                )
    if not path:
        raise StoreError("no home folder is known; name a data folder with --data DIR")
    return os.path.abspath(path)


def is_address(named: str) -> bool:
    """Whether this names a queue in MongoDB, not a folder; see addresses.py."""
    return named == "mongodb" or named[:1] == "@" or named.startswith(SCHEMES)


def refuse_address(named: str) -> None:
    """Raise InvalidInput for an address like `mongodb://...`, which does not name a folder.

    The message repeats only its first part, since it may contain a password.
    """
    if named.startswith(("mongodb:", "mongodb+srv:")) and not is_address(named):
        raise InvalidInput(
            "a URL of a MongoDB reads mongodb://HOST/DATABASE?OPTIONS (./mongodb: names a folder)"
        )
    scheme, sign, _ = named.partition("://")
    if sign:
        raise InvalidInput(
            f"a queue at {scheme}://... is not supported by this version; name a folder"
        )


def own_folder(environ: Mapping[str, str], variable: str, usual: str) -> str:
    """Our folder in the one that an XDG variable names, or in `usual` below home; "" if unknown.

    A relative path is ignored, as the XDG Base Directory Specification requires.
    """
    named = environ.get(variable, "")
    above = named if os.path.isabs(named) else expand(f"~/{usual}")
    return above and os.path.join(above, "queuectl")


def state_folder(environ: Mapping[str, str]) -> str:
    """The folder for the state of this user's programs on this machine; "" if unknown."""
    return own_folder(environ, "XDG_STATE_HOME", ".local/state")


def is_anothers(path: str) -> bool:
    """Whether root would make `path` in a folder of another user, as with `sudo -E`."""
    if os.geteuid() != 0 or not path or os.path.lexists(path):
        return False
    import pwd

    try:
        own = pwd.getpwuid(0).pw_dir
    except KeyError:
        own = "/root"
    if path.startswith(own.rstrip("/") + "/"):
        return False
    above = os.path.dirname(path)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    return os.lstat(above).st_uid != 0


def expand(path: str) -> str:
    """The path with a leading `~` or `~USER` replaced; "" if no home folder is known."""
    if path != "~" and not path.startswith("~/"):
        return os.path.expanduser(path)
    home = home_folder()
    return home and os.path.join(home, path[2:].lstrip("/"))


def home_folder() -> str:
    """The user's home, from HOME or else the system; "" if that is not an absolute path.

    An empty HOME counts as unknown. os.path.expanduser would take it for the root folder, and
    without a home it would keep `~` as the name of a folder.
    """
    home = os.environ.get("HOME")
    if not home:
        import pwd

        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            home = ""
    return home if os.path.isabs(home) else ""
