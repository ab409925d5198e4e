"""Anything but a file of ours alone in place of each file is refused, named and set aside."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from contextlib import contextmanager
from zlib import crc32

import pytest
from samples import PYTHON, read

from queuectl.commands.table import COMMANDS
from queuectl.job_queue import JobQueue
from queuectl.model.lifecycle import Outcome
from queuectl.store.files.journal import INTENT, PROMISED, Journal, format_record
from queuectl.store.files.worker_files import older
from queuectl.worker.processes import boot_id

LONGEST = 20.0  # seconds that one command may take on a machine that is busy with other tests

# -- the queue, and what is put into it

pytestmark = pytest.mark.usefixtures("no_patience")


@pytest.fixture
def tmp_path(memory_path):
    """Thousands of files are written here."""
    return memory_path


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A queue with a job of each kind, output of two runs, and a worker that was lost."""
    path = str(tmp_path_factory.mktemp("template") / "queue")
    queue = JobQueue.open(path)
    queue.enqueue([{"id": "done", "command": "true"}, {"id": "lost", "command": "true"}])
    slot = queue.register_worker("-", "-")
    job = queue.claim(slot.id)
    queue.settle(job, Outcome("exited", 0, None, queue.now()))
    with open(os.path.join(queue.folder, "note"), "w", encoding="ascii") as file:
        file.write(f"{slot.id} {job.log_word}")
    queue.claim(slot.id)
    queue.enqueue([{"id": "gone", "command": "false", "max_retries": 0}])
    dead = queue.claim("w-none")
    queue.settle(dead, Outcome("exited", 1, None, queue.now()))
    queue.enqueue([{"id": "waits", "command": "true"}])
    queue.checkpoint()
    slot.close()
    logs = os.path.join(path, "logs")
    os.mkdir(logs, 0o700)
    for name in (f"done.1.{job.log_word}.log", f"{slot.id}.spool"):
        with open(os.path.join(logs, name), "w", encoding="ascii") as file:
            file.write("output\n")
    queue.close()
    return path


def copy(template, path):
    """A copy of the template, and the names of its worker and of its job's log."""
    shutil.copytree(template, path, ignore=shutil.ignore_patterns("*.wake", "note"))
    with open(os.path.join(template, "note"), encoding="ascii") as file:
        worker, word = file.read().split()
    os.mkfifo(os.path.join(path, "workers", f"{worker}.wake"), 0o600)
    return {"W": worker, "L": f"done.1.{word}.log"}


FILES = (
    ".queuectl",
    "jobs.json",
    "dlq.json",
    "config.json",
    "worker_pids.json",
    "env_sets.json",
    "journal",
    "queue.lock",
)
FOLDERS = ("workers", "logs")
INSIDE = (
    "workers/W",
    "workers/W.wake",
    "workers/w-new",
    "workers/.w-new",
    "logs/L",
    "logs/W.spool",
)
PLACES = (*FILES, *FOLDERS, *INSIDE)


def pipe(path, outside):
    os.mkfifo(path)


def device(path, outside):
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root can make a device")


def bound_socket(path, outside):
    with socket.socket(socket.AF_UNIX) as end:
        here = os.open(".", os.O_RDONLY)
        try:
            os.chdir(os.path.dirname(path))  # the name of a socket may have 107 bytes
            end.bind(os.path.basename(path))
        finally:
            os.chdir(here)
            os.close(here)


def folder(path, outside):
    os.mkdir(path)


def plain_file(path, outside):
    with open(path, "wb") as file:
        file.write(b"not a folder")


def link(path, outside):
    os.symlink(outside, path)


def link_to_nothing(path, outside):
    os.symlink(f"{outside}-gone", path)


def link_to_itself(path, outside):
    os.symlink(os.path.basename(path), path)


def second_name(path, outside):
    os.link(outside, path)


def another_users(path, outside):
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.rename(outside, path)
    os.chown(path, 12_345, -1)


