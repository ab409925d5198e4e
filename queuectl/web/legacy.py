"""The ten endpoints of an earlier tool, with its paths, names and answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from queuectl.commands.render import counted
from queuectl.config import find_setting
from queuectl.model.job import Job
from queuectl.model.selection import Selection
from queuectl.web.drafts import check_draft, check_settings
from queuectl.web.exchange import Answer, Call, Refused, to_json
from queuectl.web.jobs_api import shown, status_form
from queuectl.web.service import Service

_PART = 1 << 16  # bytes


def enqueue(service: Service, call: Call) -> Answer:
    """Add a job."""
    [job], _ = service.operations.enqueue([check_draft(call.body)])
    form = {"status_code": 200, "status": "success", "inserted_id": job.id}
    return Answer(200, form, did=f"enqueued {job.id}")


def list_jobs(service: Service, call: Call) -> Answer:
    """All jobs, or those in a state."""
    state = call.query["state"]
    selection = Selection(states=frozenset({state}) if state else None, limit=call.query["limit"])
    return Answer(200, _in_parts(service.operations.jobs(selection), b"[", b"]"))


def _in_parts(jobs: Iterable[Job], before: bytes, behind: bytes) -> Iterator[bytes]:
    """The jobs as JSON between two texts, with only a part of many jobs in memory at a time."""
    held, size = [before], 0
    for number, job in enumerate(jobs):
        held.append((b"," if number else b"") + to_json(shown(job)))
        size += len(held[-1])
        if size >= _PART:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join([*held, behind])


def update(service: Service, call: Call) -> Answer:
    """Change a job's fields, or its state: pending or cancelled."""
    body = dict(call.body) if isinstance(call.body, dict) else {}
    job_id = body.pop("id", None)
    if not isinstance(job_id, str):
        raise Refused(422, "the id of the job is missing")
    fields = check_draft(body, editing=True)
    if not fields:
        job = service.operations.job(job_id)
        return Answer(200, {"status_code": 200, "details": f"Job '{job.id}' stays as it is."})
    [job] = service.operations.touch("update_all", [job_id], changes=fields)
    form = {"status_code": 200, "details": f"Job '{job.id}' is updated; it is {job.state}."}
    return Answer(200, form, did=f"changed {job.id}")


def start_workers(service: Service, call: Call) -> Answer:
    """Workers started."""
    pids = service.operations.start_workers(call.query["num_workers"] or 1)
    form = {"status_code": 200, "details": f"Started {len(pids)} worker(s).", "pids": pids}
    return Answer(200, form, did=f"started {counted(len(pids), 'worker')}")


def stop_workers(service: Service, call: Call) -> Answer:
    """Tell all workers to stop."""
    pids = service.operations.stop_workers(None)
    told = f"{len(pids)} worker(s) stop once their jobs are finished." if pids else "None runs."
    form = {"status_code": 200, "details": told, "pids": pids}
    return Answer(200, form, did=f"told {counted(len(pids), 'worker')} to stop")


def status(service: Service, call: Call) -> Answer:
    """The status of the queue."""
    found = status_form(service)
    jobs = found["jobs"]
    summary = {"total_jobs": found["total"], "pending": jobs["pending"]}
    summary |= {"processing": jobs["in_progress"], "completed": jobs["completed"]}
    summary |= {"failed": jobs["failed"], "dead": jobs["dead"]}
    form = {
        "timestamp": found["time"],
        "summary": summary,
        "active_workers": found["workers"]["active"],
        "system_status": _word(found),
    }
    return Answer(200, form)


def _word(found: dict[str, Any]) -> str:
    if found["health"] == "stalled":
        return "unhealthy"
    if found["health"] == "degraded":
        return "degraded"
    jobs = found["jobs"]
    live = jobs["pending"] + jobs["in_progress"] + jobs["failed"]
    return "healthy" if live else "idle"


def dlq_list(service: Service, call: Call) -> Answer:
    """The dead jobs."""
    dead = service.operations.jobs(Selection(states=frozenset({"dead"})))
    return Answer(200, _in_parts(dead, b'{"status":"success","jobs":[', b"]}"))


def dlq_retry(service: Service, call: Call) -> Answer:
    """Retry a dead job."""
    job_id = call.query["job_id"]
    service.operations.touch("retry_dead", [job_id])
    told = f"Job '{job_id}' has been moved back to the main queue for retry."
    return Answer(200, {"status": "success", "details": told}, did=f"retried {job_id}")


def config_get(service: Service, call: Call) -> Answer:
    """One setting."""
    key = call.query["key"]
    setting = find_setting(key)
    with service.operations.queue() as queue:
        form = {"status": "success", "key": key, "value": queue.settings()[setting.name]}
    return Answer(200, form)


def config_set(service: Service, call: Call) -> Answer:
    """Change one setting."""
    key, value = call.body["key"], call.body["value"]
    setting = find_setting(key)
    changes = check_settings({setting.name: value})
    with service.operations.writing() as queue:
        settings = queue.change_settings(changes)
    form = {"status": "success", "key": key, "value": settings[setting.name]}
    return Answer(200, form, did=f"set {setting.name}")
