"""Cuts a line into words, quoted text and objects, with their spans; also quotes words again.

Never raises: `Token.open` says what is unfinished. The rules are those of /bin/sh with three
differences, all before a bare `--`: `{` at the start of a word begins an object that reaches to its
balanced `}`; an apostrophe after a letter or digit (it's) is not a quote; and a backslash outside
quotes is an ordinary character (C:\\temp) unless a blank, a quote or the end of the line follows
it. After `--` the words are those that /bin/sh would see, since it may get that text unchanged. `#`
starts a comment only where a word could start. A backslash at the end of a line continues it.
"""

from __future__ import annotations

from queuectl.commands.grammar.bound import BLANKS, Token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_BEFORE_A_WORD = BLANKS + ",:=(["
_ESCAPED_OUTSIDE = " \t'\""
_ESCAPED_IN_DOUBLE = '"\\$`'
_SHELL_PARTS_AT = frozenset("|&;()<>")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_")
_OPENERS = {"!", "{", "case", "coproc", "for", "function", "if", "select", "time", "until", "while"}
_RESERVED = _OPENERS | {"}", "do", "done", "elif", "else", "esac", "fi", "in", "then"}


def tokenize(line: str, behind_dashes: bool = False) -> list[Token]:
    """The tokens of a line, or of several lines that belong together; comments are tokens too.

    `behind_dashes`: the line continues one that contained a bare `--`.
    """
    tokens: list[Token] = []
    size = len(line)
    at = _skip_blanks(line, 0)
    while at < size:
        char = line[at]
        if char == "#":
            end = line.find("\n", at)
            end = size if end < 0 else end
            token = Token(line[at:end], at, end, line[at:end], role="comment")
        elif char == "{" and not behind_dashes:
            end, lacks = reach(line, at)
            token = Token(line[at:end], at, end, line[at:end], open=lacks)
        else:
            token = _word(line, at, behind_dashes)
            behind_dashes = behind_dashes or token.raw == "--"
        tokens.append(token)
        at = _skip_blanks(line, token.end)
    return tokens


def _skip_blanks(line: str, at: int) -> int:
    size = len(line)
    while at < size:
        if line[at] in BLANKS:
            at += 1
        elif line.startswith("\\\n", at):
            at += 2
        else:
            break
    return at


def reach(text: str, at: int, lacks: str = "") -> tuple[int, str]:
    """Where the object that starts at `at` ends, and what it lacks if the text ends first.

    To continue with more text, call again with the index where that begins and what was lacking.
    """
    quote = lacks[0] if lacks[:1] in ("'", '"') else ""
    depth = len(lacks) - len(quote)
    word, size = at, len(text)
    while at < size:
        char = text[at]
        if quote:
            if char == quote:
                quote = ""
            elif char == "\\" and (quote == '"' or text.startswith("'", at + 1)):
                at += 1
        elif char == "{":
            depth += 1
            word = at + 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                return at + 1, ""
        elif char in "\"'":
            if opens_quote(text, word, at):
                quote = char
        elif char == "\\":
            at += text[at + 1 : at + 2] in ("'", '"')
        elif char in _BEFORE_A_WORD:
            word = at + 1
        at += 1
    return size, quote + "}" * depth


def opens_quote(text: str, word: int, at: int) -> bool:
    """Whether the quote character at `at`, in a word that starts at `word`, starts a quote.

    It's and rock'n'roll contain apostrophes; in an option, as in -F',', they are quotes.
    """
    if text[at] == '"' or at == word or not text[at - 1].isalnum():
        return True
    return text[word] == "-"


def _word(line: str, start: int, behind_dashes: bool) -> Token:
    parts: list[str] = []
    quoted, lacks = False, ""
    at, size = start, len(line)
    while at < size and not lacks:
        char = line[at]
        if char in BLANKS or (behind_dashes and char == "#" and line[at - 1] in _SHELL_PARTS_AT):
            break
        if char == '"':
            text, at, lacks = _double_quoted(line, at + 1)
            quoted = True
        elif char == "'" and (behind_dashes or opens_quote(line, start, at)):
            end = line.find("'", at + 1)
            lacks = "'" if end < 0 else ""
            text = line[at + 1 :] if lacks else line[at + 1 : end]
            at, quoted = (size if lacks else end + 1), True
        elif char == "\\":
            text, at, lacks = _backslash(line, at, behind_dashes)
        else:
            text, at = char, at + 1
        parts.append(text)
    return Token("".join(parts), start, at, line[start:at], quoted=quoted, open=lacks)


def _double_quoted(line: str, at: int) -> tuple[str, int, str]:
    parts: list[str] = []
    while True:
        close, escape = line.find('"', at), line.find("\\", at)
        if close < 0 and escape < 0:
            parts.append(line[at:])
            return "".join(parts), len(line), '"'
        if escape < 0 or 0 <= close < escape:
            parts.append(line[at:close])
            return "".join(parts), close + 1, ""
        parts.append(line[at:escape])
        follows = line[escape + 1 : escape + 2]
        if follows != "\n":
            parts.append(follows if follows and follows in _ESCAPED_IN_DOUBLE else "\\" + follows)
        at = escape + 2


def _backslash(line: str, at: int, behind_dashes: bool) -> tuple[str, int, str]:
    follows = line[at + 1 : at + 2]
    if not follows:
        return "", at + 1, "\\"
    if follows == "\n":
        return "", at + 2, ""
    if behind_dashes or follows in _ESCAPED_OUTSIDE:
        return follows, at + 2, ""
    return "\\", at + 1, ""


def is_plain(word: str) -> bool:
    """Whether /bin/sh reads the word unchanged."""
    return word != "" and _PLAIN.issuperset(word)


def is_variable(word: str) -> bool:
    """Whether the word would set a variable before a command."""
    name, sign, _ = word.partition("=")
    return bool(sign) and name.isascii() and name.isidentifier()


def quote(word: str) -> str:
    """The word quoted so that /bin/sh reads exactly it."""
    if is_plain(word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def command_line(argv: Iterable[str]) -> str:
    """The command line that makes /bin/sh run exactly these arguments."""
    words = [quote(word) for word in argv]
    # Unquoted, the shell would take these for an assignment or its own grammar.
    if words and (words[0] in _RESERVED or "=" in words[0]) and words[0][0] not in "'\"":
        words[0] = f"'{words[0]}'"
    return " ".join(words)