KINDS = (
    pipe,
    device,
    bound_socket,
    folder,
    plain_file,
    link,
    link_to_nothing,
    link_to_itself,
    second_name,
    another_users,
)


def is_odd(place, kind):
    """Whether that kind is wrong in that place: a file is a file, a folder a folder."""
    is_pipe = place.endswith(".wake")
    if place in FOLDERS:
        return kind not in (folder, second_name)
    if kind is plain_file:
        return is_pipe
    if kind is second_name:
        return not is_pipe and place != "logs/L"
    return not (is_pipe and kind is pipe)


# -- commands

ARGS = {
    "enqueue": ("--command", "true"),
    "show": ("done",),
    "explain": ("done",),
    "logs": ("done",),
    "watch": ("1", "status"),
    "wait": ("done",),
    "update": ("--id", "waits", "--priority", "1"),
    "edit": ("waits",),
    "cancel": ("waits",),
    "retry": ("gone",),
    "purge": ("--yes",),
    "worker run": ("--drain",),
    "dlq retry": ("--all",),
    "config set": ("base", "3"),
    "config unset": ("base",),
    "backup": ("copy.jsonl", "--force"),
    "restore": ("whole.jsonl", "--replace", "--yes"),
    "completion": ("bash",),
}
OFTEN = ("list", "show", "status", "enqueue", "checkpoint")  # what is asked of each kind of thing


class TooLong(BaseException):
    """A command that hangs."""


@contextmanager
def deadline(what, patient):
    """A worker may wait for the queue to be mended, if `patient`, but leaves when it is told to."""

    def ring(*_):
        if patient and signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            raise TooLong(what)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.3 if patient else LONGEST, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(cli, *argv, patient=False):
    """The result of a command, which may refuse, but neither hang nor stumble."""
    with deadline(argv, patient and argv[:2] == ("worker", "run")):
        result = cli(*argv)
    assert "unexpected" not in result.err, (argv, result)
    assert "Traceback" not in result.err, (argv, result)
    assert "writing the output" not in result.err, (argv, result)
    if result.code == 5:
        told = [line for line in result.err.splitlines() if line.startswith("queuectl: ")]
        assert len(told) == 1, (argv, result)
    return result


def walk(cli, *, patient=False):
    """Every command once; the exit code of each by its words."""
    cli("--data", "whole", "backup", "whole.jsonl")
    codes = {}
    for spec in COMMANDS:
        words = " ".join(spec.words)
        if words in ("serve", "dashboard"):  # which go on until they are stopped
            continue
        codes[words] = run(cli, *spec.words, *ARGS.get(words, ()), patient=patient).code
    return codes


@pytest.fixture
def no_spawn(monkeypatch):
    """`worker start` looks at everything and starts nothing."""
    from queuectl.worker import pool

    monkeypatch.setattr(pool, "_spawn", lambda folder, log, said: os.write(said, b"1"))


def put(cli, template, place, kind):
    """A queue with something odd in one place: its path, and the file outside that it leads to."""
    names = copy(template, cli.folder)
    for short, name in names.items():
        if f"/{short}" in place:
            place = place.replace(f"/{short}", f"/{name}")
    path, outside = os.path.join(cli.folder, place), os.path.abspath("outside")
    if os.path.isdir(path):
        shutil.move(path, outside)
    elif os.path.exists(path) and not place.endswith(".wake"):
        os.rename(path, outside)
    else:
        if place.endswith(".wake") and os.path.exists(path):
            os.unlink(path)
        with open(outside, "wb") as file:
            file.write(b"thesis")
    os.chmod(outside, 0o700 if os.path.isdir(outside) else 0o600)
    kind(path, outside)
    return place, outside


def content(path):
    if not os.path.isdir(path):
        return read(path)
    return {name: os.path.isfile(os.path.join(path, name)) for name in os.listdir(path)}


