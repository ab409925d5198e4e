"""What runs leave behind, with real workers: to which run it belongs, and who ends it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from samples import PYTHON
from test_worker_process import Bench

from queuectl.errors import Conflict, QueuectlError
from queuectl.job_queue import JobQueue
from queuectl.store.files.logs import LogFolder
from queuectl.worker import pool, processes
from queuectl.worker.rescue import kept_by, rescue

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc")
# Ends nothing, as if all of it were another user's.
HELPLESS = """
import sys
from queuectl.worker import entry, processes
processes.send_to = lambda *_: False
sys.exit(entry.main(["--foreground", "--data", sys.argv[1]]))
"""


@pytest.fixture
def bench(data_dir, tmp_path, wait_until) -> Iterator[Bench]:
    bench = Bench(data_dir, str(tmp_path), wait_until)
    bench.queue.change_settings({"poll-interval": 0.05})
    yield bench
    for worker in bench.queue.workers():
        if worker.alive:
            processes.signal_group(worker.pid, signal.SIGKILL)
    for pid in processes.processes_marked([f"PWD={tmp_path}".encode()]):
        os.kill(pid, signal.SIGKILL)
    bench.queue.close()


def read_pid(bench: Bench, name: str) -> int:
    with open(bench.await_file(name), encoding="ascii") as file:
        bench.wait_until(lambda: file.seek(0) == 0 and file.read().endswith("\n"))
        file.seek(0)
        return int(file.read())


# -- output


def test_late_output_is_shown_as_that_of_its_own_run_only(bench):
    later = "touch moved; until [ -e go ]; do sleep 0.01; done; echo LATE; touch said"
    late = bench.enqueue(f"setsid sh -c '{later}' & until [ -e moved ]; do sleep 0.01; done")
    bench.start()
    bench.await_state(late, "completed")
    command = "touch go; until [ -e said ]; do sleep 0.01; done; exit 9"
    failing = bench.enqueue(command, max_retries=0)
    job = bench.await_state(failing, "dead")
    assert job.error == "exit code 9"
    logs = LogFolder(bench.folder)
    assert b"".join(logs.output(job)) == b""
    assert b"".join(logs.output(bench.queue.get(late))) == b"LATE\n"


def test_a_job_finds_its_own_queue(bench):
    bench.start()
    job_id = bench.enqueue('echo "$QUEUECTL_DATA"', env={"QUEUECTL_DATA": "/elsewhere"})
    bench.await_state(job_id, "completed")
    assert bench.log(job_id, 1) == f"{os.path.abspath(bench.folder)}\n"


# -- what is not part of a run


def test_a_worker_that_a_failing_job_started_lives_on_with_its_job(bench):
    bench.start()
    inner = f"{bench.folder}-inner"
    code = f"from queuectl.worker import pool; print(pool.start({inner!r}, 1))"
    long = JobQueue.open(inner).enqueue([{"command": "touch inner; exec sleep 60"}])[0]
    JobQueue.open(inner).update(long.id, {"cwd": bench.here})
    job_id = bench.enqueue(
        f'{PYTHON} -c "{code}"; until [ -e inner ]; do sleep 0.01; done; exit 3',
        max_retries=0,
    )
    assert bench.await_state(job_id, "dead").exit_code == 3
    assert JobQueue.open(inner).get(long.id).state == "in_progress"
    assert [worker.alive for worker in JobQueue.open(inner).workers()] == [True]
    assert len(pool.stop(JobQueue.open(inner), now=True)) == 1


# -- after the death of a worker


@pytest.mark.parametrize(
    "command",
    [
        "timeout 60 env -i sh -c 'echo $$ > inner; sleep 60; echo after'",
        "setsid -w env -i sh -c 'echo $$ > inner; sleep 60; echo after'",
        "bash -c 'set -m; (echo $BASHPID > inner; exec sleep 60) & wait'",
        "exec sh -c 'echo $$ > inner; while :; do sleep 60; done' queuectl.worker",
    ],
)
def test_a_process_that_hides_from_a_rescue_is_ended_first(bench, command):
    (pid,) = bench.start()
    job_id = bench.enqueue(command)
    inner = read_pid(bench, "inner")
    start = processes.start_time(inner)
    bench.kill(pid)
    assert [job.id for job in rescue(bench.queue)] == [job_id]
    assert not processes.is_running(inner, start)


def test_a_run_whose_worker_noted_no_folder_is_waited_for_though_it_shows_no_marks(bench):
    (pid,) = bench.start()
    job_id = bench.enqueue("exec env -i sh -c 'echo $$ > inner; exec sleep 60' > /dev/null 2>&1")
    inner = read_pid(bench, "inner")
    path = os.path.join(bench.folder, "workers", bench.worker().id)
    bench.kill(pid)
    with open(path, "r+b") as file:  # as a61fc90 wrote it
        text = file.read().replace(b"folder=", b"fxlder=")
        file.seek(0)
        file.write(text)
    assert rescue(bench.queue) == []
    assert processes.group_alive(inner)
    assert kept_by(bench.queue, bench.worker(), bench.queue.get(job_id)) == "unsure"
    os.kill(inner, signal.SIGKILL)
    bench.wait_until(lambda: rescue(bench.queue))
    assert bench.queue.get(job_id).state == "pending"


def test_a_run_of_which_only_the_output_is_known_is_waited_for(bench):
    (pid,) = bench.start()
    hidden = (
        "(setsid env -i sh -c 'echo $$ > inner; exec sleep 60' &); until [ -s inner ]; do :; done"
    )
    job_id = bench.enqueue(f"{hidden}; exec sleep 60")
    inner = read_pid(bench, "inner")
    bench.kill(pid)
    shutil.rmtree(os.path.join(bench.folder, "workers"))
    assert rescue(bench.queue) == []
    assert processes.group_alive(inner)
    assert kept_by(bench.queue, None, bench.queue.get(job_id)) == "unsure"
    os.kill(inner, signal.SIGKILL)
    bench.wait_until(lambda: rescue(bench.queue))
    assert bench.queue.get(job_id).state == "pending"


def test_a_reader_of_the_output_is_not_taken_for_a_part_of_the_run(bench):
    (pid,) = bench.start()
    bench.enqueue("touch begun; echo x; exec sleep 60")
    bench.await_file("begun")
    spool = LogFolder(bench.folder).spool_path(bench.worker().id)
    with subprocess.Popen(["tail", "-f", spool], stdout=subprocess.PIPE) as reader:
        assert reader.stdout.readline() == b"x\n"
        bench.kill(pid)
        assert len(rescue(bench.queue)) == 1
        assert reader.poll() is None
        reader.kill()


def test_a_worker_killed_after_it_was_asked_to_stop_is_not_evidence_against_its_job(bench):
    job_id = bench.enqueue("touch begun.$QUEUECTL_ATTEMPT; exec sleep 60")
    for run in (1, 2, 3, 4):
        (pid,) = bench.start()
        bench.await_file(f"begun.{run}")
        os.kill(pid, signal.SIGTERM)
        bench.wait_until(lambda: bench.worker().facts.get("stopping") == "1")
        bench.kill(pid)
        assert len(rescue(bench.queue)) == 1
    job = bench.queue.get(job_id)
    assert (job.state, job.losses, job.run) == ("pending", 0, 4)


# -- what cannot be ended


def test_a_process_that_cannot_be_ended_keeps_its_job_until_it_is_given_up(bench, cli):
    worker = subprocess.Popen([sys.executable, "-c", HELPLESS, bench.folder], stdout=-3)
    job_id = bench.enqueue("(setsid sleep 60 &); exit 9", max_retries=0)
    bench.wait_until(lambda: bench.queue.workers() and bench.worker().left)
    ((pid, _, name),) = bench.worker().left
    assert name == "sleep"
    assert bench.queue.get(job_id).state == "in_progress"
    assert f"PID {pid} (" in cli.ok("explain", job_id)
    assert f"{job_id}: PID {pid} (" in cli.ok("worker", "list")
    listed = json.loads(cli.ok("worker", "list", "--json"))["workers"]
    assert (listed[0]["left"][0]["pid"], listed[0]["left"][0]["command"]) == (pid, "sleep")
    bench.queue.cancel([job_id])
    assert bench.queue.get(job_id).state == "in_progress"
    assert "is cancelled" in cli.ok("cancel", job_id, "--abandon")
    bench.await_state(bench.enqueue("true"), "completed")
    assert bench.worker().left == []
    assert bench.queue.get(job_id).state == "cancelled"
    assert processes.is_running(pid, processes.start_time(pid))
    worker.terminate()
    assert worker.wait() == 0


def test_a_worker_that_leaves_behind_what_it_cannot_end_leaves_its_job_to_others(bench):
    worker = subprocess.Popen([sys.executable, "-c", HELPLESS, bench.folder], stdout=-3)
    job_id = bench.enqueue("(setsid sleep 60 &); exit 9", max_retries=0)
    bench.wait_until(lambda: bench.queue.workers() and bench.worker().left)
    ((pid, _, _),) = bench.worker().left
    worker.terminate()
    bench.wait_until(lambda: bench.worker().facts.get("stopping") == "1")
    worker.terminate()
    assert worker.wait() == 1
    assert bench.queue.get(job_id).state == "in_progress"
    assert [job.id for job in bench.wait_until(lambda: rescue(bench.queue))] == [job_id]
    assert not processes.is_running(pid, processes.start_time(pid) or "")


def test_a_job_that_its_worker_can_end_is_not_given_up(bench, cli):
    bench.start()
    job_id = bench.enqueue("touch begun; exec sleep 60")
    bench.await_file("begun")
    assert cli("cancel", job_id, "--abandon").code == Conflict.exit_code
    assert bench.queue.get(job_id).state == "in_progress"


# -- copies


def copied(bench: Bench) -> JobQueue:
    copy = f"{bench.folder}-copy"
    subprocess.run(["cp", "-a", bench.folder, copy], check=True)
    return JobQueue.open(copy)


def test_a_copy_of_the_folder_ends_nothing_of_the_original(bench):
    bench.start()
    job_id = bench.enqueue("touch begun; until [ -e go ]; do sleep 0.01; done")
    bench.await_file("begun")
    group = bench.await_group()
    copy = copied(bench)
    assert rescue(copy) == []
    assert pool.stop(copy, now=True) == []
    assert kept_by(copy, copy.workers()[0], copy.get(job_id)) == "unsure"
    assert copy.get(job_id).state == "in_progress"  # not beside the run that it was copied from
    assert processes.group_alive(group)
    bench.make("go")
    assert bench.await_state(job_id, "completed").exit_code == 0
    assert [job.id for job in rescue(copy)] == [job_id]
    assert copy.get(job_id).state == "pending"


def test_a_copy_ends_nothing_though_the_worker_of_the_original_was_killed(bench):
    (pid,) = bench.start()
    job_id = bench.enqueue("touch begun; exec sleep 60")
    bench.await_file("begun")
    group = bench.await_group()
    copy = copied(bench)
    bench.kill(pid)
    assert rescue(copy) == []
    assert processes.group_alive(group)
    assert [job.id for job in rescue(bench.queue)] == [job_id]
    assert not processes.group_alive(group)
    assert [job.id for job in rescue(copy)] == [job_id]


def test_no_worker_is_stopped_from_a_folder_that_is_not_its_own(bench, monkeypatch):
    (pid,) = bench.start()
    worker = bench.worker()
    worker.facts["folder"] = "1:2"
    monkeypatch.setattr(bench.queue, "workers", lambda **_: [worker])
    with pytest.raises(QueuectlError, match="another folder"):
        pool.stop(bench.queue)
    assert processes.is_running(pid, worker.start_time)


def test_a_folder_that_was_moved_with_its_worker_goes_on(bench):
    bench.start()
    job_id = bench.enqueue("touch begun.$QUEUECTL_ATTEMPT; [ $QUEUECTL_ATTEMPT = 2 ] || sleep 60")
    bench.await_file("begun.1")
    group = bench.await_group()
    moved = f"{bench.folder}-moved"
    os.rename(bench.folder, moved)
    queue = JobQueue.open(moved)
    bench.wait_until(lambda: not processes.group_alive(group), what="the run to be ended")
    bench.wait_until(lambda: rescue(queue) or queue.get(job_id).state == "pending")
    pool.start(moved, 1)
    bench.wait_until(lambda: queue.get(job_id).state == "completed")
    assert len(pool.stop(queue)) == 1
    os.rename(moved, bench.folder)  # where the fixture looks for it
