"""Files and jobs that are far too large: refused in one line, before they use up the memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from samples import let_rest, make_job, read

from queuectl.job_queue import JobQueue
from queuectl.model.fields import TOO_LONG
from queuectl.store.damage import salvage
from queuectl.store.damage.journal_remains import read_journal
from queuectl.store.files import snapshot
from queuectl.store.files.job_files import encode_job
from queuectl.store.files.journal import PROMISED, format_record

GIANT = 50_000_000_000  # bytes, with nothing in them: a sparse file
MEMORY = 64 << 10  # kB that a refusal may cost beside the bare program
HEAD = b'{"queuectl": "backup", "format": 2, "made_at": "", "settings": {}, "env_sets": {}}'
RUN = """
import sys
from queuectl.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as exc:
    code = exc.code
with open("/proc/self/status") as status:
    peak = [line.split()[1] for line in status if line.startswith("VmHWM")]
print(f"\\npeak {peak[0]} code {code or 0}")
"""

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")


@pytest.fixture
def folder(tmp_path):
    queue = JobQueue.open(str(tmp_path / "queue"))
    queue.enqueue([{"id": "a", "command": "true"}])
    queue.checkpoint()
    queue.close()
    return queue.folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The peak of memory of the bare program, in kB."""
    return run(str(tmp_path_factory.mktemp("bare")), "version")[1]


def run(folder, *words, stdin=subprocess.DEVNULL):
    """Exit code, peak of memory in kB, and all that a command says."""
    argv = [sys.executable, "-c", RUN, "--data", folder, *words]
    done = subprocess.run(argv, stdin=stdin, capture_output=True, text=True, timeout=60)
    said, _, told = done.stdout.rpartition("\npeak ")
    peak, _, code = told.split()
    return int(code), int(peak), said + done.stderr


def make_giant(path):
    with open(path, "r+b" if os.path.exists(path) else "wb") as file:
        file.truncate(GIANT)
    return str(path)


@on_linux
@pytest.mark.parametrize("name", ["jobs.json", "dlq.json", "config.json", "worker_pids.json"])
@pytest.mark.parametrize("words", [("enqueue", "--command", "true"), ("list",), ("status",)])
def test_a_giant_data_file_is_refused_without_reading_it(folder, name, words, bare):
    make_giant(os.path.join(folder, name))
    let_rest(folder)
    code, peak, said = run(folder, *words)
    assert peak < bare + MEMORY
    if name.startswith("worker") or (name == "config.json" and words[0] != "enqueue"):
        return  # not read by it
    assert code == 5
    assert f"{name} holds 50,000,000,000 bytes, and" in said
    assert said.count("\n") <= 2


@on_linux
def test_a_giant_file_of_jobs_or_commands_is_refused(folder, tmp_path, bare):
    giant = make_giant(tmp_path / "giant")
    for words, most in ((["enqueue", "--file", giant], "24"), (["-f", giant], "4")):
        code, peak, said = run(folder, *words)
        assert peak < bare + MEMORY
        assert code == 2
        assert f"{giant}:1: a line has at most {most},000,000 bytes" in said
    for words, most in ((["enqueue", "--file", "-"], "24"), ([], "4")):
        with open(giant, "rb") as stdin:
            code, peak, said = run(folder, *words, stdin=stdin)
        assert peak < bare + MEMORY
        assert code == 2
        assert f"<stdin>:1: a line has at most {most},000,000 bytes" in said


