"""Claims in a database: one step of the server, which cannot read the settings in that step.

So pauses and limits are known from a moment ago: a process trusts for a second what it has read,
and a pause is confirmed only after that second. A claim whose answer came later is checked again,
and put back if it should not have been made.

If nothing can hold jobs, the server finds and takes one in that single step. Otherwise the job is
found first (see lanes.py) and then taken with its slots: the index `slots` refuses a slot that
another running job holds. Each number of a limited tag is held by at most one job, so two claims at
once never exceed the limit, although neither sees the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from pymongo import ReturnDocument, errors
from pymongo.operations import UpdateOne

from queuectl.config import Settings
from queuectl.errors import BadFile
from queuectl.model.dependencies import parents, unmet
from queuectl.model.gate import OPEN, Gate, full, paused_by, slots_for
from queuectl.model.job import Job, recurs
from queuectl.model.lifecycle import claimed
from queuectl.model.times import format_time, parse_time
from queuectl.store.mongodb.connection import DUPLICATE, Connection, clock, wait
from queuectl.store.mongodb.documents import (
    KEY,
    WAITS,
    Document,
    claim_update,
    difference,
    to_job,
)
from queuectl.store.mongodb.kin import Family
from queuectl.store.mongodb.lanes import ORDER, Lanes, gated, lane_of, open_lanes, ready

TRUSTED = 1.0  # seconds for which a claim trusts what it knows of the settings
_MARGIN = 0.1  # seconds more, since the clocks of hosts do not run at the same speed
_LEFT_BY_CLAIM = {"worker": "", "slots": "", KEY: ""}


class Settling(NamedTuple):
    """A finished run of the job `old`, and how its end is written.

    `step` gives a write that can be combined with others; None if it must come before the claim.
    `alone` writes it by itself, and returns whether the job was unchanged.
    """

    old: Job
    step: Callable[[], UpdateOne] | None
    alone: Callable[[], bool]


class Choice(NamedTuple):
    """A job that may start: its document, the job before, and the job after."""

    document: Document
    before: Job
    job: Job


class Fenced(Exception):
    """The finished run no longer counts. Its argument: a job that was started, after and before."""


class Claims:
    """Claims jobs of one database, which must be a queue already."""

    def __init__(
        self, connection: Connection, settings: Callable[[], Mapping[str, object]]
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._lanes = Lanes(connection)
        self._locks = False  # whether a job with a lock was met: then lanes are used
        self.wrote = False  # whether the last claim confirmed the writes before it
        self._settling: Settling | None = None  # what the claim must write first
        self._found_none = False  # whether the last claim, of jobs in all lanes, found none
        self._known: tuple[Mapping[str, object], Gate] = ({}, OPEN)
        self._read_at = float("-inf")

    @property
    def _jobs(self) -> Any:
        return self._connection.jobs

    def note(self, values: Mapping[str, object], asked_at: float) -> None:
        """Remember the settings, which were read at `asked_at` (of `clock`) or later."""
        if values is not self._known[0]:
            self._known = (values, Settings(values).gate() or OPEN)
        self._read_at = asked_at

    def recent(self) -> Mapping[str, object]:
        """The settings, read a moment ago at most."""
        if clock() - self._read_at > TRUSTED / 2:
            self._settings()  # which notes them
        return self._known[0]

    def hold_off(
        self,
        old: Mapping[str, object],
        new: Mapping[str, object],
        has_workers: Callable[[], bool],
    ) -> None:
        """Wait, if it matters, until no worker uses older settings than these."""
        self._read_at, gate = float("-inf"), Settings(new).gate()
        matters = gate is not None or Settings(new).hooks() != Settings(old).hooks()
        if matters and has_workers():
            wait(TRUSTED + _MARGIN)
        if gate is not None and not {*gated(gate)} <= {*gated(Settings(old).gate() or OPEN)}:
            self._lanes.put_right(gate)

    def gate(self) -> Gate:
        """What may start, known a moment ago at most."""
        return self._gate(TRUSTED)

    def _gate(self, age: float) -> Gate:
        """What may start, known at most `age` seconds ago."""
        if clock() - self._read_at > age:
            self._settings()  # which notes them
        return self._known[1]

    def claim(
        self,
        worker: str,
        now: str,
        log_word: str | None,
        swap: Callable[[Job, Job], bool],
        fire: Callable[[Job, str], str | None],
        settling: Settling | None = None,
    ) -> Job | None:
        """Claim the first ready job that nothing holds; call `fire` for schedules.

        The finished run is settled in the same step if possible, or else before it. Raises Fenced
        if it no longer counts, and what `fire` raises.
        """
        self.wrote, self._settling = False, settling
        if settling is not None and settling.step is None:
            self._settle()
        copy = None  # the copy of a schedule that was met: it comes first
        while True:
            gate, wanted, copy = self._gate(TRUSTED / 2), copy, None
            claim = partial(claimed, worker=worker, now=now, log_word=log_word)
            found = None if gate.all_paused else self._take(gate, now, claim, wanted)
            if found is None:
                if self._settling is not None:
                    self._settle()  # what it frees may now be ready
                elif wanted is None and (gate == OPEN or self._gate(0.0) == gate):
                    self._found_none = self._is_plain(gate)
                    return None
                continue  # a lane may have opened since it was read
            before, job = found
            if job is None:
                self._settle()
                copy = fire(before, now)
            elif clock() - self._read_at <= TRUSTED or not self._is_held_back(before):
                return job
            else:
                # If another process was faster, its worker gives the job back as not its own run.
                swap(job, before._replace(rev=job.rev + 1))

    def _settle(self) -> None:
        """Settle the finished run unless that is done; Fenced if it no longer counts."""
        settling, self._settling = self._settling, None
        if settling is not None:
            self.wrote = False
            if not settling.alone():
                raise Fenced

    def _take(
        self, gate: Gate, now: str, claim: partial[Job], wanted: str | None
    ) -> tuple[Job, Job | None] | None:
        """The claimed job before and after, or a schedule to fire.

        `wanted`: only this job, if it is ready.
        """
        while self._is_plain(gate):
            self._settle()
            only = {"_id": wanted} if wanted else {}
            if gate.aging and not wanted:
                first = self._lanes.aged(now, gate.aging)
                if first is None:
                    return None
                only = first
            asked = {
                "filter": {**ready(now), **only},
                # Only by what the filter leaves open, or the server sorts all jobs of a priority.
                "sort": ORDER[1:] if "priority" in only else ORDER,
                # Without a hint the server may sort all ready jobs at each claim.
                "hint": "_id_" if wanted else "claim",
            }
            with self._connection.told():
                try:
                    found = self._jobs.find_one_and_update(
                        update=claim_update(**claim.keywords),
                        return_document=ReturnDocument.BEFORE,
                        **asked,
                    )
                except errors.OperationFailure:
                    first = self._jobs.find_one(**asked)
                    if first is None or self._read(first) is not None:
                        raise
                    continue  # an edit broke the first job: the server cannot apply the rule
            self.wrote = True
            if found is None:
                if gate.aging and not wanted:
                    continue  # others were faster with all jobs that come before other priorities
                return None
            if any(isinstance(found.get(name), list) for name in ("lock", WAITS)):
                break  # the server left it unchanged
            if (read := self._read(found)) is not None:
                return read, None if recurs(read) else claim(read)
        return self._take_from_lanes(gate, now, claim, wanted)

    def _read(self, document: Document) -> Job | None:
        """The job of a document; None if an edit broke it.

        A broken one becomes dead as it is: otherwise no worker would get at the jobs after it.
        """
        try:
            return to_job(document)
        except BadFile as exc:
            self._connection.notices.append(f"{exc}; until then it is dead")
            dead = {"$set": {"state": "dead", "error": str(exc)}, "$unset": _LEFT_BY_CLAIM}
            with self._connection.told():
                self._jobs.update_one({"_id": document["_id"]}, dead)
            return None

    def _is_plain(self, gate: Gate) -> bool:
        """Whether nothing but its time can hold a job."""
        return gate._replace(aging=0.0) == OPEN and not self._locks

    def _take_from_lanes(
        self, gate: Gate, now: str, claim: partial[Job], wanted: str | None
    ) -> tuple[Job, Job | None] | None:
        passed: set[str | None] = set()
        while True:
            lanes, using = self._lanes.look(gate)
            self._locks = bool(using) or any("/" in (lane or "") for lane in lanes)
            if self._settling is not None:
                using = _without(using, self._settling.old)
            may = [lane for lane in open_lanes(lanes, gate, using) if lane not in passed]
            if gate.aging and wanted is None:
                documents = self._lanes.first_aged(may, now, gate.aging)
            else:
                documents = self._lanes.first(may, now, wanted)
            if not documents:
                return None
            document, *others = documents
            if (read := self._read(document)) is None:
                continue
            before = read
            if paused_by(before, gate) or full(before, gate, using):
                lane = document.get("_lane")
                if lane == lane_of(before, gate):
                    passed.add(lane)
                else:
                    self._lanes.put_right(gate)  # there may be many
                    self._lanes.put(before, gate)
                continue
            if parents(before) and self._lacks_parent(before, gate):
                continue
            if recurs(before):
                return before, None
            choices = [
                Choice(document, before, claim(before, slots=slots_for(before, gate, using)))
            ]
            for document in others if choices[0].job.slots else ():
                if (read := self._read(document)) is None:
                    break
                before = read
                job = claim(before, slots=slots_for(before, gate, using))
                is_like = job.slots == choices[0].job.slots and not paused_by(before, gate)
                if not is_like or parents(before) or recurs(before):
                    break
                choices.append(Choice(document, before, job))
            if (started := self._start(choices)) is not None:
                return started.before, started.job

    def _start(self, choices: list[Choice]) -> Choice | None:
        """Start the first of the jobs that no other worker has taken; None if there is none.

        There is more than one only if all need the same slots: the one that starts holds them, and
        the index refuses the others. So the slots of the run before are not free in between.
        """
        settling, self._settling = self._settling, None
        steps = [settling.step()] if settling and settling.step else []
        first = len(steps)
        steps += map(_starting, choices)
        refused = len(steps)  # refused by the index
        with self._connection.told():
            try:
                count = self._jobs.bulk_write(steps).matched_count
            except errors.BulkWriteError as exc:
                found = exc.details or {}
                [fault] = found["writeErrors"]
                if fault["code"] != DUPLICATE:
                    raise
                count, refused = found["nMatched"], fault["index"]
            self.wrote = True
            if count == refused == first + 1:
                return choices[0]
            started = self._started(choices) if count else None
            if settling is not None and count == (started is not None):
                self.wrote = False
                if not settling.alone():
                    raise Fenced(*[(one.job, one.before) for one in choices if one is started])
            if started is None and refused < len(steps):
                # An edit in mongosh left these slots at a job that does not run; nobody frees them.
                idle = {"slots": {"$in": choices[0].job.slots}, "state": {"$ne": "in_progress"}}
                self._jobs.update_many(idle, {"$unset": {"slots": ""}})
            return started

    def _started(self, choices: list[Choice]) -> Choice | None:
        """The job that has started, if one has."""
        asked: Document = {"_id": {"$in": [one.job.id for one in choices]}, "state": "in_progress"}
        asked["worker"] = choices[0].job.worker
        runs = {found["_id"]: found.get("run") for found in self._jobs.find(asked, {"run": 1})}
        return next((one for one in choices if runs.get(one.job.id) == one.job.run), None)

    def _lacks_parent(self, job: Job, gate: Gate) -> bool:
        """Whether a seemingly free job waits for others after all; corrects its lane then."""
        with self._connection.told():
            family = Family(self._connection, gate)
            family.load(parents(job))
            lacks = bool(unmet(job, family.state_of))
            if lacks:
                family.put_right()
        return lacks

    def _is_held_back(self, job: Job) -> bool:
        """Whether the job just claimed should not have been, judged by the present settings."""
        gate = self._gate(TRUSTED)
        if paused_by(job, gate):
            return True
        using = self._lanes.look(gate)[1]
        return full(job, gate, _without(using, job)) is not None

    def put_right(self) -> None:
        """Note anew what holds each waiting job, since an edit in mongosh may change it."""
        gate = self._gate(TRUSTED)
        with self._connection.told():
            Family(self._connection, gate).put_right()
        if gate != OPEN or self._locks:
            self._lanes.put_right(gate)

    def next_due(self) -> float | None:
        """Seconds until the next waiting job that nothing else holds is due, or None."""
        gate, now = self._gate(TRUSTED / 2), format_time(self._connection.now())
        if gate.all_paused:
            return None
        may: list[str | None] = [None]  # the lane of jobs that came since the claim
        if not self._found_none or not self._is_plain(gate):
            lanes, using = self._lanes.look(gate)
            may = open_lanes(lanes, gate, using)
        self._found_none = False
        due = self._lanes.next_due(may, gate, now)
        return None if due is None else parse_time(due) - parse_time(now)


def _starting(choice: Choice) -> UpdateOne:
    """The write that starts the job if it has not changed."""
    as_was, update = difference(choice.before, choice.job)
    read = ("tags", "lock", "after", "after_end", WAITS)
    as_was |= {name: {"$eq": choice.document.get(name)} for name in read}
    return UpdateOne(as_was, update, hint="_id_")


def _without(using: Mapping[str, list[Job]], job: Job) -> dict[str, list[Job]]:
    """The holders of each token, without this job."""
    return {token: [one for one in jobs if one.id != job.id] for token, jobs in using.items()}
