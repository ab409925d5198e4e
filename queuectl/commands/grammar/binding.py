"""One grammar for argv, script and shell: lines and argv lists bound to the table of commands.

Binding never raises: it collects faults with their spans and what could come next, so that one
function serves the argv parser, the script reader, completion, highlighting and validation.
"""

from __future__ import annotations

from queuectl.commands.grammar.bound import (
    Bound,
    Fault,
    Reading,
    Token,
    could_be_either,
    is_named,
    noun,
    short,
)
from queuectl.commands.grammar.specs import GLOBAL_OPTIONS, CommandSpec, Param, key_of
from queuectl.errors import InvalidInput, nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_CHECKED = frozenset(("state", "tag", "field", "match", "past", "setting", "setting_value", "int"))
_CHECKED |= {"count", "number", "duration", "time"}
_MAY_BE_SHELL = frozenset("|<>&;")  # also after the number of a descriptor


class Binder(Reading):
    """Reads the tokens: first the command's words, then options and operands."""

    checks = True  # values are read, and what is wrong is told with what may have been meant

    def bind(self) -> Bound:
        self._find_command()
        at = 0
        while at < len(self.tokens):
            at = self._take(at)
        self._finish()
        return self.bound

    def _find_command(self) -> None:
        said = (token for token in self.tokens if token.role != "comment" and not self.is_argv)
        for token in said:
            if token.raw in ("$", "queuectl") or token.raw.endswith("/queuectl"):
                token.role = "comment"  # a prompt: the line was copied from another shell
            if token.raw != "$":
                break
        at = 0
        while at < len(self.tokens) and self.node.keys() != {""}:  # else no word is left to find
            token = self.tokens[at]
            at += 1
            if token.raw == "--":
                break
            if _looks_like_option(token):
                param = self._of_any_command(token.text)
                at += param is not None and param.kind != "flag" and self._is_value(at)
            elif token.text and token.role != "comment" and not self._descend(token):
                break
        spec = self.node.get("")
        if isinstance(spec, CommandSpec):
            self.bound.spec = spec
            self.operands = [param for param in spec.params if param.name[0] != "-"]

    def _descend(self, token: Token) -> bool:
        """Take the token for the next word of the command, if it is one."""
        below = self.node.get(token.text)
        if isinstance(below, dict):
            self.node = below
            token.role = "command"
            self.bound.words += (token.text,)
            return True
        if "" not in self.node:
            self._unknown_command(token)
        return False

    def _of_any_command(self, name: str) -> Param | None:
        known = (param for spec in self.specs for param in spec.params)
        return next((p for p in (*GLOBAL_OPTIONS, *known) if name in (p.name, p.short)), None)

    def _unknown_command(self, token: Token) -> None:
        if not self.checks:
            self.lost = True
            return
        from queuectl.commands.grammar.answers import answer, nearest_command
        from queuectl.commands.grammar.ways_out import as_a_job, without_pipes

        before = self.tokens[: self.tokens.index(token)]
        for option in () if self.bound.words else filter(_looks_like_option, before):
            name = option.text.partition("=")[0]
            if self._of_any_command(name) is None:  # the token may be its value
                self._unknown_option(option, name)
                self.lost = True
                return
        self.lost = True
        words = "".join(word + " " for word in self.bound.words)
        known = answer(words + token.text) or without_pipes(self, token)
        if known:
            self._fault(known, token)
            return
        near = nearest_command(token.text, [*filter(None, self.node)])
        below = self.node.get(near)
        if token is self.tokens[-1] and isinstance(below, dict) and "" not in below:
            near += " list" if "list" in below else " get"  # one word alone does nothing
        meant = f" (did you mean '{words}{near}'?)" if near else ""
        meant += "" if words else as_a_job(self, token)
        self._fault(f"unknown command '{words}{short(token.text)}'{meant}", token, near)

    def _take(self, at: int) -> int:
        """Bind the token at `at`; returns the index of the next one to bind."""
        token = self.tokens[at]
        if token.role == "command" or _is_lone_backslash(token):
            return at + 1
        if token.role == "comment":
            if self.argv is not None:
                self.argv.append(token)
            return at + 1
        if not self.ended and token.raw == "--":
            self.ended, token.role = True, "end"
            if any(param.kind == "argv" for param in self.operands):
                self.argv = []
            return at + 1
        if not self.ended and _looks_like_option(token):
            return self._take_option(at)
        if self.bound.spec is None or self.lost:
            token.role = token.role or "error"
            return at + 1
        if self.argv is not None:
            self.argv.append(token)
            token.role = "value"
            return at + 1
        return self._take_operand(at)

    def _take_option(self, at: int) -> int:
        token = self.tokens[at]
        name, equals, text = token.text.partition("=")
        param = self.option(name)
        token.role = "option"
        if param is None:
            self._unknown_option(token, name)
        elif param.kind == "flag":
            if equals:
                self._fault(f"{name} takes no value", token)
            self.bound.help = self.bound.help or param.name == "--help"
            self.bound.values[param.key] = True
        elif equals:
            self._store(param, text, token, len(name) + 1)
        elif self._is_value(at + 1):
            self.tokens[at + 1].role = "value"
            self._store(param, self.tokens[at + 1].text, self.tokens[at + 1])
            return at + 2
        else:
            self.awaited = param if at + 1 == len(self.tokens) else None
            if self.whole or any(token.role != "comment" for token in self.tokens[at + 1 :]):
                self._fault(f"{name} needs {noun(param)}", token)
        return at + 1

    def _unknown_option(self, token: Token, name: str) -> None:
        spec = self.bound.spec
        if self.lost or (spec is None and self.bound.words):
            return  # the fault of the command itself says more
        token.role = "error"
        if not self.checks:
            return
        from queuectl.commands.grammar.answers import nearest_option, option_answer
        from queuectl.commands.grammar.ways_out import option_not_yet, way_out, without_pipes

        if told := without_pipes(self, token):
            self._fault(told, token)
            return
        of = f"{' '.join(self.bound.words)}: " if spec else ""
        if option_not_yet(self, name):
            self._fault(f"{of}{name} is not supported by this version", token)
            return
        line = ""
        if spec is not None and "command" in self.bound.values:
            line, _ = way_out(self, self.tokens.index(token))
        known = [param.name for param in self.bound.params if param.name[0] == "-"]
        near = nearest_option(name, known)
        meant = f" (did you mean '{near}'?)" if near else ""
        told = option_answer(f"{of[:-2]} {name}")
        if told:
            near, meant = "", f": {told}"
        meant += f"; if it belongs to the command: {line}" if line else ""
        self._fault(f"{of}unknown option '{short(name)}'{meant}", token, near, len(name))

    def _is_value(self, at: int) -> bool:
        """Whether the token at `at` can be the value of the option before it."""
        if at >= len(self.tokens):
            return False
        token = self.tokens[at]
        if token.role == "comment" or token.raw == "--" or _is_lone_backslash(token):
            return False
        return not _looks_like_option(token) or (
            token.text[1] != "-" and self.option(token.text) is None
        )

    def _take_operand(self, at: int) -> int:
        token = self.tokens[at]
        sign = token.raw.lstrip("0123456789")[:1]
        if not self.is_argv and (sign in _MAY_BE_SHELL or token.raw[-1] == ";"):
            from queuectl.commands.grammar.ways_out import without_pipes

            message = without_pipes(self, token)
            if message:
                token.role, self.lost = "error", True
                self._fault(message, token)
                return at + 1
        if self.operands and self.operands[-1].kind in ("line", "front"):
            from queuectl.commands.grammar.inner_line import begins_line

            if begins_line(self.operands, token):
                return self._take_line(at)
        if not self.operands or self.operands[0].kind == "argv":
            token.role = "error"
            self._fault(self._unexpected(at), token)
            return at + 1
        param = self.operands[0]
        behind = self.operands[1] if len(self.operands) > 1 else param
        if behind is not param and param.many and behind.kind == "object" and token.raw[:1] in "{'":
            param = behind  # an object after several ids
            self.operands.remove(param)
        elif not param.many:
            del self.operands[0]
        if param.kind == "object" and token.text != "-":
            return self._take_object(param, at)
        if self.either is None and could_be_either(self, param, at):
            self.either = (at, param)
        token.role = "value"
        self._store(param, token.text, token)
        return at + 1

    def _unexpected(self, at: int) -> str:
        """The message for a word for which no operand is left."""
        from queuectl.commands.grammar.ways_out import given_again

        word = self.tokens[at].text
        counts = word.isdecimal() and self.option("--count") is not None
        meant = f" (did you mean '--count {short(word)}'?)" if counts else ""
        told = self.checks and given_again(self, at)
        return told or f"unexpected '{short(word)}'{meant}{self._meant_by_unexpected(at)}"

    def _meant_by_unexpected(self, at: int) -> str:
        """What to add to that message."""
        spec = self.bound.spec
        if not self.checks or spec is None:
            return ""
        from queuectl.commands.grammar.answers import option_answer
        from queuectl.commands.grammar.ways_out import way_out

        told = option_answer(" ".join(spec.words))
        if not self.operands or any(param.kind == "object" for param in spec.params):
            return f": {told}" if told else ""
        self.lost = True
        line, _ = way_out(self, at)
        return f"; to run a command: {line}" if line else ""

    def _take_line(self, at: int) -> int:
        """Bind the tokens from `at` on as a command; returns the index after them.

        The value of a "line" is the bound line, that of a "front" its text.
        """
        from queuectl.commands.grammar.inner_line import commands_for, faults_of, text_from

        param, bound = self.operands[-1], self.bound
        self.operands = []
        specs, whole = commands_for(param, self.specs), self.whole and param.kind == "line"
        inner = type(self)(specs, self.text, self.tokens[at:], self.is_argv, whole=whole).bind()
        bound.inner, bound.open, bound.help = inner, inner.open, bound.help or inner.help
        bound.faults += faults_of(param, inner, self.specs)
        bound.values[param.key] = inner if param.kind == "line" else text_from(self, at)
        return len(self.tokens)

    def _take_object(self, param: Param, at: int) -> int:
        token = self.tokens[at]
        token.role = "object"
        if token.open:
            return at + 1
        from queuectl.commands.grammar.objects import join_pieces, parse_object

        text, count = token.text, 1
        if token.quoted or self.is_argv or token.raw[0] != "{":
            rest = (t.text for t in self.tokens[at:] if t.role != "comment")
            text, count = join_pieces(list(rest))
        if not count and self.operands and self.operands[0].kind == "job":
            self.operands = [self.operands[0], param, *self.operands[1:]]
            return self._take_operand(at)
        if not count:
            self._no_object(param, at)
            return at + 1
        for piece in self.tokens[at : at + count]:
            piece.role = "object"
        try:
            self._put(param, parse_object(text))
        except InvalidInput as exc:
            self._object_fault(exc, text, token, self.tokens[at + count - 1])
        return at + count

    def _object_fault(self, exc: InvalidInput, text: str, first: Token, last: Token) -> None:
        begins = self.text.find(text, first.start, last.end)
        if begins < 0 or exc.start is None:
            self.bound.faults.append(Fault(str(exc), first.start, last.end))
            return
        start = begins + exc.start
        end = begins + (exc.end or exc.start)
        self.bound.faults.append(Fault(str(exc), start, max(end, start + 1)))

    def _no_object(self, param: Param, at: int) -> None:
        """Add the fault for a plain word instead of an object: probably a command without `--`."""
        token = self.tokens[at]
        token.role = "error"
        self.lost = True
        message, instead = f"'{short(token.text)}' is not {noun(param)}", ""
        if token.text.lstrip()[:1] == "[" and "{" in token.text:
            message += "; for several jobs: enqueue --file FILE, or --file - for standard input"
        elif any(operand.kind == "argv" for operand in self.operands):
            from queuectl.commands.grammar.ways_out import given_again, way_out

            again = given_again(self, at)
            line, instead = ("", "") if again else way_out(self, at)
            to = "for its jobs" if instead[:7] == "--file " else "to run a command"
            message = again or (f"{message}; {to}: {line}" if line else message)
        self._fault(message, token, instead)

    def _command_line(self, tokens: Sequence[Token]) -> str:
        """What /bin/sh will run: the line as written, or its words quoted again."""
        if not tokens:
            return ""
        if self.is_argv:
            from queuectl.commands.grammar.tokens import command_line

            return command_line([token.text for token in tokens])
        line = self.text[tokens[0].start : tokens[-1].end]
        # Only a comment ends in meaningless blanks: a last blank of another word is escaped.
        return line.rstrip() if tokens[-1].role == "comment" else line

    def _store(self, param: Param, text: str, token: Token, skip: int = 0) -> None:
        """Store a value, read by its kind; `skip` characters of the token precede it."""
        if not param.many and param.name[:1] == "-" and param.key in self.bound.values:
            self._fault(f"{param.name} is given twice", token)
            return
        split = param.many and param.kind in ("state", "field")
        for part in text.split(",") if split else (text,):
            if param.clears and not part:
                self._put(param, part)
            elif self.checks and param.kind == "path" and not part:
                self._fault(f"{param.name} is empty", token)  # not the default one
            elif self.checks and (param.kind in _CHECKED or param.choices):
                self._read(param, part, token, skip)
            else:
                self._put(param, part)

    def _read(self, param: Param, text: str, token: Token, skip: int) -> None:
        from queuectl.commands.grammar.values import known_words, read_value

        try:
            self._put(param, read_value(param, text, self.bound.values))
        except InvalidInput as exc:
            near = nearest(text, known_words(param))
            start = min(token.start + skip, token.end)
            faults = self.bound.faults
            if "{" in text and self.option("--each") is not None:
                self._put(param, text)  # each row fills it in
                faults = self.unless_each
            faults.append(Fault(str(exc), start, token.end, near))

    def _put(self, param: Param, value: object) -> None:
        if param.many:
            held = self.bound.values.setdefault(param.key, [])
            assert isinstance(held, list)
            held.append(value)
        else:
            self.bound.values[param.key] = value

    def _fault(self, message: str, token: Token, hint: str = "", length: int | None = None) -> None:
        end = token.end if length is None else min(token.start + length, token.end)
        self.bound.faults.append(Fault(message, token.start, end, hint))

    def _finish(self) -> None:
        bound = self.bound
        if "each" not in bound.values:
            bound.faults += self.unless_each
        if bound.inner is None:
            self._check_closed()
        if bound.spec is None:
            if bound.words and self.whole and not self.lost:
                known = sorted(filter(None, self.node))
                self._missing(f"{' '.join(bound.words)} needs one of: {', '.join(known)}")
        elif self.whole and not self.lost and not bound.open:
            self._check_required(bound.spec)
        self._check_either()
        if bound.help and not (self.lost and bound.spec is None):
            bound.faults.clear()
        bound.faults.sort(key=lambda fault: fault.start)
        self._fill_defaults()

    def _missing(self, message: str) -> None:
        end = len(self.text.rstrip())
        self.bound.faults.append(Fault(message, end, end))

    def _check_closed(self) -> None:
        """Add a fault for an open token; only the last one can be open, since it takes the rest."""
        token = self.tokens[-1] if self.tokens else None
        if token is None or not token.open:
            return
        self.bound.open = True
        if token.open == "\\":
            message = "a line must follow the backslash"
        elif "}" in token.open:
            message = "the object that begins here is not closed"
        else:
            message = f"a closing {token.open} is missing"
        self._fault(message, token, length=None if token.open == "\\" else 1)

    def _check_required(self, spec: CommandSpec) -> None:
        given = self.bound.values
        faulty = bool(self.bound.faults)
        if self.argv is not None:
            from queuectl.commands.grammar.tokens import is_plain, is_variable

            words = [token.text for token in self.argv if token.role != "comment"]
            if not words or not words[0].strip():
                self._missing(f"the command after -- is {'empty' if words else 'missing'}")
            elif len(words) == 1 and not is_plain(words[0]):
                from queuectl.commands.grammar.ways_out import both_ways, is_no_program

                token = next(t for t in self.argv if t.role != "comment")
                if is_no_program(self, token):
                    self._fault(both_ways(self, token), token)
            elif self.is_argv and is_variable(words[0]):
                from queuectl.commands.grammar.ways_out import with_variables

                self._fault(with_variables(self, self.argv[0]), self.argv[0])
        for param in spec.params:
            if not param.required or param.key in given or faulty:
                continue
            if given.keys().isdisjoint(map(key_of, param.unless)):
                first = ", ".join(param.unless[:3]) + ", ..." * (len(param.unless) > 3)
                instead = f" or {first}" if first else ""
                self._missing(f"{' '.join(spec.words)} needs {noun(param)}{instead}")

    def _check_either(self) -> None:
        """Add a fault for an id after a repeatable option, which could be a value of the option.

        Not if it is the only word in the line that can name the job.
        """
        if self.either is None or not self.checks or self.lost:
            return
        at, param = self.either
        ids = self.bound.values[param.key]
        if self.whole and isinstance(ids, list) and not is_named(self, param, len(ids)):
            return
        from queuectl.commands.grammar.ways_out import either_way

        self._fault(either_way(self, at), self.tokens[at])

    def _fill_defaults(self) -> None:
        values = self.bound.values
        self.given = frozenset(values)
        for param in self.bound.params:
            if param.kind == "argv":
                values[param.key] = self._command_line(self.argv or [])
            elif param.key not in values:
                empty: object = [] if param.many else False if param.kind == "flag" else None
                values[param.key] = empty if param.default is None else param.default


def _looks_like_option(token: Token) -> bool:
    """Whether it is a dash and more, but not a number: -5 is a value."""
    text = token.text
    return text[:1] == "-" and text[1:2] not in "0123456789." and token.raw[:1] == "-"


def _is_lone_backslash(token: Token) -> bool:
    return token.open == "\\" and not token.text


def bind(specs: Sequence[CommandSpec], line: str) -> Bound:
    """Bind a line of a script or the shell, or several that belong together. Never raises."""
    from queuectl.commands.grammar.tokens import tokenize

    return Binder(specs, line, tokenize(line)).bind()


def bind_argv(specs: Sequence[CommandSpec], argv: Sequence[str]) -> Bound:
    """Bind arguments that a shell has split; `text` is argv joined by blanks. Never raises."""
    tokens, start = [], 0
    for word in argv:
        tokens.append(Token(word, start, start + len(word), word))
        start += len(word) + 1
    return Binder(specs, " ".join(argv), tokens, is_argv=True).bind()
