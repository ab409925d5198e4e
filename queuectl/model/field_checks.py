"""Checks for fields that few jobs have; loaded only when a job has one of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from queuectl.errors import InvalidInput, as_given
from queuectl.model.ids import ID
from queuectl.model.sizes import parse_size

LONGEST_TAG, MOST_TAGS = 64, 16
LARGEST_LOG = 10**15  # bytes
CRON = "minute, hour, day, month and weekday, like '0 3 * * 1-5', or a word like @daily"
_TAG = re.compile(r"[A-Za-z0-9._:-]+")
_BETWEEN_WORDS = re.compile(r"[,\s]+")


class Named(Protocol):
    """A field, as far as errors name it."""

    @property
    def name(self) -> str: ...


def check_tag(text: str, noun: str = "tag") -> str:
    """A usable tag, or InvalidInput that says what is wrong with it."""
    if not text:
        raise InvalidInput(f"a {noun} is empty")
    if len(text) > LONGEST_TAG:
        raise InvalidInput(
            f"a {noun} has {len(text)} characters; at most {LONGEST_TAG} are allowed"
        )
    if not _TAG.fullmatch(text):
        several = "; name each by itself" if "," in text else ""
        raise InvalidInput(f"{noun} {text!r} may hold only letters, digits and . _ : -{several}")
    return text


def _check_slot(text: str, noun: str) -> str:
    """A token that a running job holds: `TAG#N` or `lock/NAME`."""
    tag, _, number = text.partition("#")
    check_tag(text.removeprefix("lock/") if not number else tag, noun)
    if number and not (number.isascii() and number.isdigit()):
        raise InvalidInput(f"{noun} {text!r} has no number after its #")
    return text


def _tags(field: Named, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        text = value.strip()
        listed = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
        words = _BETWEEN_WORDS.split(listed.strip())
        value = [_unquoted(word) for word in words] if words != [""] else []
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or not all(isinstance(tag, str) for tag in value):
        raise InvalidInput(f"{field.name} must be a list of words, not {as_given(value)}")
    noun = field.name.removesuffix("s")
    check, most = (_check_slot, 2 * MOST_TAGS) if noun == "slot" else (check_tag, MOST_TAGS)
    found = tuple(check(tag, noun) for tag in value)
    for at, tag in enumerate(found):
        if tag in found[:at]:
            raise InvalidInput(f"{noun} '{tag}' is given twice")
    if len(found) > most:
        raise InvalidInput(f"a job has at most {most} {noun}s, not {len(found)}")
    return found


def _ids(field: Named, value: object) -> tuple[str, ...]:
    """Ids of other jobs, each once."""
    words = _BETWEEN_WORDS.split(value.strip("[] \n")) if isinstance(value, str) else value
    if words is None or words == [""]:
        return ()
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise InvalidInput(f"{field.name} must be a list of ids, not {as_given(value)}")
    found = tuple(dict.fromkeys(map(_unquoted, words)))
    for job_id in found:
        if not re.fullmatch(ID, job_id):
            several = ": name each by itself" if "," in job_id else ""
            raise InvalidInput(f"{field.name}: {as_given(job_id)} is not the id of a job{several}")
    return found


def _outcomes(field: Named, value: object) -> list[int | str]:
    """Exit codes, ascending, then words; each once."""
    words = value if isinstance(value, (list, tuple)) else [value]
    if isinstance(value, str):
        words = _BETWEEN_WORDS.split(value.strip().removeprefix("[").removesuffix("]").strip())
    found: set[int | str] = set()
    for word in words:
        text = _unquoted(word).lower() if isinstance(word, str) else word
        if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 4:
            text = int(text)
        if text in ("timeout", "signal") or (type(text) is int and 0 < text < 256):
            found.add(text)
        elif text != "":
            raise InvalidInput(
                f"{field.name} takes exit codes 1 to 255, timeout and signal, not {as_given(word)}"
            )
    if not found:
        raise InvalidInput(f"{field.name} names nothing")
    return sorted(found, key=lambda one: (isinstance(one, str), one))


def _size(field: Named, value: object) -> int:
    if isinstance(value, str):
        try:
            value = 0 if value.strip() == "none" else parse_size(value)
        except InvalidInput as exc:
            raise InvalidInput(f"{field.name}: {exc}") from None
    if type(value) is not int:
        raise InvalidInput(f"{field.name} must be a number of bytes, not {as_given(value)}")
    if not 0 <= value <= LARGEST_LOG:
        raise InvalidInput(f"{field.name} must lie between 0 and {LARGEST_LOG}, not {value}")
    return value


def _cron(field: Named, value: object) -> str:
    """The five fields as text. Only the form is checked; enqueue and update check the meaning."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not text.isprintable() or (text[:1] != "@" and text.count(" ") != 4):
        raise InvalidInput(f"{field.name} takes {CRON}, not {as_given(value)}")
    return text


def _unquoted(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'" else word


RARE_CHECKS: dict[str, Callable[[Named, object], object]] = {
    "tags": _tags,
    "ids": _ids,
    "outcomes": _outcomes,
    "size": _size,
    "cron": _cron,
}
