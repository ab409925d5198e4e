"""The documents of jobs: the same fields as in the JSON files, with the id as `_id`.

As in those files, values equal to their default are left out, and unknown keys are kept. The
store's own fields begin with an underscore and are not shown: `_seq` keeps the order in which jobs
came in; `_nonce` identifies the author of an insert; `_lane` says where a claim looks for a waiting
job (see lanes.py); `_key` is what a live job holds of its unique key (see keys.py); `_waits` and
`_kids` record which jobs wait for which (see kin.py); `_batch` and `_as` hide a job until all jobs
enqueued with it are there; `_followed` notes the batches that a change of this job added (see
staging.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from queuectl.errors import BadFile, InvalidInput
from queuectl.model.fields import FIELDS, RECURS, STATES
from queuectl.model.ids import ID
from queuectl.model.job import LIVE, Job, job_from_person
from queuectl.model.lifecycle import claimed
from queuectl.model.times import format_time

Document = dict[str, Any]

STAGED = "staged"  # the state in the document of a job that is not enqueued yet
FOLLOWED = "_followed"
KEY = "_key"
WAITS, KIDS = "_waits", "_kids"
_OWN = ("_seq", "_nonce", "_lane", KEY, WAITS, KIDS, "_batch", "_as", FOLLOWED)
# Fields in every document, whatever their values.
ALWAYS = ("state", "priority", "run_at", "command", "max_retries", "created_at", "updated_at")
_NEEDED = {"id", *ALWAYS}
_LONG_AGO = "1970-01-01T00:00:00.000000Z"  # of fields that an edit removed
_DEFAULTS = Job._field_defaults
_IS_ID = re.compile(ID).fullmatch
FIRST_REV: int = _DEFAULTS["rev"]
_JSON = frozenset((str, int, float, bool, type(None)))  # types that need no further check
_KINDS: dict[str, set[type]] = {
    **{kind: {str} for kind in ("id", "text", "word", "time", "state", "key", "cron")},
    **{kind: {int} for kind in ("int", "count", "size")},
    **{kind: {int, float} for kind in ("duration", "delay", "number", "share", "period")},
    **{"env": {dict}, "flag": {bool}, "tags": {list}, "ids": {list}, "outcomes": {list}},
}
TYPES = {field.name: _KINDS[field.kind] for field in FIELDS if field.kind in _KINDS}
TYPES["history"] = {list}
TYPES |= {
    name: types | {type(None)} for name, types in TYPES.items() if _DEFAULTS.get(name, 0) is None
}
# What a rule reads of a job besides what it changes: if one of these differs, the rule must run
# again. `rev` alone would not show an edit in mongosh, which does not change it.
_READ = ("state", "rev", "run", "worker", "cancel_requested", "run_at", "max_retries")


def to_document(job: Job, **own: object) -> Document:
    """The job's document, without what equals its default.

    `own`: fields that the store adds; None leaves one out.
    """
    document: Document = {"_id": job.id, KEY: _halves(job)}
    for name, value in zip(Job._fields[1:-1], job[1:-1], strict=True):
        document[name] = _kept(name, value)
    document |= _extra(job)
    document |= own
    return {name: value for name, value in document.items() if value is not None}


def _kept(name: str, value: object) -> object:
    """The form of a field in a document; None if it is left out."""
    return _plain(value) if name in ALWAYS or value != _DEFAULTS[name] else None


def _extra(job: Job) -> Mapping[str, Any]:
    extra = job.extra or {}
    for name in extra:
        if name[:1] in ("_", "$") or "." in name:
            raise InvalidInput(
                f"job '{job.id}' has the key '{name}', which MongoDB cannot keep: rename it"
            )
    return extra


def _halves(job: Job) -> list[str] | None:
    if job.unique is None or job.state not in LIVE:
        return None
    return [first_half(job.unique), second_half(job.unique)]


def first_half(key: str) -> str:
    """The part of its key that a job holds for as long as it lives; see keys.py."""
    return f"1/{key}"


def second_half(key: str) -> str:
    """The part that it holds until another job is added beside it."""
    return f"2/{key}"


def check_document(job: Job) -> None:
    """Raise InvalidInput, naming the job, for what MongoDB cannot keep."""
    from bson import encode, errors

    try:
        encode(to_document(job))
    except (OverflowError, errors.BSONError, InvalidInput) as exc:
        raise InvalidInput(f"MongoDB cannot keep job '{job.id}': {exc}") from None


def to_job(document: Mapping[str, Any]) -> Job:
    """The job of a document; BadFile for one that an edit broke."""
    form = {name: value for name, value in document.items() if name not in _OWN}
    form["id"] = form.pop("_id")
    fits = form.get("state") in STATES and form.keys() >= _NEEDED
    fits = fits and _IS_ID(str(form["id"])) is not None
    for name, value in form.items():
        if type(value) not in TYPES.get(name, _JSON):
            form[name] = _as_json(value)
            fits = fits and (name not in TYPES or type(form[name]) in TYPES[name])
    env = form.get("env")
    if fits and (env is None or all(type(text) is str for text in env.values())):
        job = Job.from_dict(form)
        if not (job.extra and TYPES.keys() & job.extra.keys()):  # ours, not shown
            return job
    try:
        return job_from_person(form, now=_LONG_AGO, state="pending")
    except InvalidInput as exc:
        raise BadFile(
            f"the document of job {form['id']!r} was edited and is not a job now: {exc}; mend it "
            "in mongosh"
        ) from exc


def difference(old: Job, new: Job) -> tuple[Document, Document]:
    """The condition that a stored job is still `old`, and the update that makes it `new`.

    Only changes are written, so that an edit of another key survives.
    """
    as_was: Document = {"_id": old.id}
    to_set, to_unset = {}, {}

    def change(name: str, after: object) -> None:
        if after is None:
            to_unset[name] = ""
        else:
            to_set[name] = after

    for name, before, after in zip(Job._fields[1:-1], old[1:-1], new[1:-1], strict=True):
        if before != after:
            change(name, _kept(name, after))
        elif name not in _READ:
            continue
        as_was[name] = {"$eq": _kept(name, before)}  # null also matches a field that is left out
    if old.extra != new.extra:
        had, has = _extra(old), _extra(new)
        for name in had.keys() | has.keys():
            if had.get(name) != has.get(name):
                change(name, has.get(name))
                as_was[name] = {"$eq": had.get(name)}
    if (halves := _halves(new)) != _halves(old):
        change(KEY, halves)  # not compared: it may have been split
    update = {"$set": to_set, "$unset": to_unset}
    return as_was, {step: names for step, names in update.items() if names}


def _as_json(value: object) -> object:
    """A value of a type that only MongoDB has (date, ObjectId, NumberLong) in its JSON form."""
    if isinstance(value, datetime):
        return format_time(value.replace(tzinfo=timezone.utc).timestamp())
    if isinstance(value, Mapping):
        return {name: _as_json(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_as_json(entry) for entry in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return value if value is None or type(value) in _JSON else str(value)


def _plain(value: object) -> object:
    if type(value) in _JSON:
        return value
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return dict(value) if isinstance(value, Mapping) else value


def _claim_update() -> Document:
    """The rule of a claim, lifecycle.claimed, as a pipeline that the server applies.

    It is derived from the rule itself, so that the two cannot differ. None unsets a field.
    """
    idle = Job("id", "pending", 0, "due", "command", 0, "then", "then", log_word="word")
    idle = idle._replace(finished_at="then", exit_code=1, error="why")
    before, after = to_document(idle), to_document(claimed(idle, "$worker", "$now", "$word"))
    to_set: Document = {}
    for name, value in after.items():
        if name in ("run", "rev"):
            first = _DEFAULTS[name]
            to_set[name] = {"$add": [{"$ifNull": [f"${name}", first]}, value - first]}
        elif name != "log_word" and before.get(name) != value:
            to_set[name] = value
    return to_set | {name: None for name in before if name not in after}


_CLAIM = _claim_update()


def claim_update(worker: str, now: str, log_word: str | None) -> list[Document]:
    """The update of the document that `worker` claims at `now`; `log_word` is for a first run.

    It does not change a schedule, which never runs itself, or a job that needs a lock or a parent.
    """
    values = {"$worker": worker, "$now": now}
    to_set = {
        name: {"$literal": values[value]} if isinstance(value, str) and value in values else value
        for name, value in _CLAIM.items()
        if value is not None
    }
    if log_word is not None:
        ran = {"$gt": [{"$ifNull": ["$run", 0]}, 0]}
        to_set["log_word"] = {"$cond": [ran, "$log_word", log_word]}
    needs = {
        "$or": [
            {"$isArray": "$lock"},
            {"$isArray": f"${WAITS}"},
            *({"$gt": [f"${name}", None]} for name in RECURS),
        ]
    }
    claimed: object = {"$mergeObjects": ["$$ROOT", to_set]}
    for name, value in _CLAIM.items():
        if value is None:
            claimed = {"$unsetField": {"field": name, "input": claimed}}
    # One condition for the whole document: one per field costs the server more than the claim.
    return [{"$replaceWith": {"$cond": [needs, "$$ROOT", claimed]}}]
