"""The history file: shared, capped, never torn."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys

import pytest
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document

from queuectl.shell.history import SharedHistory, SuggestFromHistory
from queuectl.shell.history_file import MOST, HistoryFile, history_path

_WRITER = """
import sys
from queuectl.shell.history_file import HistoryFile
file, who = HistoryFile(sys.argv[1]), sys.argv[2]
for n in range(int(sys.argv[3])):
    file.append(f"{who} {n} " + "x" * (60_000 if n % 40 == 0 else n) + "\\nend " + who)
"""


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "state" / "history")


def _entries(path: str) -> list[str]:
    return HistoryFile(path).news()[0]


def _history(path: str) -> SharedHistory:
    return SharedHistory(HistoryFile(path), lambda line: None)


def _loaded(history: SharedHistory) -> list[str]:
    async def load() -> list[str]:
        return [entry async for entry in history.load()]

    return asyncio.run(load())


@pytest.mark.parametrize(
    "entry",
    ["list", "a\nb", "back\\slash", "\\n", "ends with \\", "tab\there", "ünï 漢字", "a\r\nb"],
)
def test_an_entry_comes_back_as_it_was(path, entry) -> None:
    HistoryFile(path).append(entry)
    assert _entries(path) == [entry]


def test_the_file_is_private(path) -> None:
    HistoryFile(path).append("list")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


def test_eight_processes_tear_nothing(data_dir, path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, path, f"w{n}", "200"]) for n in range(8)
    ]
    assert [writer.wait(60) for writer in writers] == [0] * 8
    entries = _entries(path)
    assert len(entries) == 1600
    for who in range(8):
        mine = [entry for entry in entries if entry.startswith(f"w{who} ")]
        assert [int(entry.split()[1]) for entry in mine] == list(range(200))
        assert all(entry.endswith(f"x\nend w{who}") for entry in mine if " 0 " in entry)


def test_an_entry_behind_a_torn_one_stays_whole(path) -> None:
    HistoryFile(path).append("whole")
    with open(path, "a") as file:
        file.write("torn")
    HistoryFile(path).append("next")
    assert _entries(path) == ["whole", "torn", "next"]


def test_only_what_is_new_is_read(path) -> None:
    file, other = HistoryFile(path), HistoryFile(path)
    other.append("one")
    assert file.news() == (["one"], True)
    other.append("two")
    assert file.news() == (["two"], False)
    assert file.news() == ([], False)


def test_the_newest_ten_thousand_are_kept(path) -> None:
    file = HistoryFile(path)
    file.append("first")
    with open(path, "a") as raw:
        raw.writelines(f"line {n}\n" for n in range(MOST + 2000))
    assert file.news()[0][-1] == f"line {MOST + 1999}"
    file.append("last")
    with open(path) as raw:
        kept = raw.read().splitlines()
    assert len(kept) == MOST + 1
    assert kept[0] == "line 2000"
    assert kept[-1] == "last"
    assert file.news() == (["last"], False)


def test_of_a_giant_only_the_end_is_read(path, monkeypatch) -> None:
    file = HistoryFile(path)
    file.append("first")
    with open(path, "r+b") as giant:
        giant.truncate(10**12)  # which holds no bytes but these
        giant.seek(0, os.SEEK_END)
        giant.write(b" torn\nlast\n")
    assert _entries(path) == ["last"]
    file.append("more")
    assert file.news() == (["last", "more"], True)
    file.append("and more")
    assert file.news() == (["and more"], False)
    monkeypatch.setattr("queuectl.shell.history_file.MOST", 2)
    monkeypatch.setattr("queuectl.shell.history_file._SLACK", 0)
    assert _entries(path) == ["more", "and more"]
    assert os.stat(path).st_size < 100


def test_lines_of_another_shell_are_there_at_the_next_prompt(path) -> None:
    mine, other = _history(path), _history(path)
    mine.append_string("mine")
    assert _loaded(mine) == ["mine"]
    other.append_string("other")
    assert _loaded(mine) == ["other", "mine"]
    assert _loaded(_history(path)) == ["other", "mine"]


def test_a_line_that_starts_with_a_blank_is_forgotten(path) -> None:
    history = _history(path)
    history.append_string(" enqueue {command: secret}")
    history.append_string("")
    assert _loaded(history) == []
    assert not os.path.exists(path)


def test_a_line_typed_again_moves_to_the_end(path) -> None:
    history = _history(path)
    for line in ("list", "status", "list"):
        history.append_string(line)
    assert history.get_strings() == ["status", "list"]


def test_a_file_that_cannot_be_written_warns_once(tmp_path) -> None:
    warnings: list[str] = []
    (tmp_path / "file").write_text("")
    history = SharedHistory(HistoryFile(str(tmp_path / "file" / "history")), warnings.append)
    history.append_string("one")
    history.append_string("two")
    assert len(warnings) == 1
    assert history.get_strings() == ["one", "two"]


def test_the_history_lies_where_the_user_says_or_in_the_state_folder(monkeypatch) -> None:
    assert history_path({"QUEUECTL_HISTORY": "/h"}) == "/h"
    assert history_path({"XDG_STATE_HOME": "/s"}) == "/s/queuectl/history"
    monkeypatch.setenv("HOME", "/home/me")
    assert history_path({}) == "/home/me/.local/state/queuectl/history"
    assert history_path({"XDG_STATE_HOME": "rel"}) == "/home/me/.local/state/queuectl/history"
    assert history_path({"QUEUECTL_HISTORY": "~/h"}) == "/home/me/h"


def test_without_a_home_nothing_is_kept(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "rel")
    for environ in ({}, {"XDG_STATE_HOME": "rel"}, {"QUEUECTL_HISTORY": "~/h"}):
        warnings: list[str] = []
        history = SharedHistory(HistoryFile(history_path(environ)), warnings.append)
        assert _loaded(history) == []
        history.append_string("one")
        assert _loaded(history) == ["one"]
        assert warnings == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [("li", "st --state dead"), ("list --state dead", None), ("", None), ("xyz", None)],
)
def test_the_newest_line_that_starts_so_is_suggested(path, typed, wanted) -> None:
    history = _history(path)
    for line in ("list", "list --state dead", "status"):
        history.append_string(line)
    found = SuggestFromHistory(history).get_suggestion(Buffer(), Document(typed))
    assert (found.text if found else None) == wanted
