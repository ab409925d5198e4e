"""What may come next on the line, with descriptions: from the grammar and the queue.

Each Tab in another shell loads this anew: what only some lines need is imported where it is used.
"""

from __future__ import annotations

import time

from queuectl.commands.grammar.expecting import expected
from queuectl.commands.grammar.specs import GLOBAL_OPTIONS
from queuectl.commands.render import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from queuectl.commands.grammar.bound import Bound, Token
    from queuectl.commands.grammar.expecting import Expected
    from queuectl.commands.grammar.specs import CommandSpec
    from queuectl.live.live_queue import LiveQueue
    from queuectl.store.watch import Seen


class Candidate:
    """`text` replaces the line from index `start` on; the menu shows `shown` and `meaning`."""

    def __init__(self, text: str, start: int, shown: str, meaning: str) -> None:
        self.text = text
        self.start = start
        self.shown = shown
        self.meaning = meaning


_STATES_OF: dict[str, tuple[tuple[str, ...] | None, ...]] = {
    "dead_job": (("dead",),),
    "live_job": (("in_progress",), ("failed",), ("pending",)),
    "finished_job": (("cancelled", "completed", "dead"),),
    "job": (("in_progress",), None),
}
# For commands whose parameter kind does not show which jobs they can change.
_STATES_FOR: dict[tuple[str, ...], tuple[tuple[str, ...] | None, ...]] = {
    ("retry",): (("failed",), ("dead",), ("cancelled", "completed")),
    ("wait",): (("in_progress",), ("failed",), ("pending",)),
}
# The states that a command accepts, if not all.
_TAKEN: dict[tuple[str, ...], Collection[str]] = {
    ("cancel",): ("pending", "in_progress", "failed"),
    ("retry",): ("failed", "dead", "pending", "completed", "cancelled"),
    ("purge",): ("completed", "dead", "cancelled"),
    ("update",): ("pending", "cancelled"),
}
_MEANINGS = {
    "pending": "waiting to run",
    "in_progress": "running now",
    "completed": "ended well",
    "failed": "waiting for its retry",
    "dead": "in the DLQ, retries used up",
    "cancelled": "cancelled before it ended",
}
_KEY = r"[{,]\s*([\"']?)([A-Za-z_]*)$"
_VALUE = r"[{,]\s*[\"']?([A-Za-z_]+)[\"']?\s*[:=]\s*([\"']?)([A-Za-z_]*)$"
_KEYS = r"[{,]\s*[\"']?([A-Za-z_]+)[\"']?\s*[:=]"
_LEAST_FUZZY = 2  # letters after which letters in between may be missing


def complete(
    bound: Bound, queue: LiveQueue, whole: bool = False, only_prefixes: bool = False
) -> list[Candidate]:
    """What may come at the end of a bound line, the likeliest first.

    The typed word itself is not returned as the only candidate, unless `whole` words are wanted.
    `only_prefixes`: skip jobs whose ids do not begin with what is typed.
    """
    bound = bound.innermost
    found: list[Candidate] = []
    for item in expected(bound):
        found += _Completion(bound, queue, item, only_prefixes).candidates()
    if not whole and len(found) == 1 and found[0].text == bound.text[found[0].start :]:
        return []
    return found


def ranked(names: Iterable[str], typed: str) -> list[str]:
    """The fitting names: those that begin with it, then contain it, then its scattered letters."""
    if not typed:
        return list(names)
    wanted = typed.lower()
    groups: tuple[list[str], ...] = ([], [], [])
    for name in names:
        rank = _rank(name.lower(), wanted)
        if rank is not None:
            groups[rank].append(name)
    return [name for group in groups for name in group]


def _rank(name: str, wanted: str) -> int | None:
    if name.startswith(wanted):
        return 0
    if wanted in name:
        return 1
    if len(wanted) < _LEAST_FUZZY:
        return None
    letters = iter(name)
    return 2 if all(letter in letters for letter in wanted) else None


