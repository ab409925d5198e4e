"""What a job's document may hold: told to the server, which refuses a malformed edit in mongosh.

Read off the table of fields. The same types are looked at once more when a document is read: a
validator can be taken off, or passed by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from queuectl.model.fields import FIELDS, STATES, Field
from queuectl.model.job import Job
from queuectl.store.mongodb.documents import ALWAYS, STAGED

_WHOLE = {"bsonType": ["int", "long"]}
_NUMBER = {"bsonType": ["double", "int", "long"], "minimum": 0}
_TEXT = {"bsonType": "string"}
_KINDS: dict[str, dict[str, Any]] = {
    **{kind: _TEXT for kind in ("id", "text", "word", "key", "cron")},
    **{kind: _WHOLE for kind in ("int", "count", "size")},
    **{kind: _NUMBER for kind in ("duration", "delay", "number", "share", "period")},
    "time": {**_TEXT, "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"},
    "env": {"bsonType": "object", "additionalProperties": _TEXT},
    "flag": {"bsonType": "bool"},
    "state": {"enum": [*STATES, STAGED]},
    "ids": {"bsonType": "array", "items": _TEXT},
    "tags": {"bsonType": "array", "items": _TEXT},
    "outcomes": {"bsonType": "array", "items": {"bsonType": ["int", "long", "string"]}},
}
_HISTORY = {"bsonType": "array", "items": {"bsonType": "object"}}


def _rule(field: Field) -> dict[str, Any]:
    rule = _HISTORY if field.name == "history" else _KINDS.get(field.kind, {})
    if Job._field_defaults.get(field.name, 0) is not None or "bsonType" not in rule:
        return rule
    types = rule["bsonType"]  # the other conditions are for values of their own type only
    return {**rule, "bsonType": [*([types] if isinstance(types, str) else types), "null"]}


def validator() -> Mapping[str, Any]:
    """The rule of the collection `jobs`; keys that we do not know may hold anything."""
    rules = {"_id" if field.name == "id" else field.name: _rule(field) for field in FIELDS}
    return {"$jsonSchema": {"required": list(ALWAYS), "properties": rules}}
