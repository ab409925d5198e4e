"""`enqueue`: jobs as an object, as options, as a command line or as a file."""

from __future__ import annotations

import os
import time
from itertools import chain

from queuectl.commands.dispatch import Result
from queuectl.errors import DuplicateId, InvalidInput, NoSuchJob, Reworded
from queuectl.model.fields import FIELDS
from queuectl.model.job import LIVE, recurs
from queuectl.model.times import format_duration, format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import IO, Any

    from queuectl.commands.context import Context
    from queuectl.model.job import Job
    from queuectl.model.meeting import Meeting

    Draft = dict[str, object]


# Options that set a flag, and its value.
_FLAGS: tuple[tuple[str, str, bool], ...] = (
    ("no_rerun", "rerun", False),
    ("no_notify", "notify", False),
    ("no_catch_up", "catch_up", False),
    ("overlap", "overlap", True),
)
# Words that /bin/sh knows itself, so that no folder of PATH need have them.
_BUILT_IN = frozenset((".", ":", "cd", "command", "eval", "exec", "exit", "export", "read", "set"))
_BUILT_IN |= frozenset(("test", "trap", "type", "ulimit", "umask", "unset", "wait"))


def enqueue(context: Context, args: dict[str, Any]) -> Result:
    """Add one job, or those of a file; durable when this returns."""
    path = "-" if args.get("object") == "-" else args.get("file")
    draft: Draft = {}
    entry = Entry(context, _meeting(args), dry_run=bool(args.get("dry_run")))
    if args.get("json") and not entry.dry_run:
        raise InvalidInput("--json shows what --dry-run would add: give both")
    if args.get("each") is not None:
        if path is not None:
            raise InvalidInput("give --each or a file of jobs, not both")
        draft = described(args)
        name_tagged(context, draft)
        entry.hand_in_rows(args, draft)
    elif path is None:
        draft = described(args)
        entry.hand_in(draft)
    else:
        entry.hand_in_file(path, args)
    if draft and not context.quiet:
        _tell_missing(context, args, draft)
    if entry.dry_run:
        return _would_add(entry)
    if context.interactive:
        context.made.extend(entry.ids)

    def lines() -> Iterator[str]:
        if args.get("each") is None:
            for index, job_id in enumerate(entry.ids):
                fate = "Job added to the queue"
                if there := entry.instead.get(index):
                    kept = f"A job is there already, {there.state},"
                    fate = kept if entry.meeting == "keep" else "Waiting job replaced"
                yield f"{fate} with job id: {job_id}"
            if "run_at" in draft:
                from queuectl.commands.grammar.local_times import tell_time

                tell_time(context, draft["run_at"])
        else:
            yield _sum(entry, args["tag"])
        context.note_enqueued()

    def words() -> Iterator[str]:
        yield from entry.ids
        context.note_enqueued()

    return Result(lines(), words=words())


def _would_add(entry: Entry) -> Result:
    """The jobs as they would be, and their number; existing ones only if they would change."""
    from queuectl.commands.handlers.jobs import these

    instead = entry.instead
    there = instead if entry.meeting == "replace" else {}
    jobs = [
        there.get(at, job) for at, job in enumerate(entry.jobs) if at in there or at not in instead
    ]
    shown = these(entry.context, jobs)
    others = f"; there before: {len(instead)}" if instead else ""
    told = f"Would be added: {len(entry.jobs) - len(instead)}{others}"
    return Result(chain(shown.lines if jobs else (), [told]), words=shown.words, form=shown.form)


def _sum(entry: Entry, tags: Sequence[str]) -> str:
    """The summary for the rows of a file, with the tags as given."""
    added = [job_id for index, job_id in enumerate(entry.ids) if index not in entry.instead]
    which = f" ({added[0]} to {added[-1]})" if len(added) > 1 else f" ({added[0]})" if added else ""
    tagged = f", with the tag{'s' * (len(tags) > 1)} {' '.join(tags)}" if tags and added else ""
    others = f"; there before: {len(entry.instead)}" if entry.instead else ""
    return f"Jobs added to the queue: {len(added)}{which}{tagged}{others}"


