"""How a queue in MongoDB is named, and how its name is shown: never with the password.

It is named by `mongodb://HOST/DB` or `mongodb+srv://...` itself, by `@FILE` (a private file with
one such URL), or by `mongodb` alone: the URL in MONGO_URI, from the environment or from `.env` in
the current folder.
"""

from __future__ import annotations

import os
import stat

from queuectl.errors import InvalidInput, StoreError
from queuectl.places import ADDRESS, SCHEMES, state_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DATABASE = "queuectl"  # of a URL that names none
_NOT_OURS = ("admin", "local", "config")
_HEX = frozenset("0123456789abcdefABCDEF")
_LONGEST_NAME = 63  # bytes
_MARKS = '\0 /\\."$*<>:|?'
_LONGEST = 1 << 16  # bytes of a file with a URL, or of .env


class Address:
    """The address of a queue in MongoDB.

    `url`: for the driver, with the password. `database`: its name. `name`: what people see. `path`:
    the file from which the URL was read, "" if it came another way.
    """

    def __init__(self, url: str, path: str = "") -> None:
        scheme = next((start for start in SCHEMES if url.startswith(start)), None)
        if scheme is None:
            raise InvalidInput("the URL of a MongoDB must begin with mongodb:// or mongodb+srv://")
        user, at, rest = url[len(scheme) :].rpartition("@")
        codes = [part[:2] for part in user.split("%")[1:]]
        spelled = all(len(code) == 2 and _HEX.issuperset(code) for code in codes)
        if not spelled or any(mark in user for mark in "/?#@"):
            # Without telling where: what stands before the last @ may be a password.
            raise InvalidInput(
                "a URL of a MongoDB must spell % @ / ? # in its user, password and options as "
                "%25 %40 %2F %3F %23"
            )
        hosts, _, rest = rest.partition("/")
        database, question, options = rest.partition("?")
        if "?" in hosts or not hosts:
            raise InvalidInput("a URL of a MongoDB reads mongodb://HOST/DATABASE?OPTIONS")
        self.database = _checked(database) if database else DATABASE
        login, _, password = user.partition(":")
        self.url = f"{scheme}{user}{at}{hosts}/{database or DATABASE}{question}{options}"
        self.name = f"{scheme}{login}{at}{hosts}/{database or DATABASE}"
        self.path = path
        self._secrets = [f":{password}@"] if password else []
        # What is as short as a part of many words, or a part of the name, cannot be told from it.
        values = (password, *(value for _, _, value in _pairs(options)))
        self._secrets += [value for value in values if len(value) > 3 and value not in self.name]

    @property
    def has_secret(self) -> bool:
        """Whether the URL contains anything that others must not see."""
        return self.url != self.name

    def is_spelled(self, text: str) -> bool:
        """Whether the text is a URL of the same queue with the same password."""
        try:
            return Address(text).url == self.url
        except (InvalidInput, StoreError):
            return False

    def cleaned(self, text: str) -> str:
        """The text without any secret of the URL that it may repeat."""
        from urllib.parse import unquote_plus

        for secret in (self.url, *self._secrets):
            for spelled in (secret, unquote_plus(secret)):
                text = text.replace(spelled, "***")
        return text


def _checked(database: str) -> str:
    """The name of a database that may be a queue, else StoreError; in a URL `%20` is a blank."""
    from urllib.parse import unquote

    database = unquote(database)
    if database in _NOT_OURS:
        raise StoreError(f"database '{database}' is MongoDB's own: name another one")
    if len(database.encode()) > _LONGEST_NAME or any(mark in database for mark in _MARKS):
        raise StoreError(
            f"a database of MongoDB cannot be named '{database}': at most {_LONGEST_NAME} bytes, "
            f"and none of {' '.join(_MARKS[2:])} or a blank"
        )
    return database


def _pairs(options: str) -> list[tuple[str, str, str]]:
    """The options that may contain a secret, as name, sign and value."""
    found = [option.partition("=") for option in options.replace(";", "&").split("&")]
    return [
        pair for pair in found if "password" in pair[0].lower() or "properties" in pair[0].lower()
    ]


