"""What a job's document may hold, as a rule by which the server refuses bad edits in mongosh.

Derived from the table of fields. The same types are checked again when a document is read: a
validator can be removed or bypassed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from queuectl.model.field_checks import LARGEST_LOG
from queuectl.model.fields import (
    FIELDS,
    LONGEST_KEY,
    MOST_COUNTED,
    PRIORITY_SPAN,
    STATES,
    Field,
)
from queuectl.model.ids import ID
from queuectl.model.times import LONGEST
from queuectl.store.mongodb.documents import ALWAYS, KEY, KIDS, STAGED, TYPES, WAITS

_NUMBER = ["int", "long"]
_NAMES: dict[type, list[str]] = {
    **{str: ["string"], int: _NUMBER, float: ["double"], bool: ["bool"]},
    **{dict: ["object"], list: ["array"], type(None): ["null"]},
}
_TEXT = {"bsonType": "string"}
_LEAP_YEAR = r"(\d\d(0[48]|[2468][048]|[13579][26])|([2468][048]|[3579][26])00)"
_DAY = r"((0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}Z"
# By kind; each condition applies only to values of its own type.
_MORE: dict[str, dict[str, Any]] = {
    "duration": {"minimum": 0, "exclusiveMinimum": True, "maximum": LONGEST},
    "delay": {"minimum": 0, "maximum": LONGEST},
    "period": {"minimum": 1, "maximum": LONGEST},
    "int": {"minimum": -PRIORITY_SPAN, "maximum": PRIORITY_SPAN},
    "number": {"minimum": 0, "maximum": 1e6},
    "share": {"minimum": 0, "maximum": 1},
    "count": {"minimum": 0, "maximum": MOST_COUNTED},
    "size": {"minimum": 0, "maximum": LARGEST_LOG},
    "time": {"pattern": rf"^(?=19[7-9]|[2-9])(\d{{4}}-{_DAY}|{_LEAP_YEAR}-02-29)T{_CLOCK}\z"},
    "key": {"pattern": r"\S", "maxLength": LONGEST_KEY},
    "cron": {"pattern": r"^(@\S+|\S+( \S+){4})\z"},
    "id": {"pattern": rf"^{ID}\z"},  # it becomes part of file names
    "word": {"pattern": r"^[A-Za-z0-9]+\z"},
    "env": {"additionalProperties": False, "patternProperties": {r"^[^=]+\z": _TEXT}},
    "state": {"enum": [*STATES, STAGED]},
    "ids": {"items": {**_TEXT, "pattern": rf"^{ID}\z"}},
    "tags": {"items": _TEXT},
    "outcomes": {
        "minItems": 1,
        "items": {"bsonType": [*_NUMBER, "string"], "enum": [*range(1, 256), "timeout", "signal"]},
    },
}
# What the store adds; see documents.py.
_OWN: dict[str, dict[str, Any]] = {
    **{name: {"bsonType": _NUMBER} for name in ("_seq", KIDS)},
    **{name: _TEXT for name in ("_lane", "_batch", "_as", "_nonce")},
    **{name: {"bsonType": "array", "items": _TEXT} for name in (KEY, WAITS)},
}


def _rule(field: Field) -> dict[str, Any]:
    if field.name not in TYPES:
        return {}
    more = {"items": {"bsonType": "object"}} if field.name == "history" else _MORE.get(field.kind)
    names = [name for kind in TYPES[field.name] for name in _NAMES[kind]]
    return {"bsonType": names, **(more or {})}


def validator() -> Mapping[str, Any]:
    """The rule of the collection `jobs`; unknown keys may hold anything."""
    rules = {"_id" if field.name == "id" else field.name: _rule(field) for field in FIELDS}
    rules |= _OWN
    return {"$jsonSchema": {"required": list(ALWAYS), "properties": rules}}
