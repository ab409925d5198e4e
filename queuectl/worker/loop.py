"""A worker's life: claim, run, settle, until it is told to stop."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from queuectl.errors import QueuectlError
from queuectl.model.log_words import one_line
from queuectl.store.facts import MOST_LEFT
from queuectl.store.opening import is_usual
from queuectl.worker import processes, report
from queuectl.worker.aside import aside
from queuectl.worker.old_logs import remove_old
from queuectl.worker.own_log import to_stderr
from queuectl.worker.rescue import rescue
from queuectl.worker.runner import Runner
from queuectl.worker.wakeups import Wakeups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.config import Settings
    from queuectl.job_queue import JobQueue
    from queuectl.model.job import Job
    from queuectl.model.lifecycle import Outcome
    from queuectl.store.contract import Slot
    from queuectl.worker.remains import Found
    from queuectl.worker.runner import Interruption

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0  # seconds to wait after trouble
_LONGEST_LOOK = 5.0  # seconds between signs of life, which some stores require
_PATIENCE = 1.0  # seconds of pause; from then on a worker that is to stop leaves
_SHORTEST_WAIT = 0.001  # seconds; the least time between a claim that found nothing and the next
_LOOK_AROUND = 1.0  # seconds between looks for lost workers and changed settings
_CROWD = 20  # up to this many workers each poll for work; of more only one does
_SPARSE = 100  # up to this many workers each check another one at each poll; of more, less often
_PURGE_EVERY = 600.0  # seconds between looks for old jobs and logs
_SHARE = 8  # share of logs-total after which the workers together check the logs
_TELL = 1.0  # seconds between calls while there is nothing to run
_MOST_TOLD = 1000  # distinct troubles remembered as logged


def run_worker(
    queue: JobQueue,
    *,
    tell: Callable[[str], None] | None = None,
    log: Callable[[str], None] | None = None,
    registered: Callable[[Slot], None] | None = None,
    detached: bool = False,
    until_empty: bool = False,
    on_wait: Callable[[], None] | None = None,
    on_stop: Callable[[int], object] | None = None,
) -> int:
    """Be a worker of the queue until a signal says stop; returns the exit code.

    `tell` is called with a line for each event of a job, `log` with a line for each trouble
    (default: stderr). `until_empty`: leave when no job is pending, failed or in progress, with 1 if
    a job that it ran itself is dead; if stopped earlier, with 128 + the signal's number. `on_wait`
    is called about once a second while such a worker has nothing to run. If a signal stopped the
    worker, `on_stop` is called with 128 + its number at the end.
    """
    log = log or to_stderr
    try:
        before = os.getcwd()
    except OSError:  # it was removed
        before = "/"
    with Wakeups(detached=detached) as wakeups:
        while True:
            started = processes.start_time(os.getpid()) or "-"
            slot = queue.register_worker(started, processes.boot_id() or "-")
            wakeups.watch(slot.wake_fd)
            worker: Worker | None = None
            try:
                slot.note_facts(pidns=processes.namespace(), folder=queue.identity())
                worker = Worker(queue, slot, wakeups, tell, log)
                if registered is not None:
                    registered(slot)
                code = worker.work(until_empty=until_empty, on_wait=on_wait)
                if on_stop is not None and wakeups.signalled:
                    on_stop(wakeups.code)
            finally:
                if worker is not None and worker.keeps_run:
                    slot.close()  # a rescue needs its file to find what is left of the run
                else:
                    _release(queue, slot, log)
                with suppress(OSError):
                    os.chdir(before)
            if not worker.begins_anew:
                return code


class Worker:
    """One registered worker."""

    def __init__(
        self,
        queue: JobQueue,
        slot: Slot,
        wakeups: Wakeups,
        tell: Callable[[str], None] | None,
        log: Callable[[str], None],
    ) -> None:
        self._queue, self._slot, self._wakeups = queue, slot, wakeups
        self._tell, self._log = tell, log
        self._logs = queue.store.output
        self._runner = Runner(slot.id, queue.folder, queue.identity(), wakeups)
        self._spool = self._logs.spool(slot.id)  # last: it would leave a file if the rest fails
        self._runner.env_set, self._runner.now = queue.env_set, queue.now
        self._runner.watch_output = lambda: self._spool.look(self._trouble)
        # Whether it leaves a run behind that cannot be ended or whose end is only noted.
        self.keeps_run = False
        self.begins_anew = False  # whether another worker takes its place in this process
        self._stop_noted = self._left_noted = self._finishing_told = False
        self._job: Job | None = None  # running, or its run is still noted in the slot
        self._finished: tuple[Job, Outcome] | None = None  # a finished run that is not settled yet
        self._noted: object = None  # an end noted in the slot because the queue did not accept it
        self._took = 0.0  # seconds that that run took
        self._pause = _FIRST_PAUSE
        self._poll = self._runner.look
        self._told: set[str] = set()
        self._hindrance, self._hindered_at = "", 0.0  # what keeps it from working, since when
        queue.on_wait(self._hinder)
        self._died: dict[str, str] = {}  # why jobs ended dead here, by id; shown at the end
        self._next_look = self._next_purge = 0.0
        self._most_kept = 0  # bytes of output that may become logs before the logs are checked
        self._woken = False  # whether the last wait ended because of a hint
        # Whether it may have got a hint since its last run that another worker needs too: a new
        # worker may have, before its first claim.
        self._rested = True
        self._spread = 1.0  # factor on poll-interval while another worker keeps watch
        self._prepared = False  # whether `prepare_claims` was done since the last trouble
        self._on_wait: Callable[[], None] | None = None  # called while nothing can be run

    def work(self, *, until_empty: bool = False, on_wait: Callable[[], None] | None = None) -> int:
        """Work until a signal says stop or nothing is left to do; returns the exit code."""
        code = None
        self._on_wait = on_wait if until_empty else None
        try:
            while code is None:
                code = self._try_step(until_empty)
        finally:
            self._queue.on_wait(None)
            self._runner.close()
            try:
                self._spool.close()
            except QueuectlError as exc:
                self._trouble(exc)
        return code

    def _try_step(self, until_empty: bool) -> int | None:
        try:
            code = self._step(until_empty)
        except (QueuectlError, OSError) as exc:
            unsettled = self._finished is not None  # and tried again
            noted = unsettled and self._is_noted()
            is_safe = not unsettled or (noted and self._pause > _PATIENCE)
            if self._wakeups.now or (self._wakeups.stopping and is_safe):
                self._log(f"{self._slot.id} leaves in spite of: {exc}")
                self.keeps_run = self.keeps_run or noted
                return 1
            self._recover(exc)
            return None
        self._pause = _FIRST_PAUSE
        # A trouble that shows only at a look-around is over only after the next one went well.
        if self._hindrance and time.monotonic() > self._hindered_at + 2 * _LOOK_AROUND:
            self._hinder("")
        return code

    def _step(self, until_empty: bool) -> int | None:
        """One job, or one wait for a job; returns an exit code if the worker should leave."""
        now = time.monotonic()
        # Before a claim, because an error must not come between a claim and its run.
        if self._spool.kept > self._most_kept > 0 or (now >= self._next_look and not self._woken):
            self._look_around(now)
        elif now >= self._next_look and not (self._slot.on_watch and self._slot.patience > 1.0):
            # A worker that was woken claims first. In a store of many hosts (patience above 1)
            # changed settings also wake the worker on watch, so it never reads them late.
            self._heed_settings()
        if not self._slot.still_held():
            if self._slot.lapsed:
                raise QueuectlError("its lease is over; it waits until that is renewed")
            self.begins_anew = self._slot.declared and not self._wakeups.stopping
            then = "it begins anew" if self.begins_anew else "it leaves"
            self._log(f"{self._slot.id} {self._slot.why_gone()}; {then}")
            return 1
        if self._wakeups.stopping:
            self._settle()
            return self._stopped() if until_empty else 0
        if not self._prepared:
            aside(self._queue.prepare_claims)
            self._prepared = True
        job = self._claim()
        if job is not None:
            # The machine may have been suspended before the answer came; else it is given back.
            return self._run(job) if self._slot.still_held() else None
        if now >= self._next_look:
            self._look_around(now)
        if until_empty and (self._queue.is_drained() or any(self._queue.count_stuck())):
            return self._drained()
        self._idle()
        return None

    def _drained(self) -> int:
        """Report what died or stays, at the end of a drain; returns the exit code."""
        stuck = self._queue.count_stuck()
        folder = self._queue.folder
        front = "" if is_usual(folder, os.environ) else report.front(folder)
        for line in report.drained(self._died, *stuck, front):
            self._log(line)
        return int(bool(self._died or any(stuck)))

    def _stopped(self) -> int:
        """The exit code of a draining worker that was told to stop."""
        return self._drained() if self._queue.is_drained() else self._wakeups.code

    def _is_noted(self) -> bool:
        """Note the end of the run in the slot for the rescue of its job; returns success."""
        if self._finished is not None and self._finished is not self._noted:
            with suppress(OSError):  # the disk refuses that too
                job, outcome = self._finished
                if self._slot.note_end(job.id, job.run, outcome):
                    self._noted = self._finished
        return self._finished is self._noted

    def _claim(self) -> Job | None:
        """Settle the finished run and claim the next job, in one step if nobody watches."""
        if self._tell is not None or not self._spool.is_ready:
            self._settle()
        self._spool.make_ready()  # a claimed job must run
        job = self._queue.claim(self._slot.id, self._finished)
        self._finished = None
        return job

    def _settle(self) -> None:
        if self._finished is not None:
            job, outcome = self._finished
            settled = self._queue.settle(job, outcome)
            self._finished = None
            if self._tell is not None:
                if settled is not None and settled.state == "dead":
                    self._died[job.id] = one_line(settled.error or "unknown")
                else:
                    self._died.pop(job.id, None)  # it was retried
                self._say(report.ended(job, outcome, settled, self._took))

    def _run(self, job: Job) -> int | None:
        """Run the job; returns an exit code if the worker must leave because the run cannot end."""
        self._job = job
        self._spool.begin(job)
        if self._tell is not None:
            self._say(report.started(job))
        began = time.monotonic()
        outcome = self._runner.run(
            job,
            self._spool.fd,
            started=self._note,
            interrupted=self._interruption,
            unended=self._unended,
        )
        self._took = time.monotonic() - began
        clean = self._runner.clean if self._runner.proves else self._spool.is_let_go()
        if self._left_noted and not self.keeps_run:
            self._note_left("")
        if outcome is None:
            self._spool.finish(job, clean=False)
            return 1 if self.keeps_run else None
        if outcome.kind == "exited" and outcome.exit_code:
            outcome = self._explained(outcome)
        self._finished = (job, outcome)
        # First the log, then the result: a reader that sees the end finds the whole output.
        self._spool.finish(job, clean=clean)
        if outcome.kind == "no_resources":
            self._settle()
            raise QueuectlError(str(outcome.error))
        return None

    def _note(self, pid: int, started: str) -> None:
        job = self._job
        assert job is not None
        try:
            self._slot.note_run(job.id, job.run, pid, started)
            if self._rested or self._slot.on_watch:
                self._hand_over()
        except OSError as exc:
            # The command already runs; its environment marks it too.
            self._trouble(exc)

    def _unended(self, left: Found) -> bool:
        """Report what is left of the run and cannot be ended; returns whether to give up."""
        job = self._job
        assert job is not None
        names = [processes.described(one) for one in left.values()]
        self._note_left(",".join(names[:MOST_LEFT]))
        if self._wakeups.stopping and not self._stop_noted:
            self._note_stop()
        try:
            if not self._queue.still_runs(job):  # somebody has given it up
                return True
        except (QueuectlError, OSError) as exc:
            self._trouble(exc)
        what = ", ".join(names) or "what it left, as no process can be looked at"
        self._trouble(QueuectlError(f"{job.id} run {job.run}: cannot end {what}"))
        self.keeps_run = self._wakeups.now or not self._slot.still_held()
        return self.keeps_run

    def _note_left(self, names: str) -> None:
        self._left_noted = bool(names)
        self._note_facts(left=names)

    def _note_facts(self, **facts: object) -> None:
        try:
            self._slot.note_facts(**facts)
        except OSError as exc:
            self._trouble(exc)

    def _hand_over(self) -> None:
        """Let an idle worker keep watch and look for more jobs, since this one is now busy.

        So each worker that begins to work wakes one other, and not all for each job. A hint that
        reached this worker between its claim and the note of its run gets to another one.
        """
        self._rested = self._woken = False
        self._slot.leave_watch()
        self._queue.wake_idle(1)

    def _explained(self, outcome: Outcome) -> Outcome:
        """The outcome of a failure, with the line of output that says why."""
        try:
            said = self._spool.reason()
        except OSError:
            return outcome  # the result must not be lost because of it
        return outcome._replace(error=f"{outcome.error}: {said}") if said else outcome

    def _interruption(self) -> Interruption | None:
        """How the running job should be ended early, if at all."""
        job = self._job
        assert job is not None
        self._wakeups.heed(self._slot.asked)
        if self._wakeups.stopping and not self._stop_noted:
            self._note_stop()
        if self._wakeups.now or not self._slot.still_held():
            return "stop"
        if self._wakeups.stopping and self._tell is not None and not self._finishing_told:
            self._finishing_told = True
            self._say(report.finishing(job))
        try:
            asked = self._queue.cancel_requested(job)
            self._give_back(job)
            return "cancel" if asked else None
        except (QueuectlError, OSError) as exc:
            self._trouble(exc)
            return None

    def _note_stop(self) -> None:
        """Note that this worker was asked to stop, before it may be killed."""
        self._stop_noted = True
        self._note_facts(stopping=1)

    def _idle(self) -> None:
        """Tidy up, then wait until there may be something to do."""
        watches = self._slot.keep_watch()
        patience = self._slot.patience
        # In a crowd, and if all news reach the worker on watch (patience above 1), only that one
        # waits for jobs to become due, and others only if they were woken for one or ran it.
        alone = self._spread == patience == 1.0
        wakeful = watches or alone or self._woken or self._job is not None
        if self._job is not None:
            self._job = None
            self._slot.clear_run()
            os.chdir("/")  # an idle worker must not keep a folder from being removed or unmounted
        self._rested = True
        self._queue.sync()
        self._queue.fold_if_due()
        wait = self._poll * patience * (1.0 if wakeful else self._spread)
        # Read after the run was cleared: from here on an enqueue sees an idle worker.
        due = self._queue.next_due() if wakeful else None
        fold = self._queue.checkpoint_due_in()
        if due is not None:
            wait = min(wait, due)
        if fold is not None and wakeful:
            wait = min(wait, fold)
        if self._on_wait is not None:
            self._on_wait()
            wait = min(wait, _TELL)
        self._woken = self._wait_for(max(wait, _SHORTEST_WAIT))
        self._runner.reap()  # processes that this one inherited

    def _wait_for(self, seconds: float) -> bool:
        """Wait for a hint; returns whether one came. A lost worker also ends a long wait."""
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            part = self._runner.look * max(1.0, self._spread * _CROWD / _SPARSE)
            part = min(part, _LONGEST_PAUSE)
            came = bool(self._wakeups.wait(min(left, part)))
            if came or left <= part or self._wakeups.stopping:
                return came
            if not self._slot.still_held() or self._slot.sees_lost():
                return False

    def _look_around(self, now: float) -> None:
        """Check now and then: settings, lost workers, old jobs."""
        self._wakeups.heed(self._slot.asked)
        self._next_look = now + _LOOK_AROUND
        settings = self._heed_settings()
        crowd = self._slot.crowd()
        self._spread = max(1.0, crowd / _CROWD)
        self._give_back(self._finished[0] if self._finished else None)
        if self._sees_lost():
            for job in rescue(self._queue):
                self._log(f"{self._slot.id} rescued job {job.id}, which is {job.state} now")
        self._most_kept = int(settings.logs_total / _SHARE / crowd)
        if self._job is not None:
            aside(lambda: self._queue.fold_if_due(busy=True))
        if now >= self._next_purge or self._spool.kept > self._most_kept > 0:
            self._next_purge = now + _PURGE_EVERY * self._spread
            self._spool.kept = 0
            aside(lambda: remove_old(self._queue, self._logs))

    def _heed_settings(self) -> Settings:
        settings = self._queue.settings()
        self._runner.kill_grace = settings.kill_grace
        self._poll = settings.poll_interval
        self._runner.look = min(self._poll, _LONGEST_LOOK)
        self._runner.set_id = None
        self._spool.limit_to(settings.log_limit)
        return settings

    def _give_back(self, held: Job | None) -> None:
        """Give back jobs that name this worker but do not run here, and log the notices."""
        for job in self._queue.give_back(self._slot.id, held):
            self._log(f"{self._slot.id} gave back job {job.id}, which it does not run")
        for line in self._queue.notices:
            self._log(f"{self._slot.id} {line}")
        self._queue.leave_notices()

    def _sees_lost(self) -> bool:
        """Whether a worker may have died: the one on watch checks all, the others check one."""
        if not self._slot.keep_watch():
            return self._slot.sees_lost()
        # Locks show at once which worker died; workers without a file are looked for when idle.
        return self._job is None or not all(worker.alive for worker in self._queue.workers())

    def _recover(self, error: Exception) -> None:
        """Log the trouble and pause, longer each time."""
        self._slot.leave_watch()
        self._prepared = False
        self._trouble(error)
        self._hinder(str(error))
        self._wakeups.wait(self._pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _hinder(self, why: str) -> None:
        """Note for others what keeps the worker from working; "" if nothing does."""
        self._hindered_at = time.monotonic()
        if why != self._hindrance:
            self._hindrance = why
            with suppress(OSError):
                self._slot.note_trouble(why)

    def _trouble(self, error: Exception) -> None:
        """Log what went wrong, but each trouble only once."""
        text = str(error)
        if text not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(text)
            self._log(f"{self._slot.id} {text}")

    def _say(self, line: str) -> None:
        """Show a line; if nobody reads it any more, the worker stops as if told to."""
        try:
            if self._tell is not None:
                self._tell(line)
        except OSError:
            self._tell = None
            self._wakeups.stopping = True


def _release(queue: JobQueue, slot: Slot, log: Callable[[str], None]) -> None:
    try:
        queue.release_worker(slot)
        queue.wake_idle(1)  # it may have been the one that was woken or kept watch
    except (QueuectlError, OSError) as exc:
        log(f"{slot.id} is still listed: {exc}")
