"""Every result as data: what `--json` prints, see docs/json.md.

Within a schema keys are only added. `status` and `enqueue` load this only for `--json`.
"""

from __future__ import annotations

import json

from queuectl.model.secret_names import hidden

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from queuectl.config import Setting, Settings
    from queuectl.model.job import Job
    from queuectl.store.facts import Finding, Summary, WorkerInfo

    Form = dict[str, Any]

SCHEMA = 1


def job_form(job: Job, reveal: bool = False) -> Form:
    """A job: every field, even if not set, then the keys that queuectl does not know.

    Variables whose names suggest a secret are hidden unless `reveal` is set.
    """
    form = {name: getattr(job, name) for name in job._fields if name != "extra"}
    if job.env and not reveal:
        form["env"] = hidden(job.env)
    form.update(job.extra or {})
    return form


def explain_form(
    job: Job,
    reasons: Iterable[tuple[str, str]],
    retries: Iterable[tuple[int, float]],
    ahead: int,
    workers: int,
) -> Form:
    """Why a job does not run, or ended as it did; `workers`: the living ones."""
    return {
        "id": job.id,
        "state": job.state,
        "reasons": [{"code": code, "text": text} for code, text in reasons],
        "run_at": job.run_at,
        "attempts": job.attempts,
        "max_retries": job.max_retries,
        "retries": [{"retry": number, "delay": delay} for number, delay in retries],
        "ahead": ahead,
        "workers": workers,
        "error": job.error,
    }


def status_form(summary: Summary, hindered: Mapping[int, str], health: str, now: str) -> Form:
    """The status of the queue; `hindered`: by pid, why a worker cannot work."""
    return {
        "total": sum(summary.counts.values()),
        "jobs": dict(summary.counts),
        "workers": {
            "active": len(summary.worker_pids),
            "pids": list(summary.worker_pids),
            "hindered": [{"pid": pid, "why": why} for pid, why in hindered.items()],
        },
        "health": health,
        "paused": list(summary.paused),
        "changes_waiting": summary.waiting,
        "data": summary.folder,
        "time": now,
    }


def workers_form(workers: Sequence[WorkerInfo], hindered: Sequence[str]) -> Form:
    """Workers, living or lost; `hindered`: for each why it cannot work, or ""."""
    return {"workers": list(map(_worker_form, workers, hindered))}


def _worker_form(worker: WorkerInfo, hindered: str) -> Form:
    return {
        "id": worker.id,
        "pid": worker.pid,
        "alive": worker.alive,
        "since": worker.started_at or None,
        "job": worker.job_id,
        "run": worker.run or None,
        "left": [{"pid": pid, "user": user, "command": name} for pid, user, name in worker.left],
        "hindered": hindered or None,
        **({"host": worker.host, "beat": worker.beat} if worker.host else {}),
    }


def settings_form(settings: Settings, wanted: Iterable[Setting]) -> Form:
    """The values of the wanted settings."""
    return {"settings": {setting.name: settings[setting.name] for setting in wanted}}


def limits_form(rows: Iterable[tuple[str, int, int]]) -> Form:
    """The tags with a limit, as gate.usage returns them."""
    return {"limits": [{"tag": tag, "limit": most, "running": used} for tag, most, used in rows]}


def doctor_form(
    found: Iterable[Finding], mended: Sequence[str], unread: Sequence[str], folder: str
) -> Form:
    """What a check of the folder found, and what was mended before."""
    findings = [
        {"about": one.about, "problem": one.problem, "text": one.text, "todo": one.todo}
        for one in found
    ]
    return {
        "ok": not any(finding["problem"] for finding in findings),
        "findings": findings,
        "mended": mended,
        "unread": unread,
        "data": folder,
    }


def json_text(form: Mapping[str, object] | Iterable[object]) -> Iterator[str]:
    """The lines of a result: a document, or an array for a stream of forms."""
    if isinstance(form, dict):
        return iter([json.dumps(document(form), ensure_ascii=False, indent=2)])
    return json_array(form)


def json_line(form: object) -> str:
    """A value as JSON on one line."""
    return json.dumps(form, ensure_ascii=False)


def document(form: Mapping[str, object]) -> Form:
    """A result with its schema's number first."""
    return {"schema": SCHEMA, **form}


def json_array(forms: Iterable[object]) -> Iterator[str]:
    """The lines of a JSON array, one value for each line, made lazily."""
    held: str | None = None
    yield "["
    for form in forms:
        if held is not None:
            yield held + ","
        held = json_line(form)
    if held is not None:
        yield held
    yield "]"
