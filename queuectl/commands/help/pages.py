"""The text of `help` and `version`, made from the table of commands."""

from __future__ import annotations

from queuectl import __version__
from queuectl.commands.dispatch import Result
from queuectl.commands.grammar.specs import find_command
from queuectl.commands.table import COMMANDS
from queuectl.errors import InvalidInput, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from queuectl.commands.context import Context
    from queuectl.commands.grammar.specs import CommandSpec, Param

_WIDTH = 80


_INTRO = """\
queuectl: run shell commands in the background, with retries and dead letters.

Usage: queuectl COMMAND ...       run one command
       queuectl < SCRIPT          run one command per line (or: -f SCRIPT)
       queuectl                   open the shell, on a terminal
"""

_GLOBALS = """\
Options, anywhere on the line:
  --data DIR       the data folder (else QUEUECTL_DATA, ./data, your own)
  -q, --quiet      results only; ids instead of sentences
  --color WHEN     auto, always (also: FORCE_COLOR=1) or never (--no-color,
                   NO_COLOR=1)
  --no-pager       no pager for a result longer than the screen
  -h, --help       explain the command

Options of a script:
  -f FILE          read the commands from FILE
  --stop-on-error  end at the first command that fails
  --dry-run        show the mistakes and run nothing
  --resume FILE    keep the progress in FILE, and go on from there
"""

