"""Reads the values of operands and options by kind; loaded when a line has one to check."""

from __future__ import annotations

from queuectl.errors import InvalidInput, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from queuectl.commands.grammar.specs import Param

_MOST_DIGITS = 18


def read_value(param: Param, text: str, values: Mapping[str, object]) -> object:
    """The meaning of `text` as a value of `param`; `values`: those bound so far.

    "state" gives the present spelling, "setting" its usual name, "int" and "count" an int,
    "number" and "duration" a float (seconds), "time" RFC 3339 text, in UTC or, if it named no zone,
    with our offset; a "setting_value" is checked against the value named "setting" and stays text.
    Raises InvalidInput.
    """
    if param.choices and text not in param.choices:
        raise InvalidInput(
            f"{param.name} must be one of {', '.join(param.choices)}, not '{text}'"
            f"{did_you_mean(text, param.choices)}"
        )
    if param.kind == "state":
        from queuectl.model.fields import check_state

        return check_state(text)
    if param.kind == "tag":
        from queuectl.model.field_checks import check_tag

        return check_tag(text, "lock" if param.key == "lock" else "tag")
    if param.kind == "match" and not text.strip():
        raise InvalidInput(f"{param.name} is empty, which would match every job")
    if param.kind == "field":
        return _field(param, text, values)
    if param.kind in ("setting", "setting_value"):
        return _of_setting(param, text, values)
    if param.kind in ("int", "count"):
        return _int(param, text)
    if param.kind == "number":
        return _number(param, text)
    if param.kind in ("duration", "time", "past"):
        return _moment(param, text)
    return text


def known_words(param: Param) -> Iterable[str]:
    """The possible words for a value of this kind, for a suggestion; empty if it is free."""
    if param.choices:
        return param.choices
    if param.kind == "state":
        from queuectl.model.fields import STATES

        return STATES
    if param.kind == "field":
        from queuectl.model.derived import SHOWN

        return SHOWN
    if param.kind == "setting":
        from queuectl.config import SETTINGS

        return [name for setting in SETTINGS for name in (setting.name, *setting.old)]
    return ()


def _field(param: Param, text: str, values: Mapping[str, object]) -> object:
    from queuectl.model.derived import find_shown

    name = find_shown(text)
    given = values.get(param.key)
    if isinstance(given, list) and name in given:
        raise InvalidInput(f"field '{name}' is given twice")
    return name


def _of_setting(param: Param, text: str, values: Mapping[str, object]) -> object:
    from queuectl.config import find_setting, parse_setting

    if param.kind == "setting":
        return find_setting(text).name
    name = values.get("setting")
    if isinstance(name, str):
        parse_setting(find_setting(name), text)
    return text


def _moment(param: Param, text: str) -> object:
    read: Callable[[str], object]
    if param.kind == "duration":
        from queuectl.model.times import parse_duration as read
    elif param.kind == "time":
        from queuectl.commands.grammar.local_times import read_time as read
    else:
        from queuectl.commands.grammar.local_times import read_past as read
    try:
        found = read(text)
    except InvalidInput as exc:
        raise InvalidInput(f"{param.name}: {exc}") from None
    return _bounded(param, found, param.low) if isinstance(found, float) else found


def _int(param: Param, text: str) -> object:
    digits = text.strip().removeprefix("-").removeprefix("+")
    if not digits.isascii() or not digits.isdigit():
        raise InvalidInput(f"{param.name} must be a whole number, not '{_short(text)}'")
    if len(digits.lstrip("0")) > _MOST_DIGITS:
        raise InvalidInput(f"{param.name} is too large: {_short(text)}")
    number = int(text)
    low = 0 if param.low is None and param.kind == "count" else param.low
    return _bounded(param, number, low)


def _number(param: Param, text: str) -> object:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if number - number != 0:  # infinite or not a number
        raise InvalidInput(f"{param.name} must be a number, not '{_short(text)}'")
    return _bounded(param, number, param.low)


def _bounded(param: Param, number: float, low: float | None) -> float:
    if low is not None and number < low:
        raise InvalidInput(f"{param.name} must be at least {low:g}, not {number}")
    if param.high is not None and number > param.high:
        raise InvalidInput(f"{param.name} must be at most {param.high:g}, not {number}")
    return number


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