class Entry:
    """New jobs, added all or none; `meeting` as in JobQueue.enqueue.

    `ids`: in the order of the jobs. `instead`: by index, existing jobs that stand for new ones.
    `dry_run`: nothing is added, and `jobs` are what would be.
    """

    def __init__(self, context: Context, meeting: Meeting, *, dry_run: bool = False) -> None:
        self.context, self.meeting, self.dry_run = context, meeting, dry_run
        self.ids: list[str] = []
        self.jobs: list[Job] = []
        self.instead: dict[int, Job] = {}

    def hand_in(self, draft: Draft) -> None:
        _complete(self.context, draft)
        name_tagged(self.context, draft)
        self._hand_in([draft])

    def _hand_in(self, drafts: Iterable[Draft]) -> None:
        def made(job: Job) -> None:
            self.ids.append(job.id)
            if self.dry_run:
                self.jobs.append(job)

        context = self.context
        self.instead = context.queue.enqueue_each(
            drafts, made, _captured(context), self.meeting, dry_run=self.dry_run
        )
        for index, job in self.instead.items():
            self.ids[index] = job.id

    def hand_in_rows(self, args: Mapping[str, Any], draft: Draft) -> None:
        """Add a job for each row of a file, by the draft; InvalidInput names the row."""
        from queuectl.commands.handlers.each import Template, rows

        context, begun = self.context, list[int]()
        in_words = bool(args.get("argv")) and not (context.in_script or context.interactive)
        template = Template(draft, in_words=in_words)

        def drafts(file: IO[bytes], name: str) -> Iterator[Draft]:
            for line, row in rows(file, name):
                begun.append(line)
                try:
                    filled = template.fill(row)
                    set_moment(filled)
                except InvalidInput as exc:
                    raise InvalidInput(f"{name}:{line}: {exc}") from None
                _complete(context, filled)  # not earlier: the folder's name may look like one
                yield filled

        self._hand_in_from(args["each"], drafts, begun)

    def hand_in_file(self, path: str, args: dict[str, Any]) -> None:
        """Add all jobs of a file; InvalidInput and DuplicateId name the line."""
        flags = [option for option, _, _ in _FLAGS if args.get(option)]
        if option_fields(args) or args.get("argv") or flags:
            raise InvalidInput("a file of jobs takes no other options: write them into its lines")
        from array import array

        context, passed = self.context, set[str]()
        lines = array("L")  # the line on which each job begins

        def drafts(file: IO[bytes], name: str) -> Iterator[Draft]:
            return _drafts(context, file, name, lines, passed)

        name = self._hand_in_from(path, drafts, lines)
        if passed and not context.quiet:
            told = ", ".join(sorted(passed))
            context.note(f"{name}: ignored, since queuectl itself sets these fields: {told}")

    def _hand_in_from(
        self, path: str, drafts: Callable[[IO[bytes], str], Iterator[Draft]], lines: Sequence[int]
    ) -> str:
        """Add what `drafts` reads from a file; returns the file's name for errors.

        Fills `lines` with the line on which each job begins.
        """
        name = "<stdin>" if path == "-" else path
        try:
            with self.context.stdin() if path == "-" else open(path, "rb") as file:
                self._hand_in(drafts(file, name))
        except (InvalidInput, DuplicateId) as exc:
            if exc.index is None:
                raise
            raise Reworded(f"{name}:{lines[exc.index]}: {exc}", exc) from exc
        except OSError as exc:
            raise InvalidInput(f"reading {path}: {exc.strerror}") from None
        return name