TOPICS = {
    "exit-codes": """\
Exit codes
  0    done
  1    it failed, or a line of a script failed
  2    the command line or its input is wrong; nothing was changed
  3    no such job, run or worker
  4    conflict: the id exists, or the job's state does not allow it
  5    the data folder is busy, cannot be read, or refuses to be written
  124  wait: the time given by --timeout is up
  125  wait, run: queuectl itself failed, not the job
  129  ended by a hangup
  130  interrupted (Ctrl-C)
  141  the reader of the output went away
  143  ended by SIGTERM; worker run --drain also by worker stop with jobs left
run, and wait with one job, exit with that job's own exit code (1 if it was
cancelled or never had one); wait with several 0 if all completed, else 1.
""",
    "objects": """\
Objects
  A job can be given as strict JSON or in a relaxed form:
    enqueue '{"id": "job1", "command": "echo Hello"}'
    enqueue {id: job1, command: "echo Hello"}
  In the relaxed form keys and values need no quotes. A bare value runs to the
  next comma that is followed by a word and ':', or to the closing brace:
    enqueue {id: job1, command: echo a, b, max_retries: 1}
  If that word is not a field, the object is refused; if it belongs to the
  value, put quotes around the whole value: {command: "echo a, b: c"}.
  Your own shell reads the line first: there, put single quotes around the
  object. In the queuectl shell and in scripts none are needed.
  'help fields' lists the fields.
""",
    "each": """\
Each
  enqueue --each FILE adds a job for each row of a .csv or .tsv file with a
  header, or for each line of another file (- is standard input); all or none:
    enqueue --each runs.csv --id 'run-{n}' --priority '{p}' -- train '{rate}'
  {column} is a cell of the row, {} the line, {n} the number of the row, from 1
  on. They may be in the words after --, in a --command outside of quotes, and
  in the values of options. In a command a value is always one word of the
  shell. --dry-run shows what would be added.
  Doubled braces are braces: {{x}} is the text {x}, {{}} is {} (for find
  -exec), {{{x}}} the value of x in braces. Other braces stay, like {a,b} and
  ${HOME}; {.}, {/} and {1} of GNU parallel are refused, and so is a job that
  is the same for every row.
  To enqueue a file of command lines: sed 's/^/enqueue -- /' FILE | queuectl
""",
    "running": """\
Running
  A job is run by /bin/sh -c in the folder in which it was enqueued, with no
  input. QUEUECTL_DATA names its queue, QUEUECTL_JOB_ID the job and
  QUEUECTL_ATTEMPT the run. If the tag gpu has a limit, QUEUECTL_SLOT_GPU is a
  number, from 0 on, that no other running job with that tag has.
  The file of --env-file has lines NAME=VALUE, without export; a value is
  everything up to the end of its line, with quotes. # begins a comment.
What a run leaves behind
  When its shell has ended, everything that stayed in its session is ended too.
  What left the session (setsid, a daemon) lives on only if the run succeeded:
  exit code 0, and not cancelled, timed out or stopped. After any other end, and
  before the job of a lost worker is run again, nothing of the run is left.
  Each process gets TERM, then CONT; after kill-grace KILL, and KILL at once if
  the worker is lost. A worker that a job started in the background is not part
  of the job, nor are its runs.
  A process that cannot be ended (another user's, or one that hangs in the
  kernel) keeps the job in progress: explain and worker list name it, and
  cancel --abandon gives the run up.
  What other programs do for a job is out of reach: at, docker, systemd-run, a
  tmux server that ran before.
""",
    "hooks": """\
Hooks
  The settings on-dead, on-completed and on-cancelled each hold a command. When
  a job ends that way, the same change adds a job with that command: it runs
  before all others, in the data folder (in your home folder if the queue is in
  MongoDB), for at most a minute, is retried three times and is then dead, like
  any job. Its tag is hook.
  Its subject is in its environment, never in its command:
    QUEUECTL_EVENT      dead, completed or cancelled
    QUEUECTL_OF         the id of the job
    QUEUECTL_EXIT_CODE  of its latest run, if it had one
    QUEUECTL_ERROR      why it failed
    QUEUECTL_LOG        the file of its output, which may be missing; empty if
                        the queue is in MongoDB: queuectl logs "$QUEUECTL_OF"
  queuectl show --json "$QUEUECTL_OF" shows the rest. For example:
    config set on-dead 'tail -n 50 "$QUEUECTL_LOG" | mail -s "$QUEUECTL_OF" me'
  Jobs that fall with a parent have no hook: there may be thousands, and one
  hook reports the cause; queuectl explain "$QUEUECTL_OF" names them. Only if
  the cause has notify: false, the first job that fell has one instead.
  Jobs with notify: false (enqueue --no-notify) and hooks have no hook; jobs
  that a hook enqueues have none unless they say notify: true. wait --all and
  stats skip hooks.
""",
    "selecting": """\
Selecting jobs
  Ids, and options that must all hold:
    --state S      in this state; S1,S2 for either
    --tag T        with this tag; given again, with all of them
    --match TEXT   whose id or command contains the text; case does not matter
    --error TEXT   whose error contains the text
    --exit-code N  whose latest run ended with this exit code
    --since WHEN, --until WHEN   by the last change: 18:30, yesterday 20:00,
                   2026-01-31T08:30:00Z, a day (today) for its beginning, or
                   how long ago: 2h
    --recurring    only schedules (--every, --cron), not copies of them
    --limit N      at most this many of those, the oldest first
  Put ids before such options: a word right after the value of a repeatable
  option (--tag gpu night, update a --after b c) could be either, and is
  refused, unless nothing else in the line names the job: then it is its id.
  A command changes all of the jobs or none. On a terminal it asks about
  several first, and then changes only those; elsewhere --yes is needed with
  options that select. --dry-run only shows them. An empty text is refused,
  and without ids and options nothing is changed; only purge takes all
  completed and cancelled jobs then.
  cancel selects jobs that have not ended, retry failed and dead ones unless
  --state names others, purge completed and cancelled ones.
  update sets --state and --tag; there --in-state and --with-tag select.
  The first four or more letters of an id are enough if no other id begins
  like that: in commands that change nothing, and if a person can be asked. A
  script that changes jobs must give whole ids.
""",
    "scripts": """\
Scripts
  queuectl < jobs.txt, or queuectl -f jobs.txt
  One command on each line, as in the shell. # starts a comment at the start of
  a word; an object or quoted text may span several lines. The text after --
  goes to /bin/sh unchanged, with pipes and comments.
  A line that fails is reported as NAME:LINE: and the rest runs; the exit code
  is then 1. --stop-on-error ends the script there.
  --dry-run reads all lines, shows the mistakes in them and runs nothing.
  --resume FILE keeps in FILE which lines were run. After the script was killed,
  the same command goes on where it was; an interrupted line is run again.
  After a failure that ended the script (--stop-on-error) it starts over at the
  first line. A script that reaches its end removes FILE.
  For nightly scripts put two lines that run it with --resume FILE into the
  crontab: one that begins with 'rm -f FILE;', so that each night starts over,
  and one for @reboot that begins with 'test -e FILE &&'.
""",
    "shell": """\
In the shell
  Tab, Down    enter the menu; a single offer is taken, and the next menu opens;
               the right arrow takes the grey suggestion
  Up           earlier lines that begin alike; Ctrl-R searches them, and
               Enter there runs the line found (with the keys of vi: takes it)
  Enter        runs the line; a wrong one stays, with the cursor at the mistake
  Ctrl-C       clears the line, or ends what is being watched, never a job
  Ctrl-D       leaves; so do exit and quit
  Ctrl-X Ctrl-E  edits the line in $EDITOR; F4 changes between emacs and vi
  !COMMAND     runs a command of your own shell at once, outside the queue
  alias        lets a word stand for the front of a line: alias bad dlq list;
               alias lists them, unalias bad forgets it
  notify       on, off or dead: which jobs enqueued here get notices
  keys         emacs or vi: how the line is edited
  source FILE  runs the commands in a file
When it opens it runs the lines of $XDG_CONFIG_HOME/queuectl/shellrc, if that
exists (else ~/.config/queuectl/shellrc): aliases, notify, keys or any other.
QUEUECTL_SHELLRC names another file; /dev/null for none.
""",
}


def show_help(context: Context, args: dict[str, Any]) -> Result:
    """Show the overview, a command, a group of commands, or a topic."""
    words = tuple(args["topic"])
    return Result([help_text(words) if words else overview()])


