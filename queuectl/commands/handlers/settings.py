"""The settings: `config get`, `config set`, `config unset`."""

from __future__ import annotations

from queuectl.commands import forms
from queuectl.config import SETTINGS, find_setting, parse_setting, show_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from queuectl.commands.context import Context


def config_get(context: Context, args: dict[str, Any]) -> int:
    """The value alone for one setting, `name = value` lines for all."""
    wanted = SETTINGS if args.get("setting") is None else (find_setting(args["setting"]),)
    settings = context.queue.settings()
    if args.get("json"):
        values = {setting.name: settings[setting.name] for setting in wanted}
        context.write_json([forms.json_document({"settings": values})])
    elif len(wanted) == 1:
        context.write(show_value(wanted[0], settings[wanted[0].name]))
    else:
        for setting in wanted:
            context.write(f"{setting.name} = {show_value(setting, settings[setting.name])}")
    return 0


def config_set(context: Context, args: dict[str, Any]) -> int:
    """One setting changed, confirmed in one line."""
    setting = find_setting(args["setting"])
    value = parse_setting(setting, args["value"])
    # A limit that is lifted is its default again; the queue knows that as unset.
    context.queue.change_settings({setting.name: value})
    if not context.quiet:
        context.write(f"Setting '{setting.name}' is now {show_value(setting, value)}.")
    return 0


def config_unset(context: Context, args: dict[str, Any]) -> int:
    """One setting back at its default, confirmed in one line."""
    setting = find_setting(args["setting"])
    context.queue.change_settings({setting.name: None})
    default = show_value(setting, setting.default)
    if not context.quiet:
        context.write(f"Setting '{setting.name}' is back at its default, {default}.")
    return 0
