"""`/api/v1/jobs`: lists, single jobs, their output, and actions on one or many."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable
from typing import Any

from queuectl.commands.forms import job_form
from queuectl.commands.render import counted
from queuectl.commands.selecting import ABLE, USUAL
from queuectl.errors import Conflict, DuplicateId, InvalidInput, KeyTaken, OtherJobs, Outdated
from queuectl.model.job import Job
from queuectl.model.meeting import Meeting
from queuectl.model.selection import Selection, matches
from queuectl.model.times import format_time, parse_time
from queuectl.web.drafts import check_draft, check_drafts, same_content
from queuectl.web.exchange import Answer, Call, Refused, fault, refusal_of
from queuectl.web.mirror import ORDERS, light, walk
from queuectl.web.operations import Action
from queuectl.web.routes import V1
from queuectl.web.service import Service, masked, rev_tag, unchanged, wanted_rev

MOST_BATCH = 10_000
_MOST_IDS = 1000  # ids of the changed jobs
_JOBS = f"{V1}/jobs"
GUARDED = ("command", "env", "cwd")  # a change of these must name the rev that it is based on
LIGHT_MORE = ("command", "error", "cwd", "env", "timeout", "rerun", "worker", "history")


def shown(job: Job) -> dict[str, Any]:
    """Every field of a job, with its variables masked."""
    return masked(job_form(job))


def _answer(job: Job, status: int = 200, did: str = "", **headers: str) -> Answer:
    return Answer(status, shown(job), {"etag": rev_tag(job), **headers}, did=did)


# -- lists


def selection_of(values: dict[str, Any]) -> Selection:
    """The selection in the parameters, or in the members of a bulk action."""

    def words(name: str) -> frozenset[str] | None:
        found = values.get(name)
        return frozenset(found) if found else None  # lists in a body are never empty

    return Selection(
        ids=words("ids"),
        states=words("state"),
        tags=words("tag") or frozenset(),
        match=values.get("q") or None,
        error=values.get("error") or None,
        exit_code=values.get("exit_code"),
        since=_moment(values["since"]),
        until=_moment(values["until"]),
    )


def _moment(text: str | None) -> str | None:
    return None if text is None else format_time(parse_time(text))


def list_jobs(service: Service, call: Call) -> Answer:
    """A page of jobs."""
    etag = service.etag()
    if (same := unchanged(call, etag)) is not None:
        return same
    values = call.query
    order, limit = values["sort"] or "-created_at", values["limit"] or 50
    selection = selection_of(dict(values))
    behind = _read_cursor(values["cursor"], order)
    jobs, total = _found(service, selection, order, behind, limit + 1)
    more = jobs[limit:]
    jobs = jobs[:limit]
    form: dict[str, Any] = {
        "items": _items(service, jobs, values["fields"]),
        "next": _cursor(order, jobs[-1]) if more else None,
        "total": total,
        "position": service.mirror.position,
    }
    headers = {"etag": etag}
    if more:
        headers["link"] = f'<{_next_link(call, form["next"])}>; rel="next"'
    return Answer(200, form, headers)


def _found(
    service: Service, selection: Selection, order: str, behind: Any, count: int
) -> tuple[list[Job], int | None]:
    """The jobs of a page, and the number of all jobs if it is known."""
    found = service.mirror.first(order, lambda job: matches(job, selection), behind, count)
    if found is None:
        return walk(service.operations.jobs(selection), order, behind, count)
    plain = selection._replace(states=None) == Selection()
    if not plain:
        return found, len(found) if behind is None and len(found) < count else None
    counts = status_form(service)["jobs"]
    return found, sum(counts[state] for state in selection.states or counts)


def status_form(service: Service) -> dict[str, Any]:
    """The data of `status --json`."""
    form: dict[str, Any] = service.operations.form("status")
    return form


def _items(service: Service, jobs: list[Job], names: list[str]) -> list[dict[str, Any]]:
    """The jobs as lists show them, with more fields; jobs gone meanwhile stay light."""
    items = list(map(light, jobs))
    present = service.operations.present({job.id for job in jobs}) if names else {}
    for item in items:
        if (job := present.get(item["id"])) is not None:
            whole = shown(job)
            item.update({name: whole[name] for name in names if name in whole})
            item["cut"] = [name for name in item.get("cut", ()) if name not in names]
    return items


def _cursor(order: str, job: Job) -> str:
    text = json.dumps([order, *ORDERS[order][0](job)])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(text: str | None, order: str) -> tuple[object, ...] | None:
    if not text:
        return None
    kinds = {"priority": (int, str, str), "id": (str,)}.get(order.lstrip("-"), (str, str))
    try:
        padded = text + "=" * (-len(text) % 4)
        form = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        form = None
    if (
        not isinstance(form, list)
        or form[:1] != [order]
        or [type(value) for value in form[1:]] != list(kinds)
    ):
        raise Refused(400, "this cursor is not one of this list")
    return tuple(form[1:])


def _next_link(call: Call, cursor: str) -> str:
    from urllib.parse import urlencode

    pairs = []
    for name, value in call.query.items():
        if name != "cursor" and value not in (None, []):
            pairs += [(name, one) for one in (value if isinstance(value, list) else [value])]
    return "/api/v1/jobs?" + urlencode([*pairs, ("cursor", cursor)])


# -- making jobs


def create(service: Service, call: Call) -> Answer:
    """Add a job, once for each key."""
    draft = check_draft(call.body)
    key = call.headers.get("idempotency-key")
    if key is not None and not re.fullmatch(r"[!-~]{1,200}", key):
        raise Refused(400, "an Idempotency-Key is a word of 1 to 200 characters of ASCII")
    only_new = call.headers.get("if-none-match")
    if only_new not in (None, "*"):
        raise Refused(400, "If-None-Match is * here: only if there is no such job")
    meeting = _meeting(call)
    own = key is not None and "id" not in draft and meeting != "replace"
    if key is not None and own:
        draft["id"] = "key-" + hashlib.sha256(key.encode()).hexdigest()[:32]
    try:
        [job], instead = service.operations.enqueue([draft], meeting)
    except DuplicateId as exc:
        if only_new:
            raise Refused(412, str(exc), job=f"{_JOBS}/{exc.job_id}") from exc
        return _there_already(service, draft, key, own, exc)
    if instead:
        return _answer(job, 200, f"replaced {job.id}" * (meeting == "replace"))
    return _answer(job, 201, f"enqueued {job.id}", location=f"{_JOBS}/{job.id}")


def _meeting(call: Call) -> Meeting:
    wanted: Meeting = call.query["on_conflict"] or "refuse"
    return wanted


def _there_already(
    service: Service, draft: dict[str, Any], key: str | None, own: bool, error: DuplicateId
) -> Answer:
    """The answer for a taken id or unique key; `own`: the id comes from the key."""
    job = service.operations.job(error.job_id)
    key = None if isinstance(error, KeyTaken) else key
    where = f"{_JOBS}/{job.id}"
    if key is not None and same_content(draft, job_form(job, reveal=True)):
        return _answer(job, 200, location=where)
    if key is not None and own:
        raise Refused(422, "this Idempotency-Key was used for another job", job=where)
    raise Refused(409, str(error), headers={"link": f'<{where}>; rel="related"'}, job=where)


def create_many(service: Service, call: Call) -> Answer:
    """Add jobs, all or none, in their order."""
    drafts = check_drafts(call.body, MOST_BATCH)
    try:
        jobs, instead = service.operations.enqueue(drafts, _meeting(call))
    except (InvalidInput, DuplicateId) as exc:
        path = () if exc.index is None else (exc.index,)
        refused = refusal_of(exc)
        refused.more["errors"] = [fault(str(exc), *path)]
        raise refused from exc
    form = {"items": [light(job) for job in jobs], "total": len(jobs), "instead": instead}
    return Answer(201, form, did=f"enqueued {counted(len(jobs) - len(instead), 'job')}")


def check(service: Service, call: Call) -> Answer:
    """Check the fields of a job that is being typed; adds nothing."""
    if not isinstance(call.body, dict):
        raise Refused(422, "a job must be an object")
    try:
        check_draft(call.body)
    except Refused as exc:
        return Answer(200, {"ok": False, "errors": exc.more["errors"]})
    return Answer(200, {"ok": True, "errors": []})


# -- one job


def show(service: Service, call: Call) -> Answer:
    """All of a job."""
    job = service.operations.job(call.path["id"])
    return unchanged(call, rev_tag(job)) or _answer(job)


def variables(service: Service, call: Call) -> Answer:
    """The variables of a job, with their values."""
    job = service.operations.job(call.path["id"])
    return Answer(200, {"id": job.id, "env": dict(job.env or {})}, did=f"saw env of {job.id}")


def explain(service: Service, call: Call) -> Answer:
    """Why a job has not run yet or ended as it did; its kin, and the limits of its tags."""
    job_id = call.path["id"]
    bounds = service.operations.bounds(job_id)
    return Answer(200, service.operations.form("explain", job=job_id) | bounds)


_TOLD: dict[Action, str] = {
    "abandon": "cancelled",
    "cancel": "cancelled",
    "purge": "removed",
    "retry": "retried",
    "retry_dead": "retried",
    "update_all": "changed",
}


def _touch_one(service: Service, call: Call, action: Action, **how: Any) -> Answer:
    """Change the job in the path, if it is at the requested rev."""
    job_id = call.path["id"]
    try:
        done = service.operations.touch(action, [job_id], rev=wanted_rev(call), **how)
    except Outdated as exc:
        raise _outdated(exc) from exc
    if not done:
        raise Conflict(f"job '{job_id}' stays: jobs that have not ended wait for it")
    did = f"{_TOLD[action]} {job_id}"
    return Answer(204, did=did) if action == "purge" else _answer(done[0], did=did)


def _outdated(error: Outdated) -> Refused:
    return Refused(412, str(error), headers={"etag": f'"{error.rev}"'})


def change(service: Service, call: Call) -> Answer:
    """Change fields of a job."""
    fields = check_draft(call.body, editing=True)
    blind = [name for name in GUARDED if name in fields]
    if blind and "if-match" not in call.headers:
        raise Refused(428, f"a change of {blind[0]} needs If-Match with the ETag of the job")
    if fields:
        return _touch_one(service, call, "update_all", changes=fields)
    job, rev = service.operations.job(call.path["id"]), wanted_rev(call)
    if rev not in (None, job.rev):
        raise _outdated(Outdated(job.id, rev or 0, job.rev))
    return _answer(job)


def retry(service: Service, call: Call) -> Answer:
    """Retry a job."""
    return _touch_one(service, call, "retry")


def cancel(service: Service, call: Call) -> Answer:
    """Cancel a job, ask its worker to end it, or give up its run."""
    return _touch_one(service, call, "abandon" if call.query["abandon"] else "cancel")


def remove(service: Service, call: Call) -> Answer:
    """Remove an ended job for good, with its output."""
    return _touch_one(service, call, "purge")


# -- many jobs


def bulk(action: Action) -> Callable[[Service, Call], Answer]:
    """The handler that retries, cancels or removes all selected jobs."""

    def handler(service: Service, call: Call) -> Answer:
        selection = _selected(call)
        if selection.states is None:
            states = (USUAL if selection.ids is None else ABLE)[action]
            selection = selection._replace(states=frozenset(states))
        if call.body.get("older_than") is not None:
            before = format_time(time.time() - call.body["older_than"])
            selection = selection._replace(ended_by=before)
        return touch(service, action, selection, call.body)

    return handler


def _selected(call: Call) -> Selection:
    selection = selection_of(call.body)
    if selection == Selection():
        raise Refused(422, "name the jobs: ids, state, tag, q, error, exit_code, since, until")
    return selection


def change_many(service: Service, call: Call) -> Answer:
    """Change fields of all selected jobs."""
    selection, given = _selected(call), call.body["set"]
    fields = {} if given is None else check_draft(given, editing=True, at="set")
    if blind := [name for name in GUARDED if name in (given or {})]:
        raise Refused(422, f"{blind[0]} is changed one job at a time, with If-Match")
    tags = call.body["add_tags"] or (), call.body["drop_tags"] or ()
    if not fields and not any(tags):
        _check_expect(call.body)
        form = {"count": 0, "ids": [], "kept": [], "done": not call.body["dry_run"]}
        return Answer(200, form)
    how = {"changes": fields, "tag": tags[0], "untag": tags[1]}
    return touch(service, "update_all", selection, call.body, **how)


def _check_expect(body: dict[str, Any]) -> None:
    if body["expect"] is None and not body["dry_run"]:
        raise Refused(428, "say with expect how many jobs to change (dry_run counts them)")


def touch(
    service: Service, action: Action, selection: Selection, body: dict[str, Any], **how: Any
) -> Answer:
    """Change the selected jobs, if there are as many as the request says.

    `how`: more arguments of the action; a `goes` among them is a test that a job must pass. Raises
    Refused if that number is missing, or if other jobs are selected by now.
    """
    kept: list[Job] = []
    if body["dry_run"]:
        done = service.operations.would_touch(action, selection, how.get("goes"))
    else:
        _check_expect(body)
        more = {"exactly": body["expect"]} | ({"kept": kept} if action == "purge" else {})
        try:
            done = service.operations.touch(action, selection, **how, **more)
        except OtherJobs as exc:
            raise Refused(409, str(exc), count=exc.count) from exc
    ids, stay = ([job.id for job in jobs][:_MOST_IDS] for jobs in (done, kept))
    form = {"count": len(done), "ids": ids, "kept": stay, "done": not body["dry_run"]}
    did = done and not body["dry_run"]
    return Answer(200, form, did=f"{_TOLD[action]} {counted(len(done), 'job')}" if did else "")


# -- output

MOST_OUTPUT = 1 << 20


def logs(service: Service, call: Call) -> Answer:
    """A part of a run's output, as text."""
    job = service.operations.job(call.path["id"])
    values = call.query
    offset, limit = values["offset"] or 0, values["limit"] or MOST_OUTPUT
    ranged = None if values["offset"] is not None else call.headers.get("range")
    if ranged is not None:
        span = _span(ranged)
        if span is None:
            ranged = None
        else:
            offset, limit = span
    part = service.operations.output(job, values["run"], offset, limit)
    headers = {
        "accept-ranges": "bytes",
        "x-log-size": str(part.size),
        "x-log-complete": "true" if part.complete else "false",
    }
    if ranged is not None and (not part.data or (offset > 0 and offset >= part.size)):
        raise Refused(
            416, "the output is shorter", headers={"content-range": f"bytes */{part.size}"}
        )
    data, begin = part.data, part.offset
    if ranged is None:
        while begin > 0 and begin - part.offset < 3 and data[:1] and data[0] & 0xC0 == 0x80:
            data, begin = data[1:], begin + 1
        if begin + len(data) < part.size or not part.complete:
            data = data[: whole_signs(data)]
    headers["x-log-offset"] = str(begin)
    status = 200
    if ranged is not None:
        status = 206
        headers["content-range"] = f"bytes {begin}-{begin + len(data) - 1}/{part.size}"
    return Answer(status, data, headers, "text/plain; charset=utf-8")