def version(context: Context, args: dict[str, Any]) -> Result:
    """Show name and version."""
    return Result([f"queuectl {__version__}"], words=[__version__])


def overview() -> str:
    """The text of `queuectl help`."""
    listed = "".join(f"  {' '.join(spec.words):<15} {spec.summary}\n" for spec in COMMANDS)
    topics = _wrapped("Topics:", f"{', '.join((*TOPICS, 'settings', 'fields'))}\n".split(" "))
    more = "queuectl help COMMAND shows its options and examples.\n"
    return f"{_INTRO}\nCommands:\n{listed}\n{_GLOBALS}\n{topics}{more}"


def help_text(words: tuple[str, ...]) -> str:
    """The page of a command (`("dlq", "retry")`), a group (`("dlq",)`) or a topic.

    Raises InvalidInput if there is none.
    """
    spec = find_command(COMMANDS, words)
    found = [spec] if spec else [spec for spec in COMMANDS if spec.words[: len(words)] == words]
    if found:
        return "\n".join(map(command_page, found))
    page = _topic(" ".join(words))
    if page is None:
        known = [*TOPICS, "settings", "fields", *(" ".join(spec.words) for spec in COMMANDS)]
        asked = " ".join(words)
        raise InvalidInput(f"no help about '{asked}'{did_you_mean(asked, known)}")
    return page


def _topic(name: str) -> str | None:
    if name == "settings":
        from queuectl.config import SETTINGS, show_value

        shown = [(s.name, f"{s.meaning} (default {show_value(s, s.default)})") for s in SETTINGS]
        return "Settings: config set NAME VALUE\n" + _listing(shown)
    if name == "fields":
        from queuectl.model.derived import DERIVED
        from queuectl.model.fields import DELAY, FIELDS

        taken = [(field.name, field.meaning) for field in (*FIELDS, DELAY) if field.enqueue]
        set_by_us = [(field.name, field.meaning) for field in FIELDS if not field.enqueue]
        made = [(derived.name, derived.meaning) for derived in DERIVED]
        return (
            f"Fields that enqueue takes\n{_listing(taken)}"
            f"Fields that list --fields shows besides\n{_listing([*set_by_us, *made])}"
        )
    return TOPICS.get(name)


def command_page(spec: CommandSpec, program: str = "queuectl ") -> str:
    """Synopsis, meaning, parameters and examples of one command, within 80 columns.

    `program` precedes it on the command line, and is "" in the shell.
    """
    name = program + " ".join(spec.words)
    parts = [_wrapped(f"Usage: {name}", synopsis(spec.params)), "", spec.summary]
    if spec.details:
        parts += _wrap(spec.details)
    if spec.params:
        parts += ["", _listing([(spelled(param), param.help) for param in spec.params]).rstrip()]
    parts += ["", "Examples:"]
    parts += [f"  {program}{example}" for example in spec.examples]
    if spec.aliases:
        parts += ["", "Also: " + ", ".join(" ".join(alias) for alias in spec.aliases)]
    return "\n".join(parts) + "\n"


def synopsis(params: Sequence[Param]) -> list[str]:
    """The parameters as a usage line shows them, options after the operands."""
    operands = [param for param in params if not param.name.startswith("--")]
    options = [param for param in params if param.name.startswith("--")]
    last = [param for param in operands if param.kind == "argv"]
    front = [param for param in operands if param.kind != "argv"]
    return [_usage(param) for param in (*front, *options, *last)]


def _usage(param: Param) -> str:
    shown = spelled(param)
    if param.kind == "argv":
        shown = "-- COMMAND [ARG...]"
    elif param.many or param.kind in ("line", "front"):
        shown += "..."
    return shown if param.required else f"[{shown}]"


def spelled(param: Param) -> str:
    """A parameter as people type it: `--count N`, `JOB`."""
    if not param.name.startswith("--"):
        return "-- ..." if param.kind == "argv" else param.name.upper()
    value = "" if param.kind == "flag" else f" {_VALUES.get(param.kind, param.kind.upper())}"
    short = f"{param.short}, " if param.short else ""
    return f"{short}{param.name}{value}"


_VALUES = {
    "int": "N",
    "count": "N",
    "number": "N",
    "duration": "TIME",
    "time": "WHEN",
    "past": "WHEN",
    "match": "TEXT",
}


def _listing(pairs: Sequence[tuple[str, str]]) -> str:
    lines = []
    for name, text in pairs:
        first, *rest = _wrap(text, _WIDTH - 24) or [""]
        lines += [f"  {name:<21} {first}" if len(name) <= 21 else f"  {name}\n{'':24}{first}"]
        lines += [f"{'':24}{line}" for line in rest]
    return "".join(line + "\n" for line in lines)


def _wrap(text: str, width: int = _WIDTH) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _wrapped(start: str, words: Sequence[str]) -> str:
    """`start` and the words after it, with further lines indented and no word broken."""
    lines, indent = [start], " " * 16
    for word in words:
        if len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append(indent + word)
        else:
            lines[-1] += f" {word}"
    return "\n".join(lines)
