"""The line that was most likely meant if a command lacks its quotes or `--`.

Loaded only for a faulty line. Each suggested line can be run as it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from queuectl.commands.grammar.bound import Reading, Token, behind_option, short
from queuectl.commands.grammar.tokens import command_line, is_variable, quote

_SHELL_SIGNS = frozenset(" \t\n|&;<>()$`\"'*?")
_COMMANDS = ("--command", "--file", "--each")  # options that give the command
_LONGEST = 200  # characters of a command repeated in advice


def option_not_yet(reading: Reading, name: str) -> bool:
    """Whether a later version has this option."""
    from queuectl.model.fields import NOT_YET

    spec = reading.bound.spec
    if spec is None:
        return False
    takes_fields = any(param.kind == "object" for param in spec.params)
    return takes_fields and name[2:].replace("-", "_") in NOT_YET


def without_pipes(reading: Reading, token: Token) -> str:
    """The message for a pipe or redirection, which only /bin/sh knows; "" for another token."""
    ends = token.raw[-1:] == ";"
    is_sign = ends or token.raw.lstrip("0123456789")[:1] in ("|", "<", ">", "&", ";")
    if reading.is_argv or token.quoted or not is_sign:
        return ""
    if ends:
        return "';' means nothing here: give one command a line"
    sign = token.raw.lstrip("0123456789").lstrip("abcdefghijklmnopqrstuvwxyz-")
    if sign[:2] in ("||", "&&") or sign[:1] in ("&", ";"):
        return f"'{token.raw}' means nothing here: give one command a line"
    front = reading.text[: token.start].split()
    while front and (front[0] == "$" or front[0].rpartition("/")[2] == "queuectl"):
        del front[0]
    line = " ".join(["queuectl", *front, reading.text[token.start :].strip()])
    if len(line) > _LONGEST or not line.isprintable() or not reading.whole:
        return f"'{token.raw}' means nothing here, but to /bin/sh; in the shell: !queuectl ..."
    return f"'{token.raw}' means nothing here, but to /bin/sh; in the shell: !{line}"


def as_a_job(reading: Reading, token: Token) -> str:
    """How to enqueue the line from a token on, if that names a program; else ""."""
    if shutil.which(token.text) is None:
        first = token.text.split()[:1]
        is_line = token is reading.tokens[-1] and (reading.is_argv or token.quoted)
        if not is_line or first == [token.text] or not any(map(shutil.which, first)):
            return ""
        return f"; to run a command: enqueue --command {_short(*_written(reading, [token]))}"
    words = reading.tokens[reading.tokens.index(token) :]
    written = reading.text[token.start :].strip()
    line = command_line([word.text for word in words]) if reading.is_argv else written
    return f"; to run a command: enqueue -- {_short(line)}"


def way_out(reading: Reading, at: int) -> tuple[str, str]:
    """The line that enqueues the words from the token at `at` on; ("", "") if unknown.

    The second text could replace that token, if nothing else is needed.
    """
    options, words = _parted(reading, at)
    names = [option[0].text.partition("=")[0] for option in options]
    front = [*reading.bound.words]
    for name, option in zip(names, options, strict=True):
        front += _written(reading, option) if name != "--command" else ()
    if "--command" in names:
        return _quoted_command(reading, front, options[names.index("--command")], words), ""
    if "--file" in names or not words:
        return "", ""
    behind = [number for number, word in enumerate(words) if word.raw == "--"]
    if behind:  # what precedes -- is not a command but perhaps an id
        named = behind[0] == 1 and "--id" not in names
        return (" ".join([*front, "--id", *_written(reading, words)]) if named else ""), ""
    file = _written_file(reading, words) if len(words) == 1 else ""
    if file:
        return " ".join([*front, file]), file
    if len(words) == 1 and is_no_program(reading, words[0]):
        told = _short(*_written(reading, words))
        return " ".join([*front, "--command", told]), f"--command {words[0].raw}"
    if reading.is_argv:
        given, words = _without_variables(words)
        front += given
        if not words:
            return "", ""
    as_written = " ".join(word.raw for word in words)
    told = _short(command_line([word.text for word in words]) if reading.is_argv else as_written)
    moved = any(option[0].start > words[0].start for option in options)
    return " ".join([*front, "--", told]), "" if moved else f"-- {words[0].raw}"


def _written_file(reading: Reading, words: Sequence[Token]) -> str:
    """How to enqueue a file that stands alone and is not a program; "" for other words."""
    name = words[0].text.removeprefix("@")
    folder = reading.bound.values.get("cwd")
    path = os.path.join(folder if isinstance(folder, str) else "", name)
    try:
        found = os.path.isfile(path)
    except ValueError:
        return ""
    if not found or ("/" in name and os.access(path, os.X_OK)):
        return ""
    if name.endswith((".json", ".jsonl", ".ndjson")):
        return f"--file {quote(name)}"
    local = name if "/" in name else f"./{name}"
    return f"-- {quote(local)}" if os.access(path, os.X_OK) else f"-- sh {quote(local)}"


def given_again(reading: Reading, at: int) -> str:
    """The message for further values after a repeatable option; "" for other words.

    If the line has no command elsewhere, one may begin here.
    """
    param, spec = behind_option(reading, at), reading.bound.spec
    if param is None:
        return ""
    options, words = _parted(reading, at)
    names = {option[0].text.partition("=")[0] for option in options}
    takes_command = spec is not None and any(operand.kind == "argv" for operand in spec.params)
    has_one = any(word.raw == "--" for word in words) or not names.isdisjoint(_COMMANDS)
    if takes_command and not has_one:
        return ""
    return f"{param.name} takes one value and is given again for more: {_each_with(reading)}"


def either_way(reading: Reading, at: int) -> str:
    """The message for an id that could also be a further value of the option before it."""
    param, ids = behind_option(reading, at), _further(reading)
    assert param is not None
    tokens = [token for token in reading.tokens if token.role != "comment"]
    further = [reading.tokens[number] for number in ids]
    others = [token for token in tokens if token not in further]
    behind = 1 + max(n for n, token in enumerate(others) if token.role == "command")
    line = _written(reading, [*others[:behind], *further, *others[behind:]])
    return (
        f"'{short(reading.tokens[at].text)}' could be a job or a further value of {param.name}: "
        f"write {_short(' '.join(line))}, or {_each_with(reading)}"
    )


def _further(reading: Reading) -> dict[int, str]:
    """The words after the value of a repeatable option, with the option's name."""
    found, param = {}, None
    for at, token in enumerate(reading.tokens):
        if token.text[:1] == "-" or token.role == "command":
            param = None
            if token.raw == "--":
                break
        elif token.role != "comment":
            param = behind_option(reading, at) or param
            if param is not None:
                found[at] = param.name
    return found