def name_tagged(context: Context, fields: Draft) -> None:
    """Replace `tag=T` among the parents of a draft by ids.

    These are the live jobs with the tag; for `after` also the dead ones, so that a job that needs
    them is refused. Raises NoSuchJob if no job has the tag.
    """
    for name in ("after", "after_end"):
        words = fields.get(name)
        if not isinstance(words, list) or not any(str(word).startswith("tag=") for word in words):
            continue
        from queuectl.model.selection import Selection

        found: list[str] = []
        for word in map(str, words):
            if not word.startswith("tag="):
                found.append(word)
                continue
            tag = word.removeprefix("tag=")
            jobs = context.queue.select(Selection(tags=frozenset({tag})))
            if not jobs:
                raise NoSuchJob(tag, f"no job has the tag '{tag}'")
            meant = LIVE if name == "after_end" else LIVE | {"dead"}
            found += [job.id for job in jobs if job.state in meant and not recurs(job)]
        fields[name] = found


def _meeting(args: Mapping[str, Any]) -> Meeting:
    if args.get("if_absent") and args.get("replace"):
        raise InvalidInput("give --if-absent or --replace, not both")
    return "keep" if args.get("if_absent") else "replace" if args.get("replace") else "refuse"


def _tell_missing(context: Context, args: Mapping[str, Any], draft: Draft) -> None:
    """Note what the job needs and is missing now, unless a job before it may make it."""
    if draft.get("after") or draft.get("after_end"):
        return
    cwd, env_file = str(draft.get("cwd") or "."), str(draft.get("env_file") or os.devnull)
    needs = [("folder", cwd, os.path.isdir(cwd)), ("file", env_file, os.access(env_file, os.R_OK))]
    own_path = args.get("env") or args.get("env_file")  # perhaps
    if args.get("argv") and not (context.in_script or context.interactive or own_path):
        program = str(draft["command"]).split()[0]
        folders = [cwd] if "/" in program else context.environ.get("PATH", os.defpath).split(":")
        found = any(os.access(os.path.join(folder, program), os.X_OK) for folder in folders)
        needs.append(("program", program, found or program in _BUILT_IN or program[0] in "'\""))
    for kind, name, is_here in needs:
        if not is_here and "{" not in name:  # a row of --each fills in the braces
            context.note(f"The {kind} {name} is not here now; where it is missing, each run fails.")


def described(args: dict[str, Any]) -> Draft:
    """The job that the object, the options and the words after `--` describe together.

    Raises InvalidInput if they give nothing, or a field twice.
    """
    given = [*option_fields(args).items()]
    if args.get("argv"):
        given.append(("command", args["argv"]))
    given += [(name, value) for option, name, value in _FLAGS if args.get(option)]
    draft = joined(args.get("object"), given)
    if not draft:
        raise InvalidInput("nothing to enqueue: give {...}, --command, --file or -- and a command")
    return draft


def joined(draft: Draft | None, given: Iterable[tuple[str, object]]) -> Draft:
    """The fields of an object and of options; InvalidInput if one is given twice."""
    joined = dict(draft or {})
    set_moment(joined)
    for name, value in given:
        if name in joined:
            raise InvalidInput(f"field '{name}' is given twice")
        joined[name] = value
    return joined


def option_fields(args: dict[str, Any], *, unset: bool = False) -> Draft:
    """The fields that options like --priority set; `unset`: an empty option sets null.

    Raises InvalidInput for an empty one otherwise.
    """
    fields: Draft = {}
    for field in FIELDS:
        plain = field.enqueue and field.kind not in ("env", "tags", "flag", "ids")
        if plain and args.get(field.name) is not None:
            given = args[field.name]
            fields[field.name] = None if unset and given == "" else given
    if args.get("delay") is not None:
        fields["delay"] = args["delay"]
        set_moment(fields, "--run-at or --delay")
    for name in ("env", "lock", "after", "after_end"):
        words = args.get(name)
        if unset and words == [""]:
            fields[name] = None
        elif words == [""] and name != "env":
            raise InvalidInput(f"--{name.replace('_', '-')} is empty: leave it out for none")
        elif words:
            fields[name] = _environment(words) if name == "env" else words
    if args.get("tag"):
        fields["tags"] = args["tag"]
    return fields