class _Completion:
    """The candidates for one thing that the grammar expects."""

    def __init__(
        self, bound: Bound, queue: LiveQueue, expected: Expected, only_prefixes: bool = False
    ) -> None:
        self.bound = bound
        self.only_prefixes = only_prefixes
        self.specs = bound.specs
        self.queue = queue
        self.expected = expected
        self.typed = expected.prefix
        self.words = bound.spec.words if bound.spec else bound.words
        self._path = self._words_before()

    def candidates(self) -> list[Candidate]:
        kind = self.expected.kind
        if self.expected.param is not None and self.expected.param.choices:
            return self._fitting((word, "") for word in self.expected.words)
        if kind in _STATES_OF:
            return self._jobs(_STATES_FOR.get(self.words, _STATES_OF[kind]))
        by_kind = _BY_KIND.get(kind)
        return list(by_kind(self)) if by_kind else []

    def _one(self, text: str, meaning: str, shown: str = "") -> Candidate:
        return Candidate(text, self.expected.start, shown or text, meaning)

    def _fitting(self, pairs: Iterable[tuple[str, str]]) -> list[Candidate]:
        """Candidates of (word, meaning) pairs that fit what is typed."""
        meanings = dict(pairs)
        return [self._one(word, meanings[word]) for word in ranked(meanings, self.typed)]

    def command_words(self) -> list[Candidate]:
        found = self._fitting(self._below(self._path))
        # Old spellings work, but are offered only while one is being typed.
        old = [word for word in self.expected.words if word.startswith(self.typed or "\0")]
        return found or [self._one(word, "another spelling") for word in old]

    def _below(self, path: tuple[str, ...]) -> list[tuple[str, str]]:
        """The words that may follow these words of a command, each with what it is about."""
        depth = len(path)
        below: dict[str, list[CommandSpec]] = {}
        for spec in self.specs:
            if spec.words[:depth] == path and len(spec.words) > depth:
                below.setdefault(spec.words[depth], []).append(spec)
        return [(word, _about(specs, depth)) for word, specs in below.items()]

    def line(self) -> list[Candidate]:
        """The first word of a command that forms the rest of the line."""
        from queuectl.commands.grammar.inner_line import commands_for

        param = self.expected.param
        if param is not None:
            self.specs, self._path = commands_for(param, self.specs), ()
        return self.command_words()

    def _words_before(self) -> tuple[str, ...]:
        """The command words before the one being typed."""
        words = self.bound.words
        return words[:-1] if self.typed and words[-1:] == (self.typed,) else words

    def options(self) -> Iterator[Candidate]:
        params = {param.name: param for param in self.bound.params}
        hidden = () if self.typed else {param.name for param in GLOBAL_OPTIONS}
        names = [name for name in self.expected.words if name not in hidden]
        for name in ranked(names, self.typed):
            yield self._one(name, params[name].help if name in params else "")

    def states(self) -> list[Candidate]:
        head, comma, part = self.typed.rpartition(",")
        given, taken = {*self._given(), *head.split(",")}, _TAKEN.get(self.words, _MEANINGS)
        allowed = [state for state in _MEANINGS if state not in given and state in taken]
        return [self._one(head + comma + s, _MEANINGS[s], s) for s in ranked(allowed, part)]

    def tags(self) -> list[Candidate]:
        given = set(self._given())
        return self._fitting((tag, "") for tag in self.queue.tags() if tag not in given)

    def fields(self) -> list[Candidate]:
        """Names of fields, one or several with commas."""
        from queuectl.model.derived import DERIVED
        from queuectl.model.fields import FIELDS

        head, comma, part = self.typed.rpartition(",")
        given = {*self._given(), *head.split(",")}
        meanings = {f.name: f.meaning for f in FIELDS} | {d.name: d.meaning for d in DERIVED}
        meanings = {name: text for name, text in meanings.items() if name not in given}
        return [self._one(head + comma + f, meanings[f], f) for f in ranked(meanings, part)]

    def _given(self) -> list[str]:
        """The values that this parameter was given before the one being typed."""
        param = self.expected.param
        held = self.bound.values.get(param.key) if param else None
        given = [str(value) for value in held] if isinstance(held, list) else []
        return given[:-1] if self.typed and given[-1:] == [self.typed] else given

    def settings(self) -> list[Candidate]:
        from queuectl.config import SETTINGS, show_value

        present = self.queue.settings()
        return self._fitting(
            (s.name, f"{show_value(s, present[s.name])}: {s.meaning}") for s in SETTINGS
        )

    def setting_values(self) -> list[Candidate]:
        from queuectl.config import find_setting, show_value

        name = self.bound.values.get("setting")
        if not isinstance(name, str):
            return []
        setting = find_setting(name)
        present = show_value(setting, self.queue.settings()[setting.name])
        values = {present: "as it is now"}
        values.setdefault(show_value(setting, setting.default), "the default")
        if setting.kind in ("limit", "size"):
            values.setdefault(setting.nothing, "no limit")
        return self._fitting(values.items())

    def workers(self) -> list[Candidate]:
        return self._fitting(
            (worker.id, f"pid {worker.pid} {worker.job_id or ''}")
            for worker in self.queue.workers()
        )

    def aliases(self) -> list[Candidate]:
        rows = [spec for spec in self.specs if not spec.handler]
        return self._fitting((row.words[0], row.summary) for row in rows)

    def topics(self) -> list[Candidate]:
        from queuectl.commands.help.pages import TOPICS

        typed = tuple(self._given())
        more = [] if typed else [(topic, "") for topic in (*TOPICS, "settings", "fields")]
        return self._fitting([*self._below(typed), *more])

    def paths(self) -> Iterator[Candidate]:
        only_folders = self.expected.param is not None and self.expected.param.key == "cwd"
        from queuectl.completion.system_words import paths

        for word, shown, meaning in paths(self.typed, only_folders):
            yield self._one(word, meaning, shown)

    def programs(self) -> Iterator[Candidate]:
        """The words after `--`, and the dashes themselves."""
        tokens = self.bound.tokens
        ends = [at for at, token in enumerate(tokens) if token.role == "end"]
        if ends and tokens[ends[0]].end < len(self.bound.text):
            yield from shell_words(self.bound.text, tokens[ends[0] + 1 :])
        elif self.typed in ("", "-"):
            yield self._one("--", "then a command and its arguments, as they are")

    def objects(self) -> Iterator[Candidate]:
        """The names of fields, inside the braces of a job."""
        import re

        text = self.typed
        if not text:
            yield self._one("{", "a job: {command: echo Hello}")
            return
        value = re.search(_VALUE, text)
        key = re.search(_KEY, text)
        if value and text[0] == "{":
            yield from self._field_values(value[1], value[3])
        elif key and text[0] == "{" and _may_be_key(text, key[1]):
            yield from self._fields(key[1], key[2])

    def _fields(self, mark: str, typed: str) -> Iterator[Candidate]:
        import re

        from queuectl.model.fields import DELAY, FIELDS

        given = set(re.findall(_KEYS, self.typed))
        strict = mark or ('"' if re.match(r"\{\s*\"", self.typed) else "")
        fields = {f.name: f for f in (*FIELDS, DELAY) if f.enqueue and f.name not in given}
        start = len(self.bound.text) - len(typed) - len(mark)
        for name in ranked(fields, typed):
            yield Candidate(f"{strict}{name}{strict}: ", start, name, fields[name].meaning)

    def _field_values(self, name: str, typed: str) -> Iterator[Candidate]:
        flag = ("true", "false")
        words = {"rerun": flag, "notify": flag, "state": ("pending",)}.get(name, ())
        for word in ranked(words, typed):
            yield Candidate(word, len(self.bound.text) - len(typed), word, "")

    def _jobs(self, groups: Sequence[tuple[str, ...] | None]) -> list[Candidate]:
        """Jobs of each group of states in turn, without those that the line already names."""
        if self.typed[:1] == "-":
            return []  # no id begins like this: an option is being typed
        given, now = set(self._given()), time.time()
        found: dict[str, Seen] = {}
        if self.typed:
            self.queue.jobs(_union(groups), self.typed)  # one pass, if that finds all of them
        for states in groups:
            for start in (self.typed,) if self.only_prefixes else dict.fromkeys(("", self.typed)):
                for job in self.queue.jobs(states, start):
                    if job.id not in given:
                        found.setdefault(job.id, job)
        names = ranked(found, self.typed)
        return [self._one(name, describe(found[name], now)) for name in names]


