"""What an edit of a job file changes: its difference from the version that the editor had read.

Jobs are accepted, run and purged between an editor's reading and its saving. So the saved file does
not say what the queue should look like: what the person did not touch keeps its present form. Notes
of the forms that each fold replaced tell the two apart (see evidence.py). Pure: no file is read
here, and the time is an argument.

A version is a generation of the journal: the job files as the fold that began it left them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from queuectl.errors import Conflict, list_few
from queuectl.model.job import Job
from queuectl.model.schedule import rewritten
from queuectl.model.times import format_time
from queuectl.places import DEAD, JOBS
from queuectl.store.files.job_files import (
    decode_job,
    encode_job,
    line_state,
    removal_line,
    rev_and_sum,
)

LONGEST_THOUGHT = 600.0  # seconds assumed from reading to saving if the edit shows nothing


class Past(NamedTuple):
    """A form that a job had in the files, up to the version before `until`.

    `rev` 0: it was in neither file. `by_hand`: an edit of it that left its state replaced it.
    """

    until: int
    dead: bool
    rev: int
    check: int
    by_hand: bool


class History(NamedTuple):
    """What is known about earlier versions. `since`: the oldest completely known one.

    `folded`: each later version with the time of its fold (epoch seconds), the oldest first.
    `past`: earlier forms by id, the oldest first.
    """

    since: int
    folded: list[tuple[int, float]]
    past: dict[bytes, list[Past]]


class Saved(NamedTuple):
    """A job in a saved file: its offset there, and which of its times were written."""

    at: int
    job: Job
    keys: Collection[str]


class SavedFile(NamedTuple):
    """An edited job file. `dead`: dlq.json, else jobs.json. `saved_at`: epoch seconds.

    `untouched`: ids of its jobs that have their present form; `jobs`: all others.
    """

    dead: bool
    saved_at: float
    jobs: list[Saved]
    untouched: Collection[bytes] = ()


class Edit(NamedTuple):
    """What to do: journal lines by id, and what to tell the person.

    `undecided`: by file (True: dlq.json), why nothing of it was taken in.
    """

    lines: dict[bytes, bytes]
    told: list[str]
    undecided: dict[bool, str]


class Mistake(Exception):
    """Something that an edit cannot do, with its file and offset."""

    def __init__(self, dead: bool, at: int, what: str) -> None:
        super().__init__(what)
        self.dead = dead
        self.at = at


class _Undecided(Exception):
    """Nothing shows what the person meant."""


def decide(
    present: Mapping[bytes, bytes],
    history: History,
    generation: int,
    files: Collection[SavedFile],
    now: str,
) -> Edit:
    """What the saved files change in the queue. Raises Mistake.

    `present`: each job's present line. `history` also has the folded form of the jobs that changed
    since the fold of `generation`.
    """
    edit = Edit({}, [], {})
    named = [{*file.untouched, *(saved.job.id.encode() for saved in file.jobs)} for file in files]
    told = _Told()
    for which, file in enumerate(files):
        elsewhere = set().union(*(ids for at, ids in enumerate(named) if at != which))
        judge = _Judge(present, history, generation, file, now)
        try:
            lines = judge.changes()
        except _Undecided as exc:
            edit.undecided[file.dead] = str(exc)
            continue
        for job_id, (line, at) in lines.items():
            if edit.lines.setdefault(job_id, line) != line:
                raise Mistake(
                    file.dead, at, f"job '{job_id.decode()}' occurs twice, in {JOBS} and {DEAD}"
                )
        edit.lines.update(judge.removals(named[which] | elsewhere))
        told.take(judge.told)
    edit.told.extend(told.lines())
    return edit


class _Told:
    """Ids by what the person is told about them."""

    def __init__(self) -> None:
        self._ids: dict[str, list[str]] = {}

    def add(self, what: str, job_id: str) -> None:
        ids = self._ids.setdefault(what, [])
        if job_id not in ids:
            ids.append(job_id)

    def take(self, other: _Told) -> None:
        for what, ids in other._ids.items():
            for job_id in ids:
                self.add(what, job_id)

    def lines(self) -> Iterator[str]:
        for what, ids in self._ids.items():
            yield what.format(list_few(ids))


FIRST = "changes that came first were kept for: {}"
GONE = "removed meanwhile, and not put back: {}"
RUNS = "not removed, because it runs ('queuectl cancel' ends it): {}"
RUNS_ON = "changed only as far as a running job can be: {}"
UNSEEN = "not removed, because the editor may have read the file before it was there: {}"


class _Judge:
    """One saved file against the queue."""

    def __init__(
        self,
        present: Mapping[bytes, bytes],
        history: History,
        generation: int,
        file: SavedFile,
        now: str,
    ) -> None:
        self.present, self.history, self.generation = present, history, generation
        self.file, self.now, self.told = file, now, _Told()
        self.first, self.last = self._span()
        self.added: list[Job] = []

    # -- which versions the editor may have read

    def _span(self) -> tuple[int, int]:
        """The first and the last version that the editor may have read; -1: before all known."""
        since = self.history.since
        first, last = (since if since <= 1 else -1), self.generation
        for job_id, forms in self._read_forms():
            if len(forms) == 1:  # a reused id says nothing
                last = min(last, forms[0][1])
                # A person who added the job by hand had it before the queue did.
                if Past(forms[0][0], False, 0, 0, True) not in self.history.past[job_id]:
                    first = max(first, forms[0][0])
        recent = self._version_at(self.file.saved_at - LONGEST_THOUGHT)
        if recent <= last:
            first = max(first, recent)
        return min(first, last), max(first, last)

    def _read_forms(self) -> Iterator[tuple[bytes, list[tuple[int, int, bool, int]]]]:
        """For each job in the file with a known change: which of its _forms it has."""
        past, dead = self.history.past, self.file.dead
        for saved in self.file.jobs:
            job_id = saved.job.id.encode()
            if job_id in past:
                yield job_id, [f for f in self._forms(job_id) if f[2:4] == (dead, saved.job.rev)]
        birth = None
        for job_id in past.keys() & self.file.untouched:
            if past[job_id][-1] is birth and len(past[job_id]) == 1:
                continue  # like the one before: a hundred thousand may come in one fold
            forms = self._forms_like_present(job_id)
            if forms and len(past[job_id]) == 1 and not past[job_id][0].rev:
                birth = past[job_id][0]
            yield job_id, forms

    def _forms_like_present(self, job_id: bytes) -> list[tuple[int, int, bool, int]]:
        """Those of the job's forms with its present rev, in this file."""
        line, past = self.present[job_id], self.history.past[job_id]
        if len(past) > 1 or past[0].rev:
            wanted = (self.file.dead, rev_and_sum(line)[0])
            return [form for form in self._forms(job_id) if form[2:4] == wanted]
        # It never had another form, like most jobs of a large queue: those are not parsed.
        here = (line_state(line) == b"dead") is self.file.dead
        is_folded = here and past[0].until <= self.generation
        return [(past[0].until, self.generation, self.file.dead, 0)] if is_folded else []

    def _forms(self, job_id: bytes) -> Iterator[tuple[int, int, bool, int]]:
        """First and last version, file and rev of each form that the job had in the files.

        Empty for a job without a known change, which says nothing about the version.
        """
        past, first = self.history.past.get(job_id, []), 0
        for form in past:
            if form.rev and first < form.until:
                yield first, form.until - 1, form.dead, form.rev
            first = form.until
        line = self.present.get(job_id)
        if past and line is not None and first <= self.generation:
            yield first, self.generation, line_state(line) == b"dead", decode_job(line).rev

    def _version_at(self, moment: float) -> int:
        """The version that was current at that time; -1 for one before all known."""
        # Of a clock that was set back, the first look counts: that is the more careful one.
        for version, at in self.history.folded:
            if at > moment:
                return version - 1 if version - 1 > self.history.since else -1
        return self.generation

    # -- what is in the file

    def changes(self) -> dict[bytes, tuple[bytes, int]]:
        """The lines that the file's jobs should have, with the offset of each; _Undecided."""
        changes = {}
        for saved in self.file.jobs:
            job = self._wanted(saved)
            if job is not None:
                changes[job.id.encode()] = (encode_job(job), saved.at)
        return changes

    def _wanted(self, saved: Saved) -> Job | None:
        """The job as it should be; None if it stays as it is."""
        job_id, line = saved.job.id.encode(), self.present.get(saved.job.id.encode())
        past = self.history.past.get(job_id, [])
        mine = encode_job(saved.job)
        if mine == line:
            return None
        if past and self._is_untouched(mine, past):
            if line is None and past[-1].by_hand:
                self.told.add(GONE, saved.job.id)
            return None
        if line is None:
            return self._added(saved, past)
        return self._changed(saved, decode_job(line), past)

    def _is_untouched(self, mine: bytes, past: Collection[Past]) -> bool:
        _, check = rev_and_sum(mine)
        # If it was in the other file, a person moved it to this one.
        return any(form.rev and (form.dead, form.check) == (self.file.dead, check) for form in past)

    def _added(self, saved: Saved, past: list[Past]) -> Job | None:
        """What becomes of a saved job that is not in the queue; None: nothing."""
        job = saved.job
        forms = [form for form in past if form.rev == job.rev]
        if any(form.dead is self.file.dead for form in forms):
            self.told.add(GONE, job.id)
            return None
        if forms:  # an earlier edit took it out of the other file: it was moved
            job = job._replace(rev=max(form.rev for form in past) + 1)
            moved = rewritten(job._replace(state="dead"), job, self.now) if forms[-1].dead else job
            return moved or job
        # Only queuectl writes this key, so the job may come from an unknown version.
        ours = "created_at" in saved.keys
        if ours and (past or (self.first < self.history.since and job.created_at <= self._since())):
            raise _Undecided(f"job '{job.id}' is not known any more")
        self.added.append(job)
        return job._replace(rev=max([job.rev, *(form.rev + 1 for form in past)]))

    def _since(self) -> str:
        """When the oldest version with known content was folded, or slightly later."""
        folded = [at for version, at in self.history.folded if version >= self.history.since]
        return format_time(folded[0]) if folded else self.now

    def _changed(self, saved: Saved, shown: Job, past: list[Past]) -> Job | None:
        """What becomes of a saved job that the queue has in another form; None: nothing."""
        job = _completed(saved, shown)
        # A person who saves twice without reading again edits the form from before the first edit.
        revs, others = {shown.rev}, list(past)
        while others and others[-1].by_hand and others[-1].rev:
            revs.add(others.pop().rev)
        is_twin = any(form.rev == job.rev for form in others) and job.created_at != shown.created_at
        if job.rev in revs and not is_twin:
            try:
                new = rewritten(shown, job, self.now)
            except Conflict as exc:
                raise Mistake(self.file.dead, saved.at, str(exc)) from None
            if shown.state == "in_progress" and _is_held_back(new or shown, job):
                self.told.add(RUNS_ON, job.id)
            return new
        if any(form.rev == job.rev for form in past):
            if job._replace(rev=shown.rev, updated_at=shown.updated_at) != shown:
                self.told.add(FIRST, job.id)
            return None
        raise _Undecided(f"it has rev {job.rev} of job '{job.id}', of which nothing is known")

    # -- what is not in it

    def removals(self, named: Collection[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Id and removal line of each job that the editor saw and that is now in neither file."""
        for job_id, line in self.present.items():
            if job_id in named:
                continue
            state = line_state(line)
            if (state == b"dead") is not self.file.dead:
                continue
            reason = self._kept_for(job_id, state == b"in_progress")
            if reason is None or (reason is UNSEEN and self._is_renamed(line)):
                yield job_id, removal_line(job_id.decode(), (state or b"").decode())
            elif reason:
                self.told.add(reason, job_id.decode())

    def _kept_for(self, job_id: bytes, runs: bool) -> str | None:
        """Why the missing job stays, as a message or "" for none; None: it goes."""
        born = self._born(self.history.past.get(job_id, []))
        if born <= self.first and (born > 0 or self.first >= self.history.since):
            return RUNS if runs else None
        if born <= self.last:
            return UNSEEN
        seen = any(
            dead is self.file.dead and first <= self.last and last >= self.first
            for first, last, dead, _ in self._forms(job_id)
        )
        return FIRST if seen else ""

    def _is_renamed(self, line: bytes) -> bool:
        """Whether the file has the job under a new id, which shows that the editor saw it."""
        job = decode_job(line)
        return any(job == new._replace(id=job.id) for new in self.added)

    def _born(self, past: list[Past]) -> int:
        """The version that first had the job as it is now, apart from edits; 0 if unknown."""
        forms = list(past)
        while forms and forms[-1].by_hand and forms[-1].rev:
            forms.pop()
        return forms[-1].until if forms else 0


def _completed(saved: Saved, shown: Job) -> Job:
    """The job, with fields that only queuectl writes filled in if the person left them out."""
    job, keys = saved.job, saved.keys
    if "created_at" not in keys:
        job = job._replace(created_at=shown.created_at)
        if "run_at" not in keys and "available_at" not in keys:
            job = job._replace(run_at=shown.created_at)
    if "updated_at" not in keys:
        job = job._replace(updated_at=shown.updated_at)
    return job._replace(run=max(job.run, shown.run))  # part of the names of its logs


def _is_held_back(new: Job, wanted: Job) -> bool:
    asked = wanted._replace(state=new.state, cancel_requested=new.cancel_requested)
    return new != asked._replace(rev=new.rev, updated_at=new.updated_at)
