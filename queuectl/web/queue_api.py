"""The rest of `/api/v1`: the status of the queue, dead jobs, workers, settings, statistics."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from typing import Any

from queuectl import __version__
from queuectl.commands.forms import limits_form
from queuectl.commands.handlers.gate import in_use
from queuectl.commands.render import counted
from queuectl.config import SETTINGS, Settings
from queuectl.errors import NoSuchJob
from queuectl.model.causes import by_cause, cause_of, named
from queuectl.model.job import Job
from queuectl.model.selection import Selection
from queuectl.model.stats import MINUTE, aged
from queuectl.model.stats import stats as stats_of
from queuectl.store import opening
from queuectl.web.drafts import check_settings
from queuectl.web.exchange import Answer, Call, Refused
from queuectl.web.jobs_api import status_form, touch
from queuectl.web.mirror import light
from queuectl.web.operations import Action
from queuectl.web.service import Service, unchanged

_DEAD = Selection(states=frozenset({"dead"}))


def health(service: Service, call: Call) -> Answer:
    """Says only that the server runs."""
    return Answer(200, {"status": "ok"})


def status(service: Service, call: Call) -> Answer:
    """Counts by state, workers, health."""
    etag = service.etag()
    return unchanged(call, etag) or Answer(200, status_form(service), {"etag": etag})


def access(service: Service, call: Call) -> Answer:
    """The rights of the caller, and which queue is served."""
    may = ["read"] if call.right == "read" or service.read_only else ["read", "full"]
    form = {
        "may": may,
        "read_only": service.read_only,
        "no_token": service.no_token,
        "queue": opening.name_of(service.operations.folder),
        "version": __version__,
        "started": service.started,
        "time": time.time(),
    }
    return Answer(200, form)


def stats(service: Service, call: Call) -> Answer:
    """Counts, failures, waiting and run times, the last hour: the data of `stats --json`."""

    def find_out() -> dict[str, Any]:
        return stats_of(service.operations.jobs(Selection()), time.time())

    now = time.time()
    minute = int(now // MINUTE)  # the last hour has moved on then, even without changes
    if (same := unchanged(call, service.etag(minute))) is not None:
        return same
    form = aged(service.kept("stats", find_out, MINUTE), now)
    return Answer(200, form, service.etag_of("stats", minute))


# -- dead jobs


def dead_groups(service: Service, call: Call) -> Answer:
    """Dead jobs by cause."""
    etag = service.etag()
    if (same := unchanged(call, etag)) is not None:
        return same
    found = service.kept("groups", lambda: _groups(service.operations.jobs(_DEAD)))
    form = {"groups": found, "total": sum(group["count"] for group in found)}
    return Answer(200, form, service.etag_of("groups"))


def _groups(dead: Iterable[Job]) -> list[dict[str, Any]]:
    return [
        {
            "group": _group_id(one.exit_code, one.error),
            "count": one.jobs,
            "cause": named(one.exit_code, one.error),
            "exit_code": one.exit_code,
            "first": one.first,
            "last": one.latest,
            "samples": list(one.samples),
        }
        for one in by_cause(dead)
    ]


def _group_id(exit_code: int | None, error: str) -> str:
    """The name of a group of dead jobs in a URL: a hash of their cause."""
    return hashlib.sha256(f"{exit_code}\n{error}".encode()).hexdigest()[:12]


def touch_dead(action: Action) -> Callable[[Service, Call], Answer]:
    """The handler that retries or removes dead jobs: some, those of a group, or all."""

    def handler(service: Service, call: Call) -> Answer:
        group, ids = call.body["group"], call.body["ids"]
        if not group and not ids and not call.body["all"]:
            raise Refused(422, "name a group, or ids, or all: true")
        selection = _DEAD if ids is None else _DEAD._replace(ids=frozenset(ids))
        goes = (lambda job: _group_id(*cause_of(job)) == group) if group else None
        return touch(service, action, selection, call.body, goes=goes)

    return handler


# -- workers


def workers_form(service: Service, *, at_once: bool = True) -> list[dict[str, Any]]:
    """The workers, each with the command that it runs.

    Unless `at_once`, unknown facts about a new run follow the next time: most runs end earlier, and
    reading the queue for each takes long.
    """
    found: list[dict[str, Any]] = service.operations.form("worker", "list")["workers"]
    running = {(worker["job"], worker["run"]) for worker in found if worker["job"]}
    # Command and start of a run never change: they are read once.
    known, kept = service.runs, {}
    for run in running:
        kept[run] = known.get(run) or _run(service, run, ask=at_once or run in known)
    service.runs = kept
    for worker in found:
        command, since = kept.get((worker["job"], worker["run"])) or (None, None)
        worker["command"], worker["job_since"] = command, since
    return found


def _run(
    service: Service, run: tuple[str, int | None], *, ask: bool
) -> tuple[str, str | None] | None:
    """Command and start of a run; None if it is over or unknown; `ask`: read the queue then."""
    job = service.mirror.known(run[0])
    if job is None or job.state != "in_progress" or job.run != run[1]:
        try:
            job = service.operations.job(run[0]) if ask else None
        except NoSuchJob:
            job = None
    if job is None or job.run != run[1]:
        return None
    return light(job)["command"], job.started_at


def list_workers(service: Service, call: Call) -> Answer:
    """The workers and what they run."""
    service.mirror.catch_up()
    found = workers_form(service)
    return Answer(200, {"items": found, "total": len(found)})


def start_workers(service: Service, call: Call) -> Answer:
    """Start workers in the background."""
    count = call.body["count"] or 1
    pids = service.operations.start_workers(count)
    form = {"pids": pids, "items": workers_form(service)}
    return Answer(202, form, did=f"started {counted(len(pids), 'worker')}")


def stop_workers(service: Service, call: Call) -> Answer:
    """Tell workers to stop once they have finished their jobs."""
    now = bool(call.body["now"])
    asked: list[str] = []
    if call.body["all_hosts"]:
        with service.operations.queue() as queue:
            asked = queue.stop_elsewhere(now=now)
    pids = service.operations.stop_workers(call.body["workers"], now=now)
    did = f"told {counted(len(pids) + len(asked), 'worker')} to stop"
    return Answer(202, {"pids": pids, "asked": asked}, did=did)


def scale_workers(service: Service, call: Call) -> Answer:
    """Start workers, or tell some to stop, until `count` run."""
    started, stopped = service.operations.scale_workers(call.body["count"])
    many = counted(len(started or stopped), "worker")
    did = f"started {many}" if started else f"told {many} to stop"
    return Answer(202, {"started": started, "stopped": stopped}, did=did)


# -- what may start


def pause(service: Service, call: Call) -> Answer:
    """Pause the queue, or jobs with one of the tags."""
    tags = call.body["tags"] or []
    with service.operations.writing() as queue:
        paused = queue.pause(tags)
    return Answer(200, {"paused": paused}, did=f"paused {', '.join(tags) or 'all'}")


def resume(service: Service, call: Call) -> Answer:
    """End a pause."""
    tags = call.body["tags"] or []
    with service.operations.writing() as queue:
        paused = queue.resume(tags)
    return Answer(200, {"paused": paused}, did=f"resumed {', '.join(tags) or 'all'}")


def limits(service: Service, call: Call) -> Answer:
    """The tags with a limit, and how many jobs of each run."""
    with service.operations.queue() as queue:
        return Answer(200, limits_form(in_use(queue)))


def limit(service: Service, call: Call) -> Answer:
    """Set or remove the limit of a tag."""
    tag, most = call.body["tag"], call.body["most"]
    with service.operations.writing() as queue:
        queue.limit(tag, most)
        form = limits_form(in_use(queue))
    return Answer(200, form, did=f"limited {tag} to {'any number' if most is None else most}")


# -- care


def checkpoint(service: Service, call: Call) -> Answer:
    """Bring the JSON files up to date."""
    with service.operations.writing() as queue:
        queue.checkpoint()
    return Answer(200, {"status": "ok"}, did="wrote the JSON files")


def doctor(service: Service, call: Call) -> Answer:
    """What is wrong with the queue's folder; mends nothing."""
    return Answer(200, service.operations.form("doctor", repair=False, json=True))