def _union(groups: Sequence[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    states: list[str] = []
    for group in groups:
        if group is None:
            return None
        states += group
    return tuple(states)


def _about(specs: Sequence[CommandSpec], depth: int) -> str:
    """What a command does, or the commands of a group."""
    if len(specs[0].words) == depth + 1:
        return specs[0].summary
    return ", ".join(spec.words[depth + 1] for spec in specs)


def shell_words(text: str, tokens: Sequence[Token]) -> list[Candidate]:
    """What may come at the end of a command line for /bin/sh, given as tokens after `--`."""
    from queuectl.completion.system_words import of_line

    start, found = of_line(text, tokens)
    return [Candidate(word, start, shown, meaning) for word, shown, meaning in found]


def _may_be_key(text: str, mark: str) -> bool:
    """Whether what looks like the start of a key is outside of quoted text."""
    from queuectl.commands.grammar.tokens import reach

    lacks = reach(text, 0)[1]
    in_quotes = lacks[:1] in ("'", '"')
    return not in_quotes or (mark == lacks[0] and text.count(mark) % 2 == 1)


def describe(job: Seen, now: float) -> str:
    """A job in a few words: its state and since when, and its command."""
    from queuectl.model.times import format_duration, parse_time

    since = job.started_at if job.state == "in_progress" else job.updated_at
    try:
        age = format_duration(max(0.0, round(now - parse_time(since or job.updated_at))))
    except (ValueError, ArithmeticError):
        age = ""
    return f"{job.state} {age}  {one_line(job.command[:200])}"


_BY_KIND: dict[str, Callable[[_Completion], Iterable[Candidate]]] = {
    "word": _Completion.command_words,
    "option": _Completion.options,
    "state": _Completion.states,
    "tag": _Completion.tags,
    "field": _Completion.fields,
    "setting": _Completion.settings,
    "setting_value": _Completion.setting_values,
    "worker": _Completion.workers,
    "command": _Completion.topics,
    "alias": _Completion.aliases,
    "line": _Completion.line,
    "front": _Completion.line,
    "path": _Completion.paths,
    "argv": _Completion.programs,
    "object": _Completion.objects,
}
