"""The folder of one campaign: the queue, the jobs' script and records, and everybody's notes.

Each process writes notes into a file of its own, a line a note, appended and synced, so that what
it knew survives its killing. A last line that was cut short says nothing.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from queuectl.store import opening
from queuectl.store.files.journal import Journal

MARK = "QUEUECTL_CAMPAIGN"  # in the environment of all processes of a campaign: its folder

# What every job runs, by `. ./job.sh` after `set -- KIND FAILS NAP TICKET`. Each process of a run
# inherits a lock on the job's record (9), but the escaped one, which holds another (8): what the
# next run cannot lock shows that something of the run before it still lives. A run's exit code
# follows from its number, so that a result which went to another run's account shows itself.
JOB_SCRIPT = r"""
note() {
    read -r up _ </proc/uptime
    echo "$1 $QUEUECTL_ATTEMPT $2 $up $QUEUECTL_WORKER" >&9
}
exec 9>>"runs/$QUEUECTL_JOB_ID"
flock -n 9 || note twice $$
if [ "$1" = escape ]; then
    exec 8>>"escaped/$QUEUECTL_JOB_ID"
    flock -n 8 || note escaped $$
fi
# Of a number that a limit gives, and of a lock, only one living run may know.
if [ -n "$QUEUECTL_SLOT_GPU" ]; then
    exec 7>>"escaped/slot.$QUEUECTL_SLOT_GPU"
    flock -n 7 || note twice $$
fi
note start $$
case $1 in
    nap) sleep "$3" ;;
    stubborn) trap '' TERM; sleep "$3" ;;
    slow) sleep 60 ;;
    guarded) timeout 60 sh -c 'sleep 50; :' ;;
    apart) setsid -w sh -c 'sleep 50; :' ;;
    monitored)
        bash -c 'set -m; sleep 600 & sleep "$1"' bash "$3" ;;
    child) sleep 600 & sleep "$3" ;;
    escape)
        setsid sh -c 'while kill -0 "$1"; do sleep 0.05; done' "$0" $$ 9>&- 7>&- 2>/dev/null &
        sleep "$3" ;;
    loud)
        i=0
        while [ $i -lt 400 ]; do
            i=$((i + 1))
            echo "$QUEUECTL_JOB_ID $QUEUECTL_ATTEMPT $i"
        done ;;
esac
code=0
if [ "$2" -lt 0 ] || [ "$QUEUECTL_ATTEMPT" -le "$2" ]; then
    code=$((10 + QUEUECTL_ATTEMPT % 50))
fi
note end $code
exit $code
"""
LOUD_LINES = 400
_KINDS = {"ok": 6, "nap": 5, "child": 2, "escape": 2, "loud": 2, "slow": 1, "stubborn": 1}
# What makes groups or sessions of its own: versions of format 1 let it escape.
_MOVERS = {"guarded": 1, "apart": 1, "monitored": 1}
ENDLESS = frozenset({"slow", "guarded", "apart"})  # their time is up before they end


class Task(NamedTuple):
    """What a job was made to do, as its command tells."""

    kind: str
    fails: int  # its first runs; -1: all
    nap: float
    ticket: str

    @classmethod
    def of(cls, command: str) -> Task:
        """The task of a job's command."""
        words = command.partition(";")[0].split()
        return cls(words[2], int(words[3]), float(words[4]), words[5])

    def command(self) -> str:
        """The command that does it, in the yard."""
        return f"set -- {self.kind} {self.fails} {self.nap} {self.ticket}; . ./job.sh"

    def exit_code(self, run: int) -> int:
        """What the run ends with, if it comes to its end."""
        return 10 + run % 50 if self.fails < 0 or run <= self.fails else 0