# -- settings


def _shown(settings: Settings) -> dict[str, Any]:
    return {setting.name: settings[setting.name] for setting in SETTINGS}


def config(service: Service, call: Call) -> Answer:
    """All settings, their meanings and defaults."""
    with service.operations.queue() as queue:
        settings = queue.settings()
    form = {
        "settings": _shown(settings),
        "about": {
            setting.name: {"meaning": setting.meaning, "default": setting.default}
            for setting in SETTINGS
        },
    }
    return Answer(200, form)


def change_config(service: Service, call: Call) -> Answer:
    """Change settings."""
    changes = check_settings(call.body)
    with service.operations.writing() as queue:
        settings = queue.change_settings(changes)
    return Answer(200, {"settings": _shown(settings)}, did=f"set {', '.join(changes)}")


# -- figures


def metrics(service: Service, call: Call) -> Answer:
    """Metrics in the text form of Prometheus, version 0.0.4."""
    form = status_form(service)
    states = [f'{{state="{state}"}} {count}' for state, count in form["jobs"].items()]
    workers, up = form["workers"], int(form["health"] != "stalled")
    figures = (
        ("jobs", "Jobs in each state.", states),
        ("workers", "Workers that live.", [f" {workers['active']}"]),
        ("workers_hindered", "Workers that cannot work.", [f" {len(workers['hindered'])}"]),
        ("changes_waiting", "Changes not in the JSON files yet.", [f" {form['changes_waiting']}"]),
        ("up", "1 unless jobs wait that nobody can run.", [f" {up}"]),
        ("serve_start_time_seconds", "When this server started.", [f" {service.started:.3f}"]),
    )
    lines = []
    for name, told, values in figures:
        lines += [f"# HELP queuectl_{name} {told}", f"# TYPE queuectl_{name} gauge"]
        lines += [f"queuectl_{name}{value}" for value in values]
    body = "\n".join([*lines, ""]).encode()
    return Answer(200, body, media="text/plain; version=0.0.4; charset=utf-8")
