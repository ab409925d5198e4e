"""The settings: `config get`, `config set`, `config unset`."""

from __future__ import annotations

from typing import Any

from queuectl.commands import forms
from queuectl.commands.context import Context
from queuectl.commands.dispatch import Result
from queuectl.commands.render import one_line
from queuectl.config import SETTINGS, find_setting, parse_setting, show_value


def config_get(context: Context, args: dict[str, Any]) -> Result:
    """Show only the value of one setting, or `name = value` lines for all."""
    wanted = SETTINGS if args["setting"] is None else (find_setting(args["setting"]),)
    settings = context.queue.settings()
    shown = [(setting.name, show_value(setting, settings[setting.name])) for setting in wanted]
    shown = [(name, one_line(value)) for name, value in shown]
    lines = [shown[0][1]] if len(shown) == 1 else [f"{name} = {value}" for name, value in shown]
    return Result(lines, form=lambda: forms.settings_form(settings, wanted))


def config_set(context: Context, args: dict[str, Any]) -> Result:
    """Change one setting; confirmed in one line."""
    setting = find_setting(args["setting"])
    value = parse_setting(setting, args["value"])
    # A removed limit is at its default again, which the queue knows as unset.
    settings = context.queue.change_settings({setting.name: value})
    return Result(
        [f"Setting '{setting.name}' is now {one_line(show_value(setting, value))}."],
        words=(),
        form=lambda: forms.settings_form(settings, (setting,)),
    )


def config_unset(context: Context, args: dict[str, Any]) -> Result:
    """Put one setting back to its default; confirmed in one line."""
    setting = find_setting(args["setting"])
    settings = context.queue.change_settings({setting.name: None})
    default = show_value(setting, setting.default)
    return Result(
        [f"Setting '{setting.name}' is back at its default, {default}."],
        words=(),
        form=lambda: forms.settings_form(settings, (setting,)),
    )