def _each_with(reading: Reading) -> str:
    """The line with the option repeated for each further value."""
    names, line = _further(reading), []
    for at, token in enumerate(reading.tokens):
        if token.role != "comment":
            line += [names[at]] if at in names else []
            line += _written(reading, [token])
    return _short(" ".join(line))


def both_ways(reading: Reading, token: Token) -> str:
    """The message for a quoted shell line after `--`."""
    line = " ".join([*_front(reading), "--command", _short(*_written(reading, [token]))])
    return f"what follows -- is not a program; for a shell line: {line}; for a program: its path"


def _front(reading: Reading) -> list[str]:
    """The words and options of a line before its `--`."""
    options, _ = _parted(reading, len(reading.tokens) - 1)
    return [*reading.bound.words, *(w for option in options for w in _written(reading, option))]


def is_no_program(reading: Reading, token: Token) -> bool:
    """Whether a single word is not a program but a whole shell line in quotes.

    It may be a program if it contains no sign of the shell or is a file. In our own lines unquoted
    text goes to /bin/sh unchanged, and expansions are left to it.
    """
    text = token.text
    if not _SHELL_SIGNS.intersection(text) or not (reading.is_argv or token.raw[0] in "'\""):
        return False
    if not reading.is_argv and token.raw[:1] != "'" and {"$", "`"}.intersection(text):
        return False
    if "/" not in text:
        return shutil.which(text) is None
    folder = reading.bound.values.get("cwd")
    return not os.path.exists(os.path.join(folder if isinstance(folder, str) else "", text))


def with_variables(reading: Reading, token: Token) -> str:
    """The message for a variable that is set after `--`, where a program should be."""
    given, words = _without_variables(reading.tokens[reading.tokens.index(token) :])
    line = _short(command_line([word.text for word in words]) if words else "COMMAND")
    advised = " ".join([*_front(reading), *given, "--", line])
    return f"what follows -- is not a program but a variable; to run a command: {advised}"


def _without_variables(words: list[Token]) -> tuple[list[str], list[Token]]:
    """The options for the NAME=VALUE words before a command, and the command."""
    count = next((at for at, word in enumerate(words) if not is_variable(word.text)), len(words))
    given = [part for word in words[:count] for part in ("--env", quote(word.text))]
    return given, words[count:]


def _parted(reading: Reading, at: int) -> tuple[list[list[Token]], list[Token]]:
    """The options of the line, each with its value, and the other words from `at` on.

    A short option after `at` stays with the words: it is probably the command's own.
    """
    options: list[list[Token]] = []
    words: list[Token] = []
    start = reading.tokens[at].start
    left = [token for token in reading.tokens if token.role not in ("command", "comment")]
    while left and left[0].raw != "--":
        token = left.pop(0)
        name, equals, _ = token.text.partition("=")
        param = reading.option(name)
        if param is not None and (token.start < start or name[:2] == "--"):
            valued = param.kind != "flag" and not equals and left
            options.append([token, *([left.pop(0)] if valued else [])])
        elif token.start >= start:
            words.append(token)
    return options, words + left


def _quoted_command(
    reading: Reading, front: list[str], option: list[Token], words: list[Token]
) -> str:
    """The line with the value of --command and the words after it as one word; "" if unclear."""
    if not words or words[0].start < option[0].start or any(word.raw == "--" for word in words):
        return ""
    texts = [token.text if reading.is_argv else token.raw for token in (*option, *words)]
    texts[0] = texts[0].partition("=")[2]
    return " ".join([*front, "--command", _short(quote(" ".join(filter(None, texts))))])


def _written(reading: Reading, tokens: Sequence[Token]) -> list[str]:
    """The tokens as written, or quoted again."""
    return [quote(token.text) if reading.is_argv else token.raw for token in tokens]


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST and text.isprintable() else "'...'"
