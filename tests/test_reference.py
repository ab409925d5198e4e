"""The documents made from the table of commands are up to date."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import get_args

import pytest
from reference import PAGES, write_pages

from queuectl.commands.table import COMMANDS
from queuectl.model.job import FINISHED
from queuectl.model.lifecycle import TRANSITIONS, Event

DOCS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "docs")


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_not_stale(name: str, tmp_path) -> None:
    write_pages(str(tmp_path))
    with open(os.path.join(DOCS, name), encoding="utf-8") as file:
        assert file.read() == (tmp_path / name).read_text(encoding="utf-8"), (
            "write it anew: python -m tests.reference"
        )


def test_the_diagram_shows_every_move_and_the_table_every_event() -> None:
    page = PAGES["life.md"]()
    for (before, event), after in TRANSITIONS.items():
        (arrow,) = re.findall(rf"^    {before} --> {after}: (.*)$", page, re.MULTILINE)
        assert event in arrow.split(", ")
    assert re.findall(r"^\| (\w+) \|", page, re.MULTILINE)[1:] == list(get_args(Event))
    assert set(re.findall(r"^    (\w+) --> \[\*\]", page, re.MULTILINE)) == FINISHED


def test_the_pages_hold_every_command_with_its_examples() -> None:
    page = PAGES["commands.md"]()
    for spec in COMMANDS:
        assert f"\n## {' '.join(spec.words)}\n\n{spec.summary}\n" in page
        assert all(f"queuectl {example}\n" in page for example in spec.examples)


def test_the_manual_page_is_shown_without_a_warning() -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not on this machine")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-rLL=80n"],
        input=PAGES["queuectl.1"]().encode(),
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    shown = done.stdout.decode()
    assert """queuectl enqueue '{id: job1, command: "echo Hello"}'""" in shown
    assert "base ^ n" in shown
