"""The table of settings."""

from __future__ import annotations

import pytest

from queuectl.config import SETTINGS, Settings, find_setting, parse_setting, show_value
from queuectl.errors import InvalidInput


def parse(name, text):
    return parse_setting(find_setting(name), text)


def test_the_defaults_are_the_documented_ones():
    settings = Settings()
    assert {setting.name: settings[setting.name] for setting in SETTINGS} == {
        "max-retries": 3,
        "base": 2,
        "max-delay": 86_400,
        "jitter": 0,
        "timeout": None,
        "kill-grace": 10,
        "lock-timeout": 10,
        "poll-interval": 1,
        "keep-finished": None,
        "log-limit": 100_000_000,
        "keep-logs": None,
        "logs-total": 0,
        "foreign-grace": None,
        "inherit-env": (),
        "lease": 120,
        "election-timeout": 20,
        "aging": None,
        "limits": {},
        **{"on-dead": None, "on-completed": None, "on-cancelled": None},
        "paused": (),
    }


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("max-retries", "max-retries"),
        ("max_retries", "max-retries"),
        ("MAX-RETRIES", "max-retries"),
        ("backoff-base", "base"),
        ("backoff_base", "base"),
        ("base_delay", "base"),
        ("idle_delay", "poll-interval"),
        (" jitter ", "jitter"),
    ],
)
def test_settings_are_found_in_every_spelling(spelled, name):
    assert find_setting(spelled).name == name


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(InvalidInput) as caught:
        find_setting("max-retry")
    assert str(caught.value) == "unknown setting 'max-retry' (did you mean 'max-retries'?)"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max-retries", "0", 0),
        ("max-retries", "5", 5),
        ("max-retries", "5.0", 5),
        ("base", "1.5", 1.5),
        ("base", "0", 0),
        ("max-delay", "5m", 300),
        ("jitter", "0.5", 0.5),
        ("timeout", "90s", 90),
        ("timeout", "none", None),
        ("timeout", "null", None),
        ("keep-finished", "7d", 604_800),
        ("keep-finished", "all", None),
        ("log-limit", "1.5 GB", 1_500_000_000),
        ("log-limit", "64KiB", 65_536),
        ("log-limit", "none", 0),
        ("keep-logs", "30d", 2_592_000),
        ("keep-logs", "all", None),
        ("logs-total", "2GB", 2_000_000_000),
        ("poll-interval", "250ms", 0.25),
        ("inherit-env", "PATH,HOME", ("PATH", "HOME")),
        ("inherit-env", "PATH HOME", ("PATH", "HOME")),
        ("inherit-env", "PATH,PATH", ("PATH",)),
        ("inherit-env", "none", ()),
        ("paused", "gpu, net *", ("gpu", "net", "*")),
        ("paused", "none", ()),
        ("limits", "gpu=2, net=10", {"gpu": 2, "net": 10}),
        ("limits", "none", {}),
        ("inherit-env", "all", ("all",)),
    ],
)
def test_values_are_read_and_shown_alike(name, text, value):
    setting = find_setting(name)
    assert parse(name, text) == value
    assert parse_setting(setting, show_value(setting, value)) == value


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("max-retries", "many", "max-retries must be a whole number, not 'many'"),
        ("max-retries", "-1", "max-retries must lie between 0 and 1e.06, not -1"),
        ("max-retries", "2.5", "max-retries must be a whole number"),
        ("max-retries", "", "max-retries is empty: 'config unset max-retries' unsets it"),
        ("paused", " ", "paused is empty"),
        ("limits", ",", "limits is empty"),
        ("inherit-env", "", "inherit-env is empty"),
        ("max-retries", "1e300", "must lie between"),
        ("max-retries", "nan", "must lie between"),
        ("max-retries", "9" * 5000, "must"),
        ("base", "-2", "base must lie between"),
        ("base", "inf", "base must lie between"),
        ("base", "two", "base must be a number, not 'two'"),
        ("base", "--5", "base must be a number"),
        ("base", "²", "base must be a number"),
        ("max-delay", "-1", "max-delay must be a duration in seconds"),
        ("max-delay", "soon", "max-delay must be a duration in seconds, or like 5m, not 'soon'"),
        ("jitter", "1.01", "jitter must lie between 0 and 1"),
        ("timeout", "0", "timeout must lie between"),
        ("timeout", "all the time", "or none, not 'all the time'"),
        ("keep-finished", "some", "or all, not 'some'"),
        ("log-limit", "much", "log-limit must be a number of bytes, or like 100MB, or none"),
        ("log-limit", "-5", "log-limit must be a number of bytes"),
        ("log-limit", "1e", "log-limit must be a number of bytes"),
        ("poll-interval", "0", "poll-interval must lie between"),
        ("lock-timeout", "9d", "lock-timeout must lie between"),
        ("inherit-env", "A=b", "no variable can be named 'A=b'"),
        ("inherit-env", "A\0", "no variable can be named"),
        ("inherit-env", "PATH 2X", "no variable can be named '2X'"),
        ("inherit-env", "MY-VAR", "no variable can be named 'MY-VAR'"),
        ("inherit-env", "all,PATH", "'all' must be alone"),
        ("inherit-env", "PATH none", "'none' must be alone"),
    ],
)
def test_bad_values_are_refused(name, text, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        parse(name, text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max-retries", True),
        ("max-retries", "3"),
        ("max-retries", None),
        ("max-retries", float("nan")),
        ("base", []),
        ("timeout", {}),
        ("timeout", False),
        ("inherit-env", "PATH"),
        ("inherit-env", [1]),
        ("inherit-env", [""]),
        ("limits", ["gpu"]),
        ("limits", {"gpu": 0}),
        ("limits", {"g u": 1}),
        ("limits", {"a-b": 1, "a.b": 1}),
        ("paused", "gpu"),
        ("paused", ["g u"]),
    ],
)
def test_bad_values_in_a_file_are_refused(name, value):
    with pytest.raises(InvalidInput, match=name):
        Settings({name: value})


def test_settings_read_as_attributes_and_items():
    settings = Settings({"max_retries": 5, "backoff_base": 3, "inherit-env": ["A"]})
    assert (settings.max_retries, settings["max-retries"], settings["max_retries"]) == (5, 5, 5)
    assert (settings.base, settings.inherit_env) == (3, ("A",))
    with pytest.raises(AttributeError):
        _ = settings.nonsense


def test_only_what_differs_is_kept_and_unknown_keys_stay():
    settings = Settings({"x-later": {"a": 1}, "jitter": 0.5})
    settings = settings.with_changes({"base": 3, "max_retries": 3, "jitter": None})
    assert settings.to_dict() == {"base": 3, "x-later": {"a": 1}}
    assert settings.with_changes({"backoff-base": 2}).to_dict() == {"x-later": {"a": 1}}


def test_changes_leave_the_settings_they_come_from_alone():
    settings = Settings({"base": 3})
    settings.with_changes({"base": 4, "jitter": 1})
    assert settings.to_dict() == {"base": 3}


def test_an_unknown_or_bad_change_is_refused():
    for changes in ({"basis": 1}, {"base": -1}, {"jitter": "1"}):
        with pytest.raises(InvalidInput):
            Settings().with_changes(changes)


def test_the_retry_policy_follows_the_settings():
    policy = Settings({"base": 3, "max-delay": 10, "jitter": 1}).retry_policy()
    assert policy == (3.0, 10.0, 1.0, None)
