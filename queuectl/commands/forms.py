"""Every answer as data: what `--json` prints, as docs/json.md describes it.

Within a schema keys are only ever added. `status` and `enqueue` load this for `--json` only.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from queuectl.model.job import Job

    Form = dict[str, Any]

SCHEMA = 1


def job_form(job: Job) -> Form:
    """A job: every field, also those not set, then the keys that queuectl does not know."""
    form = {name: getattr(job, name) for name in job._fields if name != "extra"}
    form.update(job.extra or {})
    return form


def jobs_form(jobs: Iterable[Job]) -> Form:
    """Jobs in their order."""
    return {"jobs": [job_form(job) for job in jobs]}


def json_text(form: Mapping[str, object] | Iterable[object]) -> Iterator[str]:
    """The lines of an answer: a document, or an array if it is a stream of forms."""
    return iter([json_document(form)]) if isinstance(form, dict) else json_array(form)


def json_line(form: object) -> str:
    """A value as JSON on one line."""
    return json.dumps(form, ensure_ascii=False)


def json_document(form: Mapping[str, object]) -> str:
    """An object as indented JSON, its schema's number first."""
    return json.dumps({"schema": SCHEMA, **form}, ensure_ascii=False, indent=2)


def json_array(forms: Iterable[object]) -> Iterator[str]:
    """The lines of a JSON array, one value a line, made as they are asked for."""
    held: str | None = None
    yield "["
    for form in forms:
        if held is not None:
            yield held + ","
        held = json_line(form)
    if held is not None:
        yield held
    yield "]"
