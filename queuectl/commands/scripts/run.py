"""Runs the statements of a script in order, and notes the progress if asked to."""

from __future__ import annotations

from queuectl.commands.context import Context
from queuectl.commands.dispatch import FAILED, close, run_line
from queuectl.commands.grammar.binding import bind
from queuectl.commands.render import counted
from queuectl.commands.scripts.progress import Progress
from queuectl.commands.scripts.statements import Statement, open_script
from queuectl.commands.table import COMMANDS


def check_script(context: Context, path: str | None) -> int:
    """Show the mistakes of a script and run nothing; returns 1 if there is one."""
    count = wrong = 0
    for statement in open_script(path):
        count += 1
        bound = bind(COMMANDS, statement.text)
        if bound.faults:
            wrong += 1
            context.note(f"queuectl: {statement.word(bound, bound.faults[0])}")
    mistakes = f"{wrong} of them wrong" if wrong else "none of them wrong"
    context.write(f"{counted(count, 'command')}, {mistakes}; nothing was run")
    context.flush()
    return FAILED if wrong else 0


def run_script(
    context: Context, path: str | None, *, resume: str | None = None, stop_on_error: bool = False
) -> int:
    """Run every command of the script (None: standard input); returns 1 if one failed.

    `resume`: the file that keeps the progress.
    """
    context.stdin_taken = path in (None, "-")
    context.in_script = True
    context.stay()
    progress = Progress(resume) if resume is not None else None
    failed = stopped = False
    try:
        for statement in open_script(path):
            if progress is not None and progress.failed:
                told = f"command {progress.failed} failed the last time; it starts over"
                context.note(f"queuectl: {statement.name}: {told}")
                progress.failed = 0
            if progress is not None and progress.is_done(statement):
                continue
            failed = _run_step(context, statement, progress, stop_on_error) != 0 or failed
            if failed and stop_on_error:
                stopped = True
                break
        if progress is not None:
            progress.close(whole=not stopped)
    finally:
        failed = close(context) != 0 or failed
    return FAILED if failed else 0


def _run_step(
    context: Context, statement: Statement, progress: Progress | None, stop_on_error: bool
) -> int:
    """Run a statement and note the progress."""
    bound = bind(COMMANDS, statement.text)
    if progress is None:
        return run_line(context, bound, word=statement.word)
    if progress.was_begun():
        where = f"{statement.name}:{statement.line}"
        context.note(f"queuectl: {where}: interrupted the last time; it is run again")
    progress.note("begun")
    code = run_line(context, bound, word=statement.word)
    context.flush()
    progress.note("failed" if code and stop_on_error else "done")
    return code
