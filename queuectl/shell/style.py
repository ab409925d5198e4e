"""The look of the shell: only the 16 ANSI colours, readable on light and dark backgrounds.

Colour never carries meaning alone: faults are also underlined, and the chosen entry reversed.
"""

from __future__ import annotations

from prompt_toolkit.styles import Style

_COMMON = {
    "prompt": "bold",
    "line.command": "bold",
    "line.fault": "underline",
    "bottom-toolbar": "reverse",
    "bottom-toolbar.now": "bold",
    "bottom-toolbar.warning": "bold",
    "completion-menu.completion.current": "reverse",
    "completion-menu.meta.completion.current": "reverse",
    "validation-toolbar": "noinherit bold",
    "top.title": "reverse",
    "top.head": "bold",
    "top.marked": "reverse",
    "top.message": "bold",
    "top.question": "bold",
}
_COLOURED = {
    "prompt": "ansigreen bold",
    "line.command": "ansicyan bold",
    "line.option": "ansiblue",
    "line.text": "ansigreen",
    "line.object": "",
    "line.key": "ansiblue",
    "line.comment": "ansibrightblack",
    "line.system": "ansimagenta",
    "line.fault": "ansired underline",
    "completion-menu": "bg:ansigray ansiblack",
    "completion-menu.completion": "bg:ansigray ansiblack",
    "completion-menu.completion.current": "ansiblue bg:ansiwhite reverse",
    "completion-menu.meta.completion": "bg:ansigray ansiblack",
    "completion-menu.meta.completion.current": "ansiblue bg:ansiwhite reverse",
    "scrollbar.background": "bg:ansigray",
    "scrollbar.button": "bg:ansibrightblack",
    "auto-suggestion": "ansibrightblack",
    "aborting": "ansibrightblack",
    "validation-toolbar": "noinherit ansired bold",
    "search": "reverse",
    "state.in_progress": "ansicyan",
    "state.completed": "ansigreen",
    "state.failed": "ansiyellow",
    "state.dead": "ansired",
    "state.cancelled": "ansibrightblack",
}
_PLAIN = {
    "completion-menu": "noinherit",
    "completion-menu.completion": "noinherit",
    "completion-menu.meta.completion": "noinherit",
    "auto-suggestion": "noinherit underline",
    "aborting": "noinherit",
    "search": "reverse",
}


def shell_style(colour: bool) -> Style:
    """The styles of everything on the prompt."""
    return Style.from_dict({**_COMMON, **(_COLOURED if colour else _PLAIN)})
