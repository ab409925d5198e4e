"""The table of settings: the name, default, values and meaning of each.

Lean on purpose: the grammar completes and checks settings with this table alone.
"""

from __future__ import annotations

from queuectl.errors import InvalidInput, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from queuectl.model.backoff import RetryPolicy
    from queuectl.model.gate import Gate


class Setting:
    """One setting. `low` and `high` bound numbers; `old` are spellings that still work.

    `kind`: "count" (whole), "number", "duration" (seconds), "limit" (a duration, or none), "size"
    (bytes, 0 for none), "names" (a list of variable names), "command" (text, or none), "paused"
    (a list of tags, * for all) or "limits" (numbers by tag).
    """

    def __init__(
        self,
        name: str,
        kind: str,
        default: object,
        meaning: str,
        *,
        low: float = 0.0,
        high: float = 1e9,
        old: tuple[str, ...] = (),
        nothing: str = "none",
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.meaning = meaning
        self.low = low
        self.high = high
        self.old = old
        self.nothing = nothing  # how an unset limit is written


SETTINGS: tuple[Setting, ...] = (
    Setting("max-retries", "count", 3, "runs after the first, for new jobs", high=1e6),
    Setting(
        "base",
        "number",
        2,
        "seconds before retry n are base ^ n",
        high=1e6,
        old=("backoff-base", "base-delay"),
    ),
    Setting("max-delay", "duration", 86_400, "longest wait before a retry, in seconds"),
    Setting("jitter", "number", 0, "part of that wait left to chance, 0 to 1", high=1.0),
    Setting("timeout", "limit", None, "seconds a run may take, for new jobs", low=0.001),
    Setting("kill-grace", "duration", 10, "seconds between TERM and KILL", high=86_400.0),
    Setting("lock-timeout", "duration", 10, "seconds to wait for the queue's lock", high=86_400.0),
    Setting(
        "poll-interval",
        "duration",
        1,
        "seconds between two polls of an idle worker",
        low=0.01,
        high=3600.0,
        old=("idle-delay",),
    ),
    Setting(
        "keep-finished",
        "limit",
        None,
        "seconds to keep completed and cancelled jobs",
        nothing="all",
    ),
    Setting(
        "log-limit",
        "size",
        100_000_000,
        "bytes kept of a run's output, the first half and the last",
        high=1e15,
    ),
    Setting("keep-logs", "limit", None, "seconds to keep the output of ended runs", nothing="all"),
    Setting("logs-total", "size", 0, "bytes of output kept; the oldest goes first", high=1e15),
    Setting(
        "foreign-grace",
        "limit",
        None,
        "seconds until a run lost in another container is taken back though it may live",
    ),
    Setting(
        "inherit-env",
        "names",
        (),
        "variables that jobs take along besides PATH and the like, or all",
    ),
    Setting("lease", "duration", 120, "MongoDB: seconds until a silent worker is lost", low=30.0),
    Setting("election-timeout", "duration", 20, "MongoDB: seconds to wait for a primary", low=1.0),
    Setting(
        "aging",
        "limit",
        None,
        "seconds of waiting that make up for one step of priority",
        low=0.001,
    ),
    Setting("limits", "limits", {}, "how many jobs with a tag may run at once; see 'limit'"),
    Setting("on-dead", "command", None, "what to run when a job is dead; see 'help hooks'"),
    Setting("on-completed", "command", None, "the same when a job is completed"),
    Setting("on-cancelled", "command", None, "the same when a job is cancelled"),
    Setting("paused", "paused", (), "paused tags, * for all; see 'pause'"),
)
LONGEST_HOOK = 10_000  # characters
MOST_AT_ONCE = 1_000_000  # jobs with a tag; the largest limit
_BY_NAME = {spelled: setting for setting in SETTINGS for spelled in (setting.name, *setting.old)}


def find_setting(name: str) -> Setting:
    """The setting spelled `name`, also with underscores or an old name; else InvalidInput."""
    usual = name.strip().lower().replace("_", "-")
    found = _BY_NAME.get(usual)
    if found is None:
        raise InvalidInput(f"unknown setting '{name}'{did_you_mean(name, _BY_NAME)}")
    return found


def unknown_settings(names: Iterable[str]) -> str:
    """A line that names unknown settings, and what they may mean."""
    known = [setting.name for setting in SETTINGS]
    told = ", ".join(f"'{name}'{did_you_mean(name, known)}" for name in list(names)[:5])
    return f"not a setting, and without effect: {told}"


def parse_setting(setting: Setting, text: str) -> object:
    """The value written as `text` on a command line; raises InvalidInput."""
    text = text.strip()
    if setting.kind == "command":
        return None if text == "none" else check_setting(setting, text)
    if not text.strip(","):  # perhaps an unset variable: it must not lift a pause or a limit
        raise InvalidInput(f"{setting.name} is empty: 'config unset {setting.name}' unsets it")
    if setting.kind == "names":
        return check_setting(setting, _listed(setting, text))
    if setting.kind == "limits":
        return check_setting(setting, _limits_in(setting, text))
    if setting.kind == "paused":
        tags = [] if text == "none" else text.replace(",", " ").split()
        return check_setting(setting, list(dict.fromkeys(tags)))
    if setting.kind in ("limit", "size") and text in ("none", "all", "null"):
        return None if setting.kind == "limit" else 0
    return check_setting(setting, _number(setting, text))


def _listed(setting: Setting, text: str) -> list[str]:
    """The names of variables in a text; `all` stands alone, `none` gives an empty list."""
    names = list(dict.fromkeys(text.replace(",", " ").split()))
    for name in names:
        if not (name.isidentifier() and name.isascii()):
            raise InvalidInput(f"{setting.name}: no variable can be named {name!r}")
        if name in ("all", "none") and len(names) > 1:
            raise InvalidInput(f"{setting.name}: '{name}' must be alone, without other names")
    return [] if names == ["none"] else names


def _number(setting: Setting, text: str) -> float:
    try:
        if setting.kind in ("duration", "limit"):
            from queuectl.model.times import parse_duration

            return parse_duration(text)
        if setting.kind == "size":
            from queuectl.model.sizes import parse_size

            return parse_size(text)
        return int(text) if text.lstrip("+-").isdigit() and len(text) < 20 else float(text)
    except (ValueError, InvalidInput):
        raise _unfit(setting, text) from None


def check_setting(setting: Setting, value: object) -> object:
    """A value from a file or a command line as the setting keeps it; raises InvalidInput."""
    if setting.kind == "names":
        if isinstance(value, (list, tuple)) and all(_is_name(name) for name in value):
            return tuple(value)
        raise InvalidInput(f"{setting.name} must be a list of variable names, not {value!r}")
    if setting.kind in ("paused", "limits"):
        return (_paused if setting.kind == "paused" else _limits)(setting, value)
    if setting.kind == "command":
        return _command(setting, value)
    if value is None and setting.kind == "limit":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _unfit(setting, value)
    if not setting.low <= value <= setting.high:  # also refuses NaN
        most = f"{setting.high:g}" + " or be none" * (setting.kind == "limit")
        raise InvalidInput(
            f"{setting.name} must lie between {setting.low:g} and {most}, not {value}"
        )
    if value == int(value):
        return int(value)
    if setting.kind in ("count", "size"):
        raise _unfit(setting, value)
    return value


def _command(setting: Setting, value: object) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else ""
    told = text.encode("utf-8", "replace").decode()
    if not text.strip() or "\0" in text or told != text or len(text) > LONGEST_HOOK:
        raise InvalidInput(
            f"{setting.name} must be a command of at most {LONGEST_HOOK:,} characters, or none"
        )
    return text


def _paused(setting: Setting, value: object) -> tuple[str, ...]:
    from queuectl.model.field_checks import check_tag
    from queuectl.model.gate import ALL

    if not isinstance(value, (list, tuple)) or not all(isinstance(tag, str) for tag in value):
        raise InvalidInput(f"{setting.name} must be a list of tags, not {value!r}")
    try:
        return tuple(tag if tag == ALL else check_tag(tag) for tag in value)
    except InvalidInput as exc:
        raise InvalidInput(f"{setting.name}: {exc}") from None


def _limits_in(setting: Setting, text: str) -> dict[str, object]:
    """The numbers by tag in a text like `gpu=2,net=4`; empty for `none`."""
    found: dict[str, object] = {}
    for word in [] if text == "none" else text.replace(",", " ").split():
        tag, _, number = word.partition("=")
        if tag in found:
            raise InvalidInput(f"{setting.name} names {tag} twice")
        found[tag] = int(number) if number.isascii() and number.isdigit() else number
    return found


def _limits(setting: Setting, value: object) -> dict[str, int]:
    from queuectl.model.field_checks import check_tag
    from queuectl.model.gate import variable

    if not isinstance(value, dict):
        raise InvalidInput(f"{setting.name} must be numbers by tag, like gpu=2, not {value!r}")
    names: dict[str, str] = {}
    for tag, most in value.items():
        try:
            check_tag(tag)
        except InvalidInput as exc:
            raise InvalidInput(f"{setting.name}: {exc}") from None
        if type(most) is not int or not 1 <= most <= MOST_AT_ONCE:
            raise InvalidInput(
                f"{setting.name}: {tag} must be a whole number from 1 to {MOST_AT_ONCE}, "
                f"not {most!r}; 'pause {tag}' lets none start"
            )
        other = names.setdefault(variable(tag), tag)
        if other != tag:
            raise InvalidInput(
                f"{setting.name}: {other} and {tag} would both number their jobs in {variable(tag)}"
            )
    return dict(value)


def _is_name(name: object) -> bool:
    # Accepts more than a command line does: a file that was valid yesterday must stay valid.
    return isinstance(name, str) and name != "" and "=" not in name and "\0" not in name


def _unfit(setting: Setting, value: object) -> InvalidInput:
    wanted = {
        "count": "a whole number",
        "number": "a number",
        "duration": "a duration in seconds, or like 5m",
        "limit": f"a duration in seconds, or like 5m, or {setting.nothing}",
        "size": "a number of bytes, or like 100MB, or none",
    }[setting.kind]
    return InvalidInput(f"{setting.name} must be {wanted}, not {value!r}")


def show_value(setting: Setting, value: object) -> str:
    """The value as `config get` prints it and `config set` reads it."""
    if value is None or (value == 0 and setting.kind == "size"):
        return setting.nothing
    if isinstance(value, dict):
        value = [f"{tag}={most}" for tag, most in value.items()]
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value)) or "none"
    return str(value)


