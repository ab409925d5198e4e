"""Jobs and settings from programs: the checks of the commands, but without coercion.

A command line has only text, so there "5" is 5. JSON has types, and a wrong type is a mistake. Each
mistake is reported with its JSON pointer, in the words of the command line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from queuectl.config import check_setting, find_setting
from queuectl.errors import InvalidInput
from queuectl.model.fields import DELAY, UNSETTABLE, Field, check_value, find_field
from queuectl.model.ids import ID
from queuectl.web.exchange import fault, wrong

_WHOLE, _PLAIN, _SECONDS = (
    ("int", "count", "size"),
    ("number", "share"),
    ("duration", "delay", "period"),
)
_ENDS = ("timeout", "signal")
_WANTED = {
    **dict.fromkeys(_WHOLE, "a whole number"),
    **dict.fromkeys(_PLAIN, "a number"),
    **dict.fromkeys(_SECONDS, "a number of seconds"),
    "flag": "true or false",
    "tags": "a list of words",
    "ids": "a list of ids",
    "outcomes": "a list of exit codes and words",
}


def _is_fit(field: Field, value: object) -> bool:
    if field.kind == "flag":
        return isinstance(value, bool)
    if field.kind == "outcomes":
        return isinstance(value, list) and all(type(x) is int or x in _ENDS for x in value)
    if field.kind == "ids":
        return isinstance(value, list) and all(
            isinstance(word, str) and re.fullmatch(ID, word) for word in value
        )
    if field.kind == "tags":
        return isinstance(value, list)
    if field.kind in _WHOLE:
        return type(value) is int
    return field.kind not in (*_PLAIN, *_SECONDS) or type(value) in (int, float)


def _check_clock(field: Field, value: Any) -> None:
    """Raise InvalidInput for a cron that matches no day, or an unknown time zone."""
    if field.name in ("cron", "tz"):
        from queuectl.model.cron import next_fitting  # rarely needed

        fields, zone = (value, None) if field.name == "cron" else ("@daily", value)
        next_fitting(fields, zone, 0.0)


def _field(name: str) -> Field:
    return DELAY if name == DELAY.name else find_field(name)


def check_draft(draft: object, *, editing: bool = False, at: object = None) -> dict[str, Any]:
    """The fields of a new job, or (`editing`) of changes; Refused (422) names all mistakes.

    Null values are left out, except where a change unsets a field. `at`: the position of the draft
    in the body, unless it is the whole body.
    """
    here = () if at is None else (at,)
    if not isinstance(draft, dict):
        raise wrong([fault("a job must be an object", *here)])
    fields: dict[str, Any] = {}
    faults = []
    for name, value in draft.items():
        try:
            field = _field(name)
            if value is None:
                if editing and field.name in UNSETTABLE:
                    fields[name] = None
                continue
            if not (field.enqueue if not editing else field.edit):
                what = "changed" if editing else "set"
                raise InvalidInput(f"field '{name}' cannot be {what}: queuectl sets it")
            if not _is_fit(field, value):
                shown = json.dumps(value, ensure_ascii=False)
                shown = shown if len(shown) <= 40 else "that"
                raise InvalidInput(f"{name} must be {_WANTED[field.kind]}, not {shown}")
            check_value(field, value)
            _check_clock(field, value)
            fields[name] = value
        except InvalidInput as exc:
            faults.append(fault(str(exc), *here, name))
    if not editing and not faults and "command" not in fields:
        faults.append(fault("a job needs a command", *here, "command"))
    if faults:
        raise wrong(faults)
    return fields


def check_drafts(drafts: object, most: int) -> list[dict[str, Any]]:
    """Several new jobs, checked like one; the pointers begin with their index."""
    if not isinstance(drafts, list):
        raise wrong([fault("the body must be an array of jobs")])
    if not 1 <= len(drafts) <= most:
        raise wrong([fault(f"give 1 to {most} jobs")])
    return [check_draft(draft, at=index) for index, draft in enumerate(drafts)]


def check_settings(body: object) -> dict[str, Any]:
    """Settings by name; null puts one back to its default. Refused (422) names all mistakes."""
    if not isinstance(body, dict) or not body:
        raise wrong([fault("the body must be an object of settings")])
    found: dict[str, Any] = {}
    faults = []
    for name, value in body.items():
        try:
            setting = find_setting(name)
            if setting.name in found:
                raise InvalidInput(f"setting '{setting.name}' is given twice")
            found[setting.name] = None if value is None else check_setting(setting, value)
        except InvalidInput as exc:
            faults.append(fault(str(exc), name))
    if faults:
        raise wrong(faults)
    return found


def same_content(draft: Mapping[str, object], form: Mapping[str, object]) -> bool:
    """Whether a job has the content of the draft; a delay cannot be compared."""
    for name, value in draft.items():
        field = _field(name)
        if field is DELAY or field.name == "state":
            continue
        kept = form.get(field.name)
        kept = list(kept) if isinstance(kept, tuple) else kept
        wanted = check_value(field, value)
        wanted = list(wanted) if isinstance(wanted, tuple) else wanted
        if field.name in ("cwd", "env_file") and not str(wanted).startswith("/"):
            continue
        if kept != wanted:
            return False
    return True