def find_in_logs(service: Service, call: Call) -> Answer:
    """Where a run's output contains a text."""
    job, values = service.operations.job(call.path["id"]), call.query
    if not values["q"]:
        raise Refused(400, "parameter 'q' is empty")
    where = values["offset"] or 0, bool(values["back"])
    found = service.operations.find_output(job, values["run"], values["q"], *where)
    form = {"offset": found.offset, "next": found.go_on}
    return Answer(200, form | {"size": found.size, "complete": found.complete})


def _span(ranged: str) -> tuple[int, int] | None:
    """Offset and length of a single requested range; None for anything else."""
    unit, equals, span = ranged.partition("=")
    first, dash, last = span.strip().partition("-")
    if unit.strip() != "bytes" or not equals or not dash or "," in span:
        return None
    if not all(word == "" or (word.isascii() and word.isdigit()) for word in (first, last)):
        return None
    if len(first) > 15 or len(last) > 15 or not (first or last):
        return None
    if not first:
        return (-min(int(last), MOST_OUTPUT), MOST_OUTPUT) if int(last) else None
    most = MOST_OUTPUT if not last else int(last) - int(first) + 1
    return (int(first), min(most, MOST_OUTPUT)) if most > 0 else None


def whole_signs(data: bytes) -> int:
    """The number of bytes without a UTF-8 character that is cut off at their end."""
    for back in range(1, min(4, len(data)) + 1):
        lead = data[-back]
        if lead & 0xC0 == 0xC0:
            length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return len(data) - (back if length > back else 0)
        if lead < 0x80:
            break
    return len(data)