def set_moment(draft: Draft, either: str = "run_at or delay") -> None:
    """Replace a delay by its moment; InvalidInput if the draft has both."""
    delay = draft.get("delay")
    if delay is None:
        return
    if "run_at" in draft:
        raise InvalidInput(f"give {either}, not both")
    if isinstance(delay, (int, float)):  # otherwise it is filled in later, see each.py
        del draft["delay"]
        draft["run_at"] = format_time(time.time() + delay)


def _environment(pairs: Sequence[str]) -> dict[str, str]:
    env: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidInput(f"--env wants NAME=VALUE, not '{pair}'")
        if name in env:
            raise InvalidInput(f"--env sets {name} twice")
        env[name] = value
    return env


def _complete(context: Context, draft: Draft) -> None:
    """Add the folder of the enqueue to the draft, and a time zone to its cron.

    A job that a hook enqueues has no hook itself unless it says so; otherwise it would never end.
    """
    draft.setdefault("cwd", ".")
    if context.environ.get("QUEUECTL_EVENT"):
        draft.setdefault("notify", False)
    make_absolute(draft)
    if draft.get("cron") is not None and draft.get("tz") is None:
        from queuectl.commands.zones import zone_here  # rarely needed

        draft["tz"] = zone_here()


def _captured(context: Context) -> dict[str, Any]:
    """The variables and the umask that jobs take along from here."""
    umask = os.umask(0o077)  # the umask can only be read by setting it
    os.umask(umask)
    return context.queue.taken_along(context.environ, umask)


def _here() -> str:
    try:
        here = os.getcwd()
        here.encode()
    except (OSError, UnicodeEncodeError) as exc:
        why = "is gone" if isinstance(exc, OSError) else "has a name that is not UTF-8"
        raise InvalidInput(f"the current folder {why}; name one with --cwd") from None
    return here


def make_absolute(draft: Draft, here: Callable[[], str] = _here) -> None:
    """Make the draft's relative paths absolute, from `here`, for the worker."""
    for name in ("cwd", "env_file"):
        path = draft.get(name)
        if isinstance(path, str) and path and path[0] != "/":
            draft[name] = here() if path == "." else os.path.join(here(), path)


def _drafts(
    context: Context, file: IO[bytes], name: str, lines: array[int], passed: set[str]
) -> Iterator[Draft]:
    """The jobs of a file, read lazily; shows progress after the first second."""
    from queuectl.commands.grammar.objects import json_lines

    reading = _Reading(context, file, name)
    for line, draft in json_lines(file, name, reading.tell, passed):
        try:
            set_moment(draft)
        except InvalidInput as exc:
            raise InvalidInput(f"{name}:{line}: {exc}") from None
        _complete(context, draft)
        lines.append(line)
        yield draft
    if not lines:
        raise InvalidInput(f"{name} holds no job")
    reading.tell_end(len(lines))


class _Reading:
    """Shows, after the first second, the progress of reading a file."""

    def __init__(self, context: Context, file: IO[bytes], name: str) -> None:
        self._context, self._file, self._name = context, file, name
        self._began = time.monotonic()

    def tell(self, jobs: int) -> None:
        took = time.monotonic() - self._began
        if took < 1.0:
            return
        left = ""
        if self._file.seekable():
            at = self._file.tell()
            part = at / max(1, self._file.seek(0, os.SEEK_END))
            self._file.seek(at)
            left = f", about {format_duration(took / part * max(0, 1 - part))} left" if part else ""
        self._context.show_waiting(f"Reading {self._name}: {jobs:,} jobs{left}")

    def tell_end(self, jobs: int) -> None:
        if time.monotonic() - self._began >= 1.0:
            self._context.show_waiting(f"Enqueuing {jobs:,} jobs")