def find_address(named: str, environ: Mapping[str, str]) -> Address:
    """The address that `named` stands for; see the module's docstring.

    Raises InvalidInput for a malformed URL, StoreError for a file that cannot be read or that
    others may read.
    """
    if named[:1] == "@":
        path = os.path.abspath(os.path.expanduser(named[1:]))
        return Address(_url_in(path), path)
    return Address(_mongo_uri(environ) if named == "mongodb" else named)


def _url_in(path: str) -> str:
    """The URL in a file that nobody else can read. Raises StoreError."""
    text = _text_in(path)
    if len(text.split()) != 1:
        raise StoreError(f"{path} should hold one URL and nothing else")
    return text


def _text_in(path: str) -> str:
    """What a file holds that nobody else can read."""
    try:
        # Otherwise a pipe would block.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = (file.read(_LONGEST) or b"").decode("utf-8-sig", "replace").strip()
    except OSError as exc:
        raise StoreError(f"{path} should hold the URL of the queue: {exc.strerror}") from exc
    if not stat.S_ISREG(mode):  # workers read it too, later: a pipe gives its content only once
        raise StoreError(f"{path} should hold the URL of the queue, and is not a plain file")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise StoreError(f"{path} holds the URL of the queue and others may use it: chmod 600 it")
    return text


def _mongo_uri(environ: Mapping[str, str]) -> str:
    named = environ.get("MONGO_URI") or _in_dot_env()
    if not named:
        raise InvalidInput(
            "--data mongodb takes its URL from MONGO_URI, which neither the environment nor .env "
            "in this folder has; './mongodb' names the folder"
        )
    return named


def _in_dot_env() -> str:
    """MONGO_URI from a `.env` file in the current folder; "" if it is not there."""
    if not os.path.isfile(".env"):  # a pipe would be waited for
        return ""
    try:
        with open(".env", "rb") as file:
            text = file.read(_LONGEST).decode("utf-8-sig", "replace")
    except OSError:
        return ""
    found = ""
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and name.split() in (["MONGO_URI"], ["export", "MONGO_URI"]):
            value = value.strip()
            quote = value[0] if value[:1] in ("'", '"') else ""
            plain = value.replace("\t#", " #").partition(" #")[0].rstrip()
            found = value[1:].partition(quote)[0] if quote else plain
    return found


# The addresses that this process was given, by the path of their host folder: see host_folder.
_given: dict[str, Address] = {}


def host_folder(named: str, environ: Mapping[str, str]) -> str:
    """The path of this host's folder for the queue in MongoDB that `named` stands for.

    It holds what belongs to one host: locks and pipes of its workers, and the output of their
    present runs. Its path also stands for the queue wherever a folder is named (see `address_of`),
    so jobs and workers get a path and no password. Only the first worker makes the folder. Raises
    what `find_address` raises, and StoreError if no home folder is known.
    """
    from hashlib import sha256

    address = find_address(named, environ)
    above = state_folder(environ)
    if not above:
        raise StoreError("no home folder is known; set XDG_STATE_HOME")
    # The host's name, because several hosts may share a home folder.
    key = "\n".join((address.name.rpartition("@")[2], address.name, os.uname().nodename))
    path = os.path.join(above, ADDRESS, sha256(key.encode()).hexdigest()[:16])
    _given[path] = address
    return path


def address_of(folder: str) -> Address | None:
    """The address that a host folder stands for; None for a folder that is a queue itself.

    It is read once. StoreError if the file with its URL is of another queue by now: what a job
    enqueues must not get there.
    """
    given = _given.get(folder)
    if given is not None:
        return given
    path = os.path.join(folder, ADDRESS)
    if not os.path.lexists(path):
        return None
    named, _, name = _text_in(path).partition("\n")
    found = find_address(named, {}) if named[:1] == "@" else Address(named)
    if name not in ("", found.name):
        raise StoreError(
            f"{named[1:]} names {found.name} by now, and not {name}: say with --data which is meant"
        )
    _given[folder] = found
    return found