@pytest.mark.parametrize(
    ("place", "kind"),
    [(place, kind) for place in PLACES for kind in KINDS if is_odd(place, kind)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_it_is_refused_named_and_set_aside(cli, template, no_spawn, place, kind):
    shutil.copytree(template, "whole", ignore=shutil.ignore_patterns("*.wake"))
    place, outside = put(cli, template, place, kind)
    kept = content(outside) if os.path.exists(outside) else None
    told = run(cli, "doctor")
    assert told.code == 1
    assert f"Problem: {place}: " in told.out, told
    often = kind in (pipe, link)  # all commands take their time: of other kinds only the usual ones
    codes = (
        walk(cli) if often else {name: run(cli, name, *ARGS.get(name, ())).code for name in OFTEN}
    )
    if place in FILES or place in ("workers", "workers/w-new"):
        assert codes["enqueue"] == 5, codes
        assert codes["checkpoint"] == 5 or place in ("config.json", "env_sets.json"), codes
    if place in FILES[:3] or place in ("journal", "workers"):
        assert codes["status"] == 5, codes
    assert run(cli, "doctor", "--repair").code in (0, 1)
    healed = run(cli, "doctor")
    assert healed.code == 0, healed
    assert run(cli, "enqueue", "--id", "new", "--command", "true").code == 0
    assert run(cli, "show", "new").code == 0
    if kept is not None and kind is not another_users:
        assert content(outside) == kept


@pytest.mark.parametrize(
    "kind", [k for k in KINDS if k not in (folder, link, second_name)], ids=lambda k: k.__name__
)
def test_in_the_place_of_the_data_folder_it_is_refused(cli, template, no_spawn, kind):
    shutil.copytree(template, "whole", ignore=shutil.ignore_patterns("*.wake"))
    outside = os.path.abspath("outside")
    os.mkdir(outside)
    kind(cli.folder, outside)
    codes = walk(cli)
    if kind is not link_to_nothing:
        assert codes["status"] == codes["enqueue"] == codes["doctor"] == 5


# -- a journal whose checksums are right, and whose records mean nothing

JOB = (
    b'{"id": "odd", "state": "pending", "priority": 0, "run_at": "2026-01-01T00:00:00.000000Z", '
    b'"command": "true", "max_retries": 3, "created_at": "2026-01-01T00:00:00.000000Z", '
    b'"updated_at": "2026-01-01T00:00:00.000000Z"}\n'
)
NONSENSE = {
    "no JSON": b'{"id": "odd", "state": "pending", "prio\n',
    "no job": b"hello, this is no job at all\n",
    "a list": b'["id", "odd", "state", "pending"]\n',
    "no id": JOB.replace(b'"id": "odd", ', b""),
    "another key first": b'{"state": "pending", "id": "odd", "command": "true"}\n',
    "neither job nor removal": b'{"id": "odd", "colour": "red"}\n',
    "no command": JOB.replace(b'"command": "true", ', b""),
    "no times": JOB.replace(b', "created_at"', b', "x"').replace(b', "updated_at"', b', "y"'),
    "an empty line": JOB + b"\n" + JOB,
    "not UTF-8": JOB.replace(b"true", b"\xff\xfe"),
    "a priority of text": JOB.replace(b'"priority": 0', b'"priority": "x"'),
    "a command of a number": JOB.replace(b'"true"', b"5"),
    "a history of a number": JOB.replace(b"}", b', "history": 5}'),
    "a time of words": JOB.replace(b'"run_at": "2026-01-01T00:00:00.000000Z"', b'"run_at": "soon"'),
    "an unknown state": JOB.replace(b'"pending"', b'"resting"'),
    "a line that is cut": JOB.replace(b"}", b""),
    "a path for an id": JOB.replace(b'"odd"', b'"../../thesis.txt"'),
    "a path for a worker": JOB.replace(b'"pending"', b'"in_progress"').replace(
        b"}", b', "run": 1, "worker": "../../thesis.txt"}'
    ),
}


def append(path, payload, counts=None, flag=PROMISED):
    """Add a record with a right checksum, whatever is in it."""
    journal = Journal.for_writing(path)
    try:
        journal.read_on()
        record = format_record(payload, journal.seq + 1, flag, journal.counts)
        if counts is not None:
            tail = b"%d %s %s" % (journal.seq + 1, flag, counts)
            record = b"@%d %08x %s\n%s" % (
                len(payload),
                crc32(tail, crc32(payload)),
                tail,
                payload,
            )
    finally:
        journal.close()
    with open(os.path.join(path, "journal"), "ab") as file:
        file.write(record)


def mended(cli):
    """The queue tells what is wrong, is mended, and has all jobs that make sense."""
    told = run(cli, "doctor")
    assert told.code == 1, told
    assert "journal" in told.out or "jobs" in told.out
    assert run(cli, "doctor", "--repair").code in (0, 1)
    healed = run(cli, "doctor")
    assert healed.code == 0, healed
    assert run(cli, "enqueue", "--id", "new", "--command", "true").code == 0
    for job in ("done", "gone", "waits", "lost", "new"):
        assert run(cli, "show", job).code == 0, job


@pytest.mark.parametrize("payload", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_record_of_nonsense_is_refused_and_mended(cli, template, no_spawn, payload):
    shutil.copytree(template, "whole", ignore=shutil.ignore_patterns("*.wake"))
    copy(template, cli.folder)
    with open("thesis.txt", "wb") as file:
        file.write(b"thesis")
    append(cli.folder, payload)
    codes = walk(cli, patient=True)
    assert 5 in (codes["checkpoint"], codes["list"]), codes
    shutil.rmtree(cli.folder)
    copy(template, cli.folder)
    append(cli.folder, payload)
    mended(cli)
    assert read("thesis.txt") == b"thesis"


@pytest.mark.parametrize("payload", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_record_of_nonsense_gets_into_no_job_file(cli, template, no_spawn, payload):
    copy(template, cli.folder)
    append(cli.folder, payload)
    for words in (("enqueue", "--command", "true"), ("checkpoint",), ("enqueue", "--", "true")):
        told = run(cli, *words)
        assert told.code == 5 or words[0] == "enqueue", told
    assert "doctor" in run(cli, "checkpoint").err
    for name in ("jobs.json", "dlq.json"):
        data = read(cli.folder, name)
        assert not any(line in data for line in payload.splitlines() if b"odd" in line)


@pytest.mark.parametrize("counts", [b"", b"1,2,3", b"pending=x", b"=", b"pending", b"\xff"])
def test_counts_that_are_none_are_refused_and_mended(cli, template, no_spawn, counts):
    shutil.copytree(template, "whole", ignore=shutil.ignore_patterns("*.wake"))
    copy(template, cli.folder)
    append(cli.folder, JOB, counts)
    codes = walk(cli)
    assert codes["status"] == codes["list"] == codes["enqueue"] == codes["checkpoint"] == 5
    mended(cli)


@pytest.mark.parametrize("payload", [b"\n", b"1 2 3\n", b"1 2 3 x\n", b"hello\n"])
def test_an_intent_of_nonsense_is_refused_and_mended(cli, template, no_spawn, payload):
    shutil.copytree(template, "whole", ignore=shutil.ignore_patterns("*.wake"))
    copy(template, cli.folder)
    append(cli.folder, payload, flag=INTENT)
    codes = walk(cli)
    assert codes["list"] == codes["checkpoint"] == 5
    mended(cli)


@pytest.mark.parametrize(
    "words", [b"", b"2", b"x", b"2 1", b"2 x 0 0 0 - 1:1:1:1:1 1:1:1:1:1", b"2 1 0 0 0 - 1 1"]
)
def test_a_header_of_nonsense_is_refused_and_mended(cli, template, no_spawn, words):
    shutil.copytree(template, "whole", ignore=shutil.ignore_patterns("*.wake"))
    copy(template, cli.folder)
    line = b"queuectl-journal " + words
    with open(os.path.join(cli.folder, "journal"), "wb") as file:
        file.write(b"%s %08x\n" % (line, crc32(line)))
    codes = walk(cli)
    assert codes["status"] == codes["list"] == codes["enqueue"] == codes["checkpoint"] == 5
    mended(cli)


# -- a worker's file of nonsense

HUGE = 10**20


@pytest.mark.parametrize("is_held", [True, False])
@pytest.mark.parametrize(
    ("process", "run_line"),
    [
        (f"{HUGE} 5", f"lost 1 {HUGE} 5"),
        ("0 0", "lost 1 0 0"),
        ("4194303 abc", "lost 1 4194303 abc"),
    ],
)
def test_a_worker_file_of_nonsense_stops_nobody(cli, template, process, run_line, is_held):
    worker = copy(template, cli.folder)["W"]
    path, above = os.path.join(cli.folder, "workers", worker), os.stat(cli.folder)
    facts = f"format=new inode={os.stat(path).st_ino} folder={above.st_dev}:{above.st_ino}"
    facts += " end=lost,1,exited,3,nonsense"
    with open(path, "r+", encoding="ascii") as file:
        file.truncate()
        file.write(f"{worker} {process} {boot_id()} now\n{run_line:<255}\n{facts}\n")
        file.flush()
        if is_held:
            fcntl.flock(file, fcntl.LOCK_EX)
        assert [info.id for info in older(cli.folder, 2)] == [worker] * is_held
        for argv in (("status",), ("explain", "lost"), ("worker", "list"), ("worker", "stop")):
            run(cli, *argv)
        assert run(cli, "enqueue", "--command", "true").code == 0
    assert run(cli, "doctor", "--repair").code == 0
    assert run(cli, "show", "lost").out.split()[1] != "in_progress"
    assert run(cli, "doctor").code == 0


# -- a machine that gives no more


def limited(cli, limit, amount, *argv):
    """The result of a command under a limit; it may fail, in one line and with exit code 5.

    -1 if the interpreter failed before it came to the program.
    """
    script = f'ulimit -{limit} {amount}; exec "$@"'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", sys.executable, "-m", "queuectl", *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "Traceback" in done.stderr and f"queuectl{os.sep}" not in done.stderr:
        return -1
    assert "Traceback" not in done.stderr, (amount, argv, done)
    assert "unexpected" not in done.stderr, (amount, argv, done)
    if done.returncode not in (0, 1 if argv[0] == "doctor" else 0):
        assert done.returncode == 5, (amount, argv, done)
        told = [line for line in done.stderr.splitlines() if line.startswith("queuectl: ")]
        assert len(told) == 1, (amount, argv, done)
    return done.returncode


USUAL = (
    ("status",),
    ("list",),
    ("show", "done"),
    ("enqueue", "--command", "true"),
    ("checkpoint",),
    ("config", "set", "base", "3"),
    ("doctor",),
    ("logs", "done"),
    ("worker", "run", "--drain"),
)


@pytest.mark.parametrize("argv", USUAL, ids=" ".join)
def test_without_descriptors_a_command_says_so(cli, template, argv):
    copy(template, cli.folder)
    codes = [limited(cli, "n", amount, *argv) for amount in (5, 7, 9, 12)]
    assert codes[0] != 0 or argv == ("status",)
    assert run(cli, "doctor", "--repair").code in (0, 1)
    assert run(cli, "show", "done").code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit means nothing")
@pytest.mark.parametrize("argv", [USUAL[0], USUAL[1], USUAL[3]], ids=" ".join)
def test_without_memory_a_command_says_so(cli, template, bare_size, argv):
    copy(template, cli.folder)
    codes = [limited(cli, "v", bare_size + more, *argv) for more in (300, 1000, 2000)]
    assert 5 in codes or argv == ("status",)
    assert run(cli, "show", "done").code == 0


@pytest.fixture(scope="module")
def bare_size():
    """KiB of addresses that the leanest command takes, at least."""
    low, high = 1 << 13, 1 << 17
    while high - low > 512:
        middle = (low + high) // 2
        script = f"ulimit -v {middle}; exec {PYTHON} -m queuectl version"
        done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=False)
        low, high = (low, middle) if done.returncode == 0 else (middle, high)
    return high