def test_a_job_of_more_than_four_megabytes_is_refused(folder, tmp_path):
    path = tmp_path / "jobs"
    small = {"id": "small", "command": "true"}
    env = {f"V{n}": "x" * 1000 for n in range(3980)}
    large = {"id": "large", "command": "true", "env": env}
    path.write_text("\n".join(map(json.dumps, (small, large))))
    argv = [sys.executable, "-m", "queuectl", "--data", folder]
    done = subprocess.run([*argv, "enqueue", "--file", path], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{path}:2: {TOO_LONG}" in done.stderr
    with open(path, "w") as file:
        file.write(json.dumps({**large, "env": dict(list(env.items())[:-100])}))
    assert subprocess.run([*argv, "enqueue", "--file", path], capture_output=True).returncode == 0
    assert [job.id for job in JobQueue.open(folder).find()] == ["a", "large"]


# A list of this takes thirty times its text in memory, if somebody parses it.
NONSENSE = b'{"id": "giant", "command": "true", "x": [' + b"[],\n" * 4_000_000 + b"[]]}"
PARSED = 7 * len(NONSENSE) >> 10  # kB: its bytes, its text, and 5 MB of that parsed


@on_linux
def test_a_giant_job_in_an_edited_file_is_refused_before_it_is_parsed(folder, bare):
    path = os.path.join(folder, "jobs.json")
    first = read(path).splitlines()[1]
    with open(path, "wb") as file:
        file.write(b"[\n" + first + b",\n" + NONSENSE + b"\n]\n")
    let_rest(folder)
    code, peak, said = run(folder, "list")
    assert code == 5
    assert f"{path}:3:1: {TOO_LONG}" in said
    assert peak < bare + MEMORY + PARSED


@on_linux
@pytest.mark.parametrize("begin", ["{", "{\n  "])
def test_a_giant_job_in_a_file_of_jobs_is_refused_before_it_is_parsed(
    folder, tmp_path, begin, bare
):
    path = tmp_path / "jobs"
    path.write_bytes(b'{"id": "b", "command": "true"}\n' + begin.encode() + NONSENSE[1:])
    code, peak, said = run(folder, "enqueue", "--file", str(path))
    assert code == 2
    assert f"{path}:2: {TOO_LONG}" in said
    assert peak < bare + MEMORY + PARSED


def test_a_large_job_that_an_edit_changed_is_refused(folder):
    path = os.path.join(folder, "jobs.json")
    with open(path) as file:
        forms = json.load(file)
    forms[0]["note"] = "\u00e4" * 2_100_000  # fewer characters than the limit, but more bytes
    with open(path, "w") as file:
        json.dump(forms, file, ensure_ascii=False)
    let_rest(folder)
    argv = [sys.executable, "-m", "queuectl", "--data", folder, "list"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 5
    assert f"{path}:1:2: job 'a' takes 4,2" in done.stderr
    assert "a job at most 4,000,000" in done.stderr


@pytest.mark.parametrize(
    ("end", "place"), [(', "x": ]}', "9"), (', "x": {"y": 1', "10"), (', "x": "y', "9")]
)
def test_a_mistake_in_a_large_file_is_told_where_it_is(folder, end, place):
    path = os.path.join(folder, "jobs.json")
    lines = [f'{{"id": "j{n}", "command": "true", "x": "{"y" * 1000}"}}' for n in range(12_000)]
    lines[7] = '{"id": "j7", "command": "true"' + end
    with open(path, "w") as file:
        file.write("[\n" + ",\n".join(lines) + "\n]\n")
    let_rest(folder)
    argv = [sys.executable, "-m", "queuectl", "--data", folder, "list"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 5
    assert f"{path}:{place}:" in done.stderr


def test_many_jobs_in_one_line_of_an_edited_file_are_taken_in(folder):
    path = os.path.join(folder, "jobs.json")
    forms = [{"id": f"j{n}", "command": "true", "x": "y" * 1000} for n in range(12_000)]
    with open(path, "w") as file:
        json.dump(forms, file)
    let_rest(folder)
    queue = JobQueue.open(folder)
    assert [job.id for job in queue.find()][-12_000:] == [form["id"] for form in forms]
    queue.close()


def test_an_edit_that_adds_more_than_64_megabytes_is_refused(folder):
    path = os.path.join(folder, "jobs.json")
    size = os.stat(path).st_size
    before = read(path)
    argv = [sys.executable, "-m", "queuectl", "--data", folder, "list"]
    with open(path, "ab") as file:
        file.truncate(size + 64_000_001)
    let_rest(folder)
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 5
    assert f"an edited one may have at most {size + 64_000_000:,}" in done.stderr
    with open(path, "wb") as file:
        file.write(before + b" " * 1000)
    assert subprocess.run(argv, capture_output=True).returncode == 0


# -- what is asked to read whatever there is


@on_linux
@pytest.mark.parametrize("begin", [b"", b'{"queuectl": "backup", ', HEAD + b"\n", HEAD + b"\n{"])
def test_a_giant_that_is_not_a_backup_is_refused_without_reading_it(folder, tmp_path, begin, bare):
    path = tmp_path / "archive"
    path.write_bytes(begin)
    os.truncate(path, 3_000_000_000)
    let_rest(folder)
    code, peak, said = run(folder, "restore", str(path), "--replace", "--yes")
    assert code == 5
    assert "not a backup" in said or "cut short" in said
    with open(path, "rb") as stdin:
        assert run(folder, "restore", "-", "--replace", "--yes", stdin=stdin)[0] == 5
    assert peak < bare + MEMORY


@on_linux
@pytest.mark.parametrize("name", ["jobs.json", "dlq.json", "config.json", "worker_pids.json"])
def test_doctor_tells_of_a_giant_and_mends_it_without_reading_it(folder, name, bare):
    path = os.path.join(folder, name)
    os.truncate(path, 3_000_000_000)
    let_rest(folder)
    code, peak, said = run(folder, "doctor")
    assert (code, peak < bare + MEMORY) == (1, True)
    assert f"{name}: " in said
    assert "holds 3,000,000,000 bytes" in said
    code, peak, said = run(folder, "doctor", "--repair")
    assert (code, peak < bare + MEMORY) == (0, True), said
    assert f"Mended: {name}: " in said
    assert f"{name}.bad-" in said
    assert "Not readable" not in said
    queue = JobQueue.open(folder)
    assert [job.id for job in queue.find()] == ["a"]
    assert run(folder, "doctor")[0] == 0


@on_linux
def test_a_journal_that_a_giant_of_nothing_was_put_behind_is_refused_and_mended(folder, bare):
    queue = JobQueue.open(folder)
    queue.enqueue([{"id": "b", "command": "true"}])  # in the journal, when nothing folds it
    os.truncate(os.path.join(folder, "journal"), 3_000_000_000)
    for words in (("list",), ("enqueue", "--command", "true"), ("doctor",)):
        code, peak, said = run(folder, *words)
        assert (code, peak < bare + MEMORY) == (1 if words == ("doctor",) else 5, True)
        assert "journal" in said
        assert "holds no change from byte" in said
    code, peak, said = run(folder, "doctor", "--repair")
    assert (code, peak < bare + MEMORY) == (0, True), said
    assert "Not readable" not in said
    assert [job.id for job in JobQueue.open(folder).find()] == ["a", "b"]


@on_linux
def test_a_giant_that_is_not_a_journal_is_looked_through_in_pieces(folder, bare):
    path = os.path.join(folder, "journal")
    with open(path, "r+b") as file:
        whole = file.read()
        file.seek(0)
        file.write(b"junk @1 " + bytes(len(whole)))
        file.truncate(100_000_000)
    code, peak, said = run(folder, "doctor", "--repair")
    assert (code, peak < bare + MEMORY) == (1, True), said
    assert "Mended: journal: holds nothing of a journal: written anew;" in said
    assert [job.id for job in JobQueue.open(folder).find()] == ["a"]
    with open(path, "wb") as file:
        file.truncate(70_000_000)
        file.seek(70_000_000)
        line = encode_job(make_job("b"))
        file.write(format_record(line + b"\n", 1, PROMISED, {"pending": 2}))
    assert read_journal(path).lines == [line]


def test_repair_reads_a_large_jobs_json_whose_journal_is_lost(folder, monkeypatch):
    for module in (salvage, snapshot):
        monkeypatch.setattr(module, "LARGEST", 1000)
    queue = JobQueue.open(folder)
    queue.enqueue([{"id": f"j{n}", "command": "true"} for n in range(9)])
    queue.checkpoint()
    queue.close()
    os.unlink(os.path.join(folder, "journal"))
    assert os.stat(os.path.join(folder, "jobs.json")).st_size > 1000
    queue = JobQueue.open(folder)
    queue.care.repair([], [])
    assert len(list(queue.find())) == 10
    queue.close()
