"""What a job's document may hold, as a rule by which the server refuses bad edits in mongosh.

Derived from the table of fields. The same types are checked again when a document is read: a
validator can be removed or bypassed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from queuectl.model.fields import FIELDS, MOST_COUNTED, STATES, Field
from queuectl.model.ids import ID
from queuectl.store.mongodb.documents import ALWAYS, STAGED, TYPES

_NAMES: dict[type, list[str]] = {
    **{str: ["string"], int: ["int", "long"], float: ["double"], bool: ["bool"]},
    **{dict: ["object"], list: ["array"], type(None): ["null"]},
}
_TEXT = {"bsonType": "string"}
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}Z"
# By kind; each condition applies only to values of its own type.
_MORE: dict[str, dict[str, Any]] = {
    **{kind: {"minimum": 0} for kind in ("duration", "delay", "number", "share")},
    "count": {"minimum": 0, "maximum": MOST_COUNTED},
    "period": {"minimum": 1},
    "time": {"pattern": rf"^\d{{4}}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T{_CLOCK}\z"},
    "id": {"pattern": rf"^{ID}\z"},  # it becomes part of file names
    "word": {"pattern": r"^[A-Za-z0-9]+\z"},
    "env": {"additionalProperties": _TEXT},
    "state": {"enum": [*STATES, STAGED]},
    "ids": {"items": {**_TEXT, "pattern": rf"^{ID}\z"}},
    "tags": {"items": _TEXT},
    "outcomes": {"items": {"bsonType": ["int", "long", "string"]}},
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
    return {"$jsonSchema": {"required": list(ALWAYS), "properties": rules}}