class Settings:
    """All settings with their values: `settings.max_retries`, `settings["max-retries"]`.

    `changed`: those that differ from their defaults, as in config.json. `extra`: unknown keys of
    that file, which are kept.
    """

    def __init__(self, values: Mapping[str, object] | None = None) -> None:
        self.changed: dict[str, object] = {}
        self.extra: dict[str, object] = {}
        for name, value in (values or {}).items():
            setting = _BY_NAME.get(name.replace("_", "-"))
            if setting is None:
                self.extra[name] = value
            else:
                self.changed[setting.name] = check_setting(setting, value)

    def __getitem__(self, name: str) -> object:
        setting = find_setting(name)
        return self.changed.get(setting.name, setting.default)

    def __getattr__(self, name: str) -> object:
        setting = _BY_NAME.get(name.replace("_", "-"))
        if setting is None:
            raise AttributeError(name)
        return self.changed.get(setting.name, setting.default)

    if TYPE_CHECKING:
        max_retries: int
        base: float
        max_delay: float
        jitter: float
        timeout: float | None
        kill_grace: float
        lock_timeout: float
        poll_interval: float
        keep_finished: float | None
        log_limit: int
        keep_logs: float | None
        logs_total: int
        foreign_grace: float | None
        inherit_env: tuple[str, ...]
        lease: float
        election_timeout: float
        limits: Mapping[str, int]
        paused: tuple[str, ...]
        aging: float | None

    def with_changes(self, changes: Mapping[str, object]) -> Settings:
        """These settings with some changed; None goes back to the default."""
        changed = dict(self.changed)
        for name, value in changes.items():
            setting = find_setting(name)
            changed.pop(setting.name, None)
            if value is not None:
                checked = check_setting(setting, value)
                if checked != setting.default:
                    changed[setting.name] = checked
        return Settings({**self.extra, **changed})

    def retry_policy(self) -> RetryPolicy:
        """How long failed jobs wait by these settings."""
        from queuectl.model.backoff import RetryPolicy

        return RetryPolicy(float(self.base), float(self.max_delay), float(self.jitter))

    def hooks(self) -> dict[str, str]:
        """The commands of hooks, by the state in which a job ends."""
        found = {}
        for state in ("dead", "completed", "cancelled"):
            command = self.changed.get(f"on-{state}")
            if isinstance(command, str):
                found[state] = command
        return found

    def gate(self) -> Gate | None:
        """What keeps jobs waiting by these settings; None if they hold nothing."""
        if not self.paused and not self.limits and not self.aging:
            return None
        from queuectl.model.gate import gate_of

        return gate_of(self.paused, self.limits, self.aging)

    def to_dict(self) -> dict[str, object]:
        """The content of config.json."""
        return {
            **{name: list(v) if isinstance(v, tuple) else v for name, v in self.changed.items()},
            **self.extra,
        }
