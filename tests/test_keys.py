"""Keys of every kind, and errors in them: the shell and `top` go on whatever is typed."""

from __future__ import annotations

import io
import os
import random
import string
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest
from prompt_toolkit.application import Application, create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

import queuectl
from queuectl.commands.context import Context
from queuectl.commands.dispatch import run_line
from queuectl.errors import QueuectlError
from queuectl.job_queue import JobQueue
from queuectl.live.rows import View
from queuectl.shell import session
from queuectl.shell.session import Shell
from queuectl.shell.top import screen
from queuectl.shell.top.screen import TopScreen

CTRL_C, CTRL_D, CTRL_R, EDITOR = b"\x03", b"\x04", b"\x12", b"\x18\x05"
CURSOR_IS_AT = b"\x1b[1;1R"  # what a terminal answers when it is asked
OUT = (b"\x1b[201~", b"\x07", *[CTRL_C] * 4)  # of whatever the keys have begun
Piece = bytes | Callable[[], object]


@pytest.fixture(autouse=True)
def surroundings(data_dir, tmp_path, monkeypatch) -> None:
    """Programs that a key may start do nothing, and no key stops the tests."""
    usual = {"QUEUECTL_HISTORY": str(tmp_path / "history"), "QUEUECTL_SHELLRC": os.devnull}
    for name, value in {**usual, "TERM": "xterm", "SHELL": "true", "EDITOR": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VISUAL", "")
    monkeypatch.setattr(Application, "suspend_to_background", lambda *_: None)


@pytest.fixture
def failures(monkeypatch) -> list[BaseException]:
    """What went wrong in keys, and was told."""
    found: list[BaseException] = []

    def told(error: BaseException, environ: object) -> str:
        found.append(error)
        return "queuectl: unexpected"

    for module in (session, screen):
        monkeypatch.setattr(module, "failure_text", told)
    return found


@contextmanager
def feeding(pipe: PipeInput, app: Application, pieces: Iterable[Piece]) -> Iterator[None]:
    """Type piece by piece; a call is made in the loop's thread. They may come at any moment."""

    def run() -> None:
        try:
            for piece in pieces:
                if isinstance(piece, bytes):
                    pipe.send_bytes(piece)
                elif app.loop is not None:
                    app.loop.call_soon_threadsafe(piece)
                time.sleep(0.001)
        except AssertionError as exc:
            wrong.append(exc)
            pipe.close()  # which ends whoever reads it

    wrong: list[AssertionError] = []
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(90)
    assert not wrong, wrong


class Typed:
    """A session of the shell that is typed by a thread; it must end by Ctrl-D and no sooner."""

    def __init__(self, pieces: Callable[[Shell], Iterable[Piece]], mode: str, run=run_line):
        self.out, self.err = io.StringIO(), io.StringIO()
        context = Context(out=self.out, err=self.err, interactive=True)
        with create_pipe_input() as pipe, create_app_session(pipe, DummyOutput()):
            shell = Shell(context, run, input=pipe, output=DummyOutput())
            shell.prompt.set_keys(mode)
            with feeding(pipe, shell.prompt._session.app, pieces(shell)):
                self.code = shell.run()


def wait_for(text: str, typed: io.StringIO) -> None:
    deadline = time.monotonic() + 60
    while text not in typed.getvalue():
        assert time.monotonic() < deadline, f"still waiting for {text!r} in {typed.getvalue()!r}"
        time.sleep(0.005)


# -- single keys that once ended the shell


@pytest.mark.parametrize(
    ("mode", "keys"),
    [
        ("emacs", b"f\xffo" + EDITOR),
        ("emacs", b"# x\rf\xffo" + EDITOR),  # the second line is typed ahead
        ("emacs", b"!a\x11\x00\r"),
        ("vi", b'abc def\x1b0"adw'),
    ],
)
def test_no_key_ends_the_shell(mode, keys) -> None:
    def pieces(shell: Shell) -> Iterator[Piece]:
        yield keys
        yield from OUT
        yield b"version\r"
        wait_for(queuectl.__version__ + "\n", shell.context.out)
        yield CTRL_D

    typed = Typed(pieces, mode)
    assert typed.code == 0
    assert "Traceback" not in typed.err.getvalue()


@pytest.mark.parametrize("debug", ["", "1"])
def test_what_goes_wrong_in_a_key_is_told_in_a_line(monkeypatch, debug) -> None:
    monkeypatch.setenv("QUEUECTL_DEBUG", debug)

    def pieces(shell: Shell) -> Iterator[Piece]:
        yield b'abc def\x1b0"adw'
        wait_for("queuectl: unexpected IndexError: ", shell.context.err)
        yield CTRL_C
        yield CTRL_D

    typed = Typed(pieces, "vi")
    assert ("Traceback" in typed.err.getvalue()) == bool(debug)
    assert len(typed.err.getvalue().splitlines()) == 1 or debug


@pytest.mark.parametrize(
    ("keys", "editor", "told"),
    [
        (b"f\xffo", "true", "the editor is not opened: character 2 of the line is a byte that"),
        (b"foo", "cp {latin}", "what the editor saved is not in UTF-8; the line stays"),
    ],
)
def test_an_editor_takes_and_gives_text_in_utf8_only(
    tmp_path, monkeypatch, keys, editor, told
) -> None:
    latin = tmp_path / "latin"
    latin.write_bytes(b"\xe4\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDITOR", editor.format(latin="latin"))

    def pieces(shell: Shell) -> Iterator[Piece]:
        yield keys + EDITOR
        wait_for(told, shell.context.err)
        yield CTRL_C
        yield CTRL_D

    assert len(Typed(pieces, "emacs").err.getvalue().splitlines()) == 1


def test_each_prompt_begins_with_the_focus_on_the_line() -> None:
    def pieces(shell: Shell) -> Iterator[Piece]:
        app = shell.prompt._session.app
        yield CTRL_R
        wait_until(lambda: app.layout.is_searching)
        # As Ctrl-C around an answer of the terminal does: the line ends, the search does not.
        yield lambda: app.exit(exception=KeyboardInterrupt)
        yield CURSOR_IS_AT
        yield b"version\r"
        wait_for(queuectl.__version__ + "\n", shell.context.out)
        yield CTRL_D

    assert Typed(pieces, "emacs").code == 0


# -- keys at random

_SEQUENCES = [f"\x1b{key}".encode() for key in ("[A", "[B", "[C", "[D", "[H", "[F", "OP", "OS")]
_SEQUENCES += [b"\x1b[5~", b"\x1b[6~", b"\x1b[3~", b"\x1b[Z", b"\x1b[1;5C", b"\x1b[14~", b"\x1b"]
_SEQUENCES += [b"\x1b[200~list\nshow a\n\x1b[201~", b"\x1b[200~", b"\x1b[201~", CURSOR_IS_AT]
_SEQUENCES += [b"\xff", b"\xc3", "é日本👩‍👩‍👧e\u0301\u202e".encode(), b"\x1b[M !!", b"\x1b[<0;1;1M"]
_WORDS = [b"list ", b"dlq retry ", b"enqueue {", b"id: ", b"-- ", b"# ", b"!x ", b"--state ", b"0"]
_CONTROLS = [bytes([code]) for code in range(32) if bytes([code]) != CTRL_D]
_LETTERS = [letter.encode() for letter in string.printable[:95]]
_KEYS = ((_LETTERS, 40), (_CONTROLS, 30), (_SEQUENCES, 20), (_WORDS, 10))


def random_keys(seed: str, count: int, without: bytes = b"") -> Iterator[bytes]:
    """So many keys, several in a piece; none of those in `without`."""
    chance = random.Random(seed)
    kinds, weights = zip(*_KEYS, strict=True)
    while count > 0:
        size = min(count, chance.choice((1, 1, 2, 5, 20)))
        count -= size
        keys = [chance.choice(chance.choices(kinds, weights)[0]) for _ in range(size)]
        yield b"".join(key for key in keys if key not in without)


def of_ours(error: BaseException) -> bool:
    """Whether our own code raised it, and not prompt_toolkit; a refusal is not a fault."""
    if isinstance(error, QueuectlError):
        return False
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return last.startswith(os.path.dirname(queuectl.__file__))


COUNTS = [1000, pytest.param(20_000, marks=[pytest.mark.campaign, pytest.mark.timeout(600)])]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("mode", ["emacs", "vi"])
def test_the_shell_goes_on_whatever_is_typed(mode, count, seed, failures, monkeypatch) -> None:
    def pieces(shell: Shell) -> Iterator[Piece]:
        yield from random_keys(seed, count)
        yield from OUT
        shell.prompt.set_keys("emacs")
        yield b"# still here\r"
        wait_until(lambda: "# still here" in shell.prompt._session.history.get_strings())
        yield CTRL_D

    typed = Typed(pieces, mode, _nothing)
    assert typed.code == 0
    assert "Traceback" not in typed.err.getvalue()
    assert [error for error in failures if of_ours(error)] == []


def _nothing(*_: object, **__: object) -> int:
    return 0


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class _Sized(DummyOutput):
    def get_size(self) -> Size:
        return Size(rows=12, columns=80)


@pytest.mark.parametrize("count", COUNTS)
def test_top_goes_on_whatever_is_typed(count, seed, failures, data_dir) -> None:
    queue = JobQueue.open(data_dir)
    queue.enqueue([{"id": f"j{n}", "command": "x"} for n in range(30)])
    queue.close()
    with create_pipe_input() as pipe:
        top = TopScreen(data_dir, View(), input=pipe, output=_Sized())

        def pieces() -> Iterator[Piece]:
            yield from random_keys(seed, count, without=b"q\x03")
            for _ in range(5):
                time.sleep(0.1)
                yield b"\x1b"
            yield CTRL_C

        wait = threading.Event()
        look = top._look

        async def looked() -> None:
            await look()
            wait.set()

        top._look = looked  # type: ignore[method-assign]
        with feeding(pipe, top.app, after(wait, pieces())):
            assert top.run() == 0
    assert [error for error in failures if of_ours(error)] == []
    assert not top.failures


def after(event: threading.Event, pieces: Iterator[Piece]) -> Iterator[Piece]:
    assert event.wait(60)
    yield from pieces