class Yard:
    """The folder of a campaign."""

    def __init__(self, root: str, older: str = "", url: str = "") -> None:
        self.root = os.path.abspath(root)
        self.older = older  # where the package of format 1 lies, if its workers take part
        self.url = url  # of the database that holds the queue, if one does
        self.data = opening.find(url, os.environ) if url else os.path.join(self.root, "queue")
        self.notes = os.path.join(self.root, "notes")

    @property
    def has_all(self) -> bool:
        """Whether hooks, schedules and unique keys take part: no worker knows none of them."""
        return not self.older

    def hook(self) -> str:
        """The command of each hook."""
        task = Task("ok", 0, 0.0, "hook")
        return task.command().replace(". ./job.sh", f"cd '{self.root}' && . ./job.sh")

    def schedules(self) -> list[dict[str, object]]:
        """Schedules, with a copy that takes part of the time between, and one that takes more."""
        return [
            {
                "id": f"every.{every}",
                "every": every,
                "command": Task("nap", 0, nap, "every").command(),
                "cwd": self.root,
                "tags": ["gpu"] * (every == 2),
            }
            for every, nap in ((1, 0.2), (2, 2.5))
        ]

    def make(self) -> None:
        """Make all but the queue, which whoever comes first makes."""
        for name in ("notes", "runs", "escaped"):
            os.makedirs(os.path.join(self.root, name))
        with open(os.path.join(self.root, "job.sh"), "w", encoding="ascii") as file:
            file.write(JOB_SCRIPT)

    def draft(self, chance: random.Random, ticket: str) -> dict[str, object]:
        """A job as a person might enqueue it."""
        kinds = _KINDS if self.older else _KINDS | _MOVERS
        kind = chance.choices(list(kinds), list(kinds.values()))[0]
        fails = chance.choices([0, chance.randint(1, 3), -1], [12, 4, 1])[0]
        task = Task(kind, fails, round(chance.uniform(0.02, 0.5), 2), ticket)
        draft: dict[str, object] = {"command": task.command(), "cwd": self.root}
        draft["max_retries"] = max(fails, chance.randint(0, 3))
        if kind in ENDLESS:
            draft |= {"timeout": 0.3, "max_retries": chance.randint(0, 1)}
        if chance.random() < 0.3:
            draft["priority"] = chance.randint(-5, 5)
        if chance.random() < 0.05:
            draft["rerun"] = False
        if not self.older:
            draft["tags"] = chance.choice(([], [], ["gpu"], ["gpu", "night"]))
            draft["lock"] = chance.choice(([], [], [], ["db"], ["db", "net"]))
        return draft

    def runs(self, job_id: str) -> list[list[str]]:
        """What a job's runs recorded: word, run, pid or exit code, seconds since boot, worker."""
        return [line.split() for line in whole_lines(os.path.join(self.root, "runs", job_id))]

    def told(self, *words: str) -> Iterator[list[str]]:
        """The notes that begin with one of the words, file by file in the order of writing."""
        for name in sorted(os.listdir(self.notes)):
            for line in whole_lines(os.path.join(self.notes, name)):
                note = line.split(" ")
                if note[0] in words:
                    yield note

    def folds(self) -> int:
        """How often the queue was folded."""
        journal = Journal.for_reading(self.data)
        journal.close()
        return journal.header.generation - 1

    def violations(self) -> list[str]:
        """What processes of the campaign saw that must not be."""
        return [" ".join(note[1:]) for note in self.told("violation")]


class Notes:
    """One process's notes."""

    def __init__(self, yard: Yard, who: str) -> None:
        path = os.path.join(yard.notes, who)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def tell(self, *words: object) -> None:
        """Write one note; it is on disk when this returns."""
        text = " ".join(map(str, words)).replace("\n", "\\n")
        os.write(self._fd, f"{text}\n".encode())
        os.fdatasync(self._fd)


def show(lines: Iterable[str]) -> int:
    """Print what a campaign tells as it comes: remarks (#) and faults; 1 if there is a fault."""
    faults = 0
    for line in lines:
        faults += not line.startswith("#")
        print(line if line.startswith("#") else f"FAULT {line}")
    return int(faults > 0)


def whole_lines(path: str, start: int = 0) -> list[str]:
    """The lines of a file, from the byte `start` on, that were written to their end."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            file.seek(start)
            return file.read().split("\n")[:-1]
    except FileNotFoundError:
        return []


def processes_of(facts: Mapping[str, str]) -> list[int]:
    """Pids of the processes whose environment holds all of these (an empty text: any value)."""
    wanted = [f"{name}={text}".encode() for name, text in facts.items()]
    return [pid for pid in _pids() if _holds(pid, wanted)]


def _pids() -> list[int]:
    return [
        int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()
    ]


def _holds(pid: int, wanted: list[bytes]) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            held = file.read().split(b"\0")
    except OSError:
        return False
    return all(
        any(entry == fact or (fact.endswith(b"=") and entry.startswith(fact)) for entry in held)
        for fact in wanted
    )
