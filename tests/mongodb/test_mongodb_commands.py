"""The commands on a queue in MongoDB, as a user gives them, with workers that run jobs."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import time

import pytest
from failing_disk import Killed, killed
from samples import make_job

from queuectl.addresses import address_of
from queuectl.job_queue import JobQueue
from queuectl.live.feed import Feed
from queuectl.live.live_queue import LiveQueue
from queuectl.model.times import format_time, parse_time
from queuectl.store import door, opening
from queuectl.store.facts import WorkerInfo
from queuectl.store.files.worker_files import worker_infos
from queuectl.worker import processes
from queuectl.worker.old_logs import remove_old_logs
from tests import test_unique


@pytest.fixture
def queue(cli, url, monkeypatch, tmp_path):
    """Commands on an empty queue in MongoDB; its host folder is this test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("QUEUECTL_DATA", url)
    yield cli
    folder = host_folder(url)
    for worker in list(worker_infos(folder)) if os.path.isdir(folder) else []:
        if worker.alive and worker.pid != os.getpid():
            os.kill(worker.pid, signal.SIGKILL)


def host_folder(url):
    return opening.find(url, os.environ)


def states(cli):
    return {job["id"]: job["state"] for job in json.loads(cli.ok("list", "--json"))}


def test_an_advised_line_reaches_the_queue_and_shows_no_password(queue, url, tmp_path, monkeypatch):
    (tmp_path / "file").write_text(url)
    (tmp_path / "file").chmod(0o600)
    told = "No worker runs; '{}worker start' starts one.\n"
    enqueue = ("enqueue", "--command", "true")
    assert queue(*enqueue).err == told.format("")
    monkeypatch.delenv("QUEUECTL_DATA")
    for named, front in (
        (url, f"queuectl --data {url} "),
        (f"@{tmp_path}/file", f"queuectl --data @{tmp_path}/file "),
        (f"{url}?appname=secret", ""),
    ):
        assert queue("--data", named, *enqueue).err == told.format(front)


def test_a_password_is_kept_on_no_host_where_no_worker_runs(queue, url, tmp_path, monkeypatch):
    secret = f"{url}?appname=secret"
    monkeypatch.setenv("QUEUECTL_DATA", secret)
    queue.ok("init", secret)
    queue.ok("backup", str(tmp_path / "b"))
    queue.ok("restore", str(tmp_path / "b"))
    with open(os.path.join(host_folder(secret), "mongodb")) as file:
        assert file.read() == f"{url}\n"


def test_ping_tells_server_version_form_and_time(queue, server, url):
    told = queue.ok("ping")
    assert re.fullmatch(
        rf"Queue can be reached: {url}, MongoDB \d+\.\d+\.\d+, {server.form}, [\d.]+ ms\n", told
    )
    assert f"\nData Folder: {url}\n" in queue.ok("status")
    for command in ("doctor", "status"):
        told = "a standalone server: changes of several" in queue.ok(command)
        assert told == (server.form == "standalone")
    assert url in queue("list").err
    assert queue.ok("checkpoint") == f"Nothing to do: {url} has no JSON files.\n"
    assert queue("doctor", "--repair").code == 5


def test_jobs_run_to_their_end_and_their_output_is_in_the_database(queue, url, monkeypatch):
    queue.ok("config", "set", "base", "0")
    queue.ok("enqueue", "--id", "good", "--command", "echo out; echo err >&2")
    queue.ok("enqueue", "--id", "bad", "--command", "echo no; exit 3", "--max-retries", "1")
    queue.ok("enqueue", "--id", "env", "--command", "env")
    told = queue("worker", "run", "--drain")
    assert (told.code, "Ended dead: bad: exit code 3: no" in told.err) == (1, True), told
    assert states(queue) == {"good": "completed", "env": "completed", "bad": "dead"}
    # The job is told a path in the place of the URL, and on another host the output is the same.
    assert f"QUEUECTL_DATA={host_folder(url)}\n" in queue.ok("logs", "env")
    assert "mongodb://" not in queue.ok("logs", "env")
    monkeypatch.setenv("XDG_STATE_HOME", "/nonexistent")
    assert queue.ok("logs", "good") == "out\nerr\n"
    assert queue.ok("logs", "bad", "--run", "1") == queue.ok("logs", "-f", "bad") == "no\n"
    assert queue.ok("show", "good").endswith("out\nerr\n")
    assert queue.ok("dlq", "retry", "bad") == (
        "Job 'bad' has been moved back to the main queue for retry.\n"
    )
    queue.ok("purge", "--yes")
    assert states(queue) == {"bad": "pending"}
    assert queue("logs", "good").code == 3


def test_times_are_the_servers_on_a_host_that_is_an_hour_ahead(queue, monkeypatch):
    own = time.time
    queue.ok("enqueue", "--id", "before", "--command", "true")
    monkeypatch.setattr(time, "time", lambda: own() + 3600)
    queue.ok("enqueue", "--id", "ahead", "--command", "true")
    assert queue("worker", "run", "--drain", "-q").code == 0
    for job in json.loads(queue.ok("list", "--json")):
        for name in ("created_at", "run_at", "started_at", "finished_at", "updated_at"):
            assert abs(parse_time(job[name]) - own()) < 60, (job["id"], name)
    assert "Removed 0 jobs" in queue.ok("purge", "--older-than", "30m", "--yes")


def test_large_output_is_kept_whole_and_its_end_is_read_alone(queue, url):
    queue.ok("enqueue", "--id", "a", "--command", "seq 100000; echo last")
    assert queue("worker", "run", "--drain", "-q").code == 0
    expected = "".join(f"{number}\n" for number in range(1, 100_001)) + "last\n"
    assert queue.ok("logs", "a") == expected
    assert queue.ok("logs", "a", "--lines", "2") == "100000\nlast\n"
    assert queue.ok("show", "a").endswith("99999\n100000\nlast\n")


def test_of_output_beyond_the_limit_the_first_half_and_the_last_are_kept(queue, url):
    queue.ok("config", "set", "log-limit", "2000000")
    gate = os.path.join(os.environ["XDG_STATE_HOME"], "gate")
    command = f"seq 1000000; until [ -e {gate} ]; do sleep 0.05; done; seq 3; echo last"
    queue.ok("enqueue", "--id", "a", "--command", command)
    queue.ok("worker", "start")
    logs = opening.output(host_folder(url))
    get = JobQueue.open(host_folder(url)).get
    followed, shown = b"", []
    for piece in logs.follow(lambda: get("a"), time.sleep, lambda _: None, lambda _: None):
        followed += piece
        if b"\n1000000\n" in followed and not shown:
            shown.append(queue.ok("logs", "a", "--lines", "1"))
            with open(gate, "w"):
                pass
    assert shown == ["1000000\n"]
    assert followed.endswith(b"\n1000000\n1\n2\n3\nlast\n")
    kept = queue.ok("logs", "a")
    assert re.search(r"\n\.\.\. about \d\.\d MB not kept \.\.\.\n", kept)
    assert kept.startswith("1\n2\n3\n")
    assert kept.endswith("\n999999\n1000000\n1\n2\n3\nlast\n")
    assert 1_999_000 < len(kept) < 2_001_000


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({}, []),
        ({"keep-logs": 1000}, ["b.1.x", "a.1.x"]),
        ({"logs-total": 130_000}, ["b.1.x"]),
        ({"logs-total": 1}, ["b.1.x", "a.1.x", "a.2.x"]),
        ({"logs-total": 200_000, "keep-logs": 2500}, ["b.1.x"]),
    ],
)
def test_the_oldest_output_of_ended_jobs_goes_first(queue, url, client, changes, gone):
    for job_id in ("a", "b", "live"):
        queue.ok("enqueue", "--id", job_id, "--command", "true")
    queue.ok("cancel", "a", "b")
    jobs = JobQueue.open(host_folder(url))
    assert jobs.claim("w").id == "live"
    logs = opening.output(host_folder(url))
    documents = client[url.rpartition("/")[2]].logs
    for name, age in (("a.1.x", 2000), ("a.2.x", 500), ("b.1.x", 3000), ("live.1.x", 9000)):
        job = jobs.get(name.partition(".")[0])
        for at, older in ((0, 600), (20_000, 0)):  # a log is as old as its last byte
            logs._pieces.send(f"{name}.log", job, at, b"x" * 20_000, promised=True)
            sent_at = {"sent_at": format_time(time.time() - age - older)}
            documents.update_one({"name": f"{name}.log", "at": at}, {"$set": sent_at})
    jobs.change_settings(changes)
    assert [name.removesuffix(".log") for name in remove_old_logs(jobs, logs)] == gone
    left = {name.removesuffix(".log") for name in documents.distinct("name")}
    assert left == {"a.1.x", "a.2.x", "b.1.x", "live.1.x"} - set(gone)


def test_a_worker_that_is_killed_loses_its_job_at_once_on_its_host(queue, url, wait_until):
    queue.ok("enqueue", "--id", "a", "--command", "echo begun; exec sleep 300")
    queue.ok("worker", "start")
    wait_until(lambda: queue("logs", "a").out == "begun\n")
    wait_until(lambda: [info.job_id for info in worker_infos(host_folder(url))] == ["a"])
    [worker] = json.loads(queue.ok("worker", "list", "--json"))["workers"]
    assert (worker["job"], worker["alive"]) == ("a", True)
    [info] = worker_infos(host_folder(url))
    os.kill(worker["pid"], signal.SIGKILL)
    wait_until(lambda: "The worker of job 'a' died" in queue("config", "set", "base", "2").err)
    [job] = json.loads(queue.ok("list", "--json"))
    assert (job["state"], job["losses"], queue.ok("logs", "a")) == ("pending", 1, "begun\n")
    assert not processes.is_running(info.group_pid, info.group_start)
    assert queue.ok("worker", "list", "-q") == ""


def test_workers_are_cancelled_scaled_and_stopped(queue, wait_until):
    queue.ok("worker", "start", "--count", "2")
    queue.ok("enqueue", "--id", "a", "--command", "sleep 300")
    wait_until(lambda: states(queue) == {"a": "in_progress"})
    assert queue.ok("cancel", "a") == "Job 'a' is running; its worker is asked to end it.\n"
    wait_until(lambda: states(queue) == {"a": "cancelled"})
    assert "Workers running now: 1" in queue.ok("worker", "scale", "1")
    assert queue.ok("worker", "stop").endswith("All workers stopped.\n")


def test_backup_and_restore_into_an_empty_database_and_a_folder(queue, new_url, tmp_path):
    queue.ok("enqueue", "--id", "a", "--command", "true", "--priority", "3")
    queue.ok("enqueue", "--id", "b", "--command", "false")
    queue.ok("config", "set", "base", "5")
    path = str(tmp_path / "file")
    queue.ok("backup", path)
    # Each store gives a set of variables the id that it has there.
    jobs = re.sub('"env_set": "[^"]*"', "", queue.ok("list", "--json"))
    for where in (new_url, str(tmp_path / "folder")):
        queue.ok("--data", where, "restore", path)
        found = queue.ok("--data", where, "list", "--json")
        assert re.sub('"env_set": "[^"]*"', "", found) == jobs
        assert queue.ok("--data", where, "config", "get", "base") == "5\n"
    assert queue("--data", new_url, "restore", path).code == 4
    queue.ok("--data", new_url, "cancel", "a")
    queue.ok("--data", new_url, "pause")
    queue.ok("--data", new_url, "worker", "start")
    told = queue("--data", new_url, "restore", "--replace", "--yes", path)
    assert (told.code, "worker stop --all-hosts" in told.err) == (4, True)
    queue.ok("--data", new_url, "worker", "stop")
    told = queue("--data", new_url, "restore", "--replace", "--yes", path)
    assert (told.code, "is kept in" in told.err) == (0, True)
    assert '"state": "cancelled"' not in queue.ok("--data", new_url, "list", "--json")


def test_limits_and_locks_hold_for_workers(queue):
    queue.ok("limit", "gpu", "2")
    command = "echo slot $QUEUECTL_SLOT_GPU."
    queue.ok("enqueue", "--id", "a", "--tag", "gpu", "--lock", "db", "--command", command)
    queue.ok("enqueue", "--id", "b", "--lock", "db", "--command", command)
    queue.ok("worker", "run", "--drain", "-q")
    assert [queue.ok("logs", job) for job in "ab"] == ["slot 0.\n", "slot .\n"]
    assert json.loads(queue.ok("show", "a", "--json"))["job"]["slots"] == []
    assert queue.ok("limit", "-q") == "gpu 2 0\n"
    assert queue.ok("limit", "gpu", "none") == "Any number of jobs tagged gpu may run at once.\n"


def test_a_unique_key_is_refused_kept_away_or_replaced(queue, client, url):
    test_unique.test_a_second_job_of_a_key_is_refused_kept_away_or_put_in_its_place(queue)
    client[url.rpartition("/")[2]].jobs.delete_many({})
    test_unique.test_the_jobs_of_a_file_meet_each_other_too(queue)


def test_a_queue_is_copied_into_a_folder_and_moved_back_with_its_output(
    queue, url, new_url, tmp_path, monkeypatch
):
    folder = str(tmp_path / "a folder")
    queue.ok("config", "set", "base", "0")
    queue.ok("enqueue", "--id", "bad", "--command", "echo out; exit 3", "--max-retries", "1")
    queue.ok("enqueue", "--id", "loud", "--command", "seq 100000")
    queue("worker", "run", "--drain", "-q")
    of_gate = ("--tag", "gpu", "--lock", "db", "--unique", "k")
    queue.ok("limit", "gpu", "2")
    queue.ok("enqueue", "--id", "waits", "--timeout", "5m", *of_gate, "--command", "true")
    before = shown(queue)
    told = queue.ok("copy", url, folder)
    assert told == f"Copied 3 job(s), and the output of 3 run(s), from {url} to {folder}\n"
    assert shown(queue) == before
    assert "already holds the 3 job(s)" in queue.ok("copy", url, folder)
    queue.ok("enqueue", "--id", "later", "--command", "true")
    assert queue("copy", url, folder).code == 4  # it holds jobs
    monkeypatch.setenv("QUEUECTL_DATA", folder)
    assert shown(queue) == before
    assert queue.ok("config", "get", "base") == "0\n"
    assert queue.ok("limit", "-q") == "gpu 2 0\n"

    def cut_short(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(JobQueue, "take_away", cut_short)
        queue("copy", folder, new_url, "--move")
    assert "Moved 3 job(s)" in queue.ok("copy", folder, new_url, "--move")
    assert states(queue) == {}
    assert not [name for name in os.listdir(f"{folder}/logs") if "loud" in name]
    monkeypatch.setenv("QUEUECTL_DATA", new_url)
    assert shown(queue) == before
    assert queue.ok("limit", "-q") == "gpu 2 0\n"


def shown(cli):
    """All jobs and their output; each store gives a set of variables an id of its own."""
    jobs = re.sub('"env_set": "[^"]*"', "", cli.ok("list", "--json"))
    runs = (("bad", "1"), ("bad", "2"), ("loud", "1"))
    return jobs, [cli.ok("logs", job, "--run", run) for job, run in runs]


def test_what_cannot_be_copied_is_named_and_changes_nothing(
    queue, url, tmp_path, elsewhere, server, client
):
    folder = str(tmp_path / "folder")
    queue.ok("init", folder)
    with open(f"{folder}/jobs.json", "w") as file:
        file.write('[{"id": "odd", "command": "true", "note": {"large": 1180591620717411303424}}]')
    refused = queue("copy", folder, url + "_other")
    assert (refused.code, "MongoDB cannot keep job 'odd'" in refused.err) == (2, True), refused
    with open(f"{folder}/jobs.json", "w") as file:
        file.write('[{"id": "a", "command": ":"}, {"id": "b", "command": ":", "after": ["a"]}]')
    if server.form == "standalone":
        refused = queue("copy", folder, url + "_other")
        assert (refused.code, "'b' waits for others" in refused.err) == (2, True), refused
    assert url.rpartition("/")[2] + "_other" not in client.list_database_names()
    assert queue("copy", folder, folder).code == 2
    before = states(queue)
    moved = queue("copy", url, url.replace("127.0.0.1", "localhost"), "--move")
    assert (moved.code, "cannot be copied onto itself" in moved.err) == (2, True), moved
    assert states(queue) == before
    assert queue("copy", str(tmp_path / "nowhere"), folder).code == 2
    refused = queue("copy", url, str(tmp_path / "new"))
    assert (refused.code, "1 worker(s) of mongodb://" in refused.err) == (4, True), refused


def test_what_a_worker_leaves_that_is_killed_as_it_begins_is_cleared_away(queue, url, monkeypatch):
    store = opened(url)
    store.release(store.register("w-0", os.getpid(), "s", "b"))
    above = os.path.join(host_folder(url), "workers")
    for step in ("append", "make_pipe", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(door, step, killed)
            patch.setattr(door, "remove", lambda path: None)
            with pytest.raises(Killed):
                store.register(f"w-{step}", os.getpid(), "s", "b")
    living = store.register("w-1", os.getpid(), "s", "b")
    assert sorted(os.listdir(above)) == ["w-1", "w-1.wake"]
    with open(os.path.join(above, ".w-2"), "w"):
        pass
    queue.ok("checkpoint")
    assert sorted(os.listdir(above)) == ["w-1", "w-1.wake"]
    store.release(living)
    assert os.listdir(above) == []


# -- looking all the time


def test_top_shows_jobs_and_workers_once_where_there_is_no_screen(queue):
    queue.ok("enqueue", "--id", "a", "--command", "echo hello")
    told = queue.ok("top")
    assert "1 pending" in told
    assert re.search(r"^a +pending .*echo hello", told, re.MULTILINE), told


def test_a_feed_follows_what_changes(queue, url, wait_until):
    feed = Feed(opening.watch(host_folder(url)), opening.output(host_folder(url)))
    jobs: dict[str, str] = {}
    rows = None

    def look():
        nonlocal rows
        picture = feed.look()
        if picture.jobs is not rows:  # all were read anew
            rows = picture.jobs
            jobs.clear()
            jobs.update({job.id: job.state for job in rows})
        for job_id, job in picture.changes.items():
            jobs.pop(job_id, None)
            jobs.update({job_id: job.state} if job else {})
        return dict(jobs)

    queue.ok("enqueue", "--id", "a", "--command", "true")
    wait_until(lambda: look() == {"a": "pending"})
    queue.ok("enqueue", "--id", "b", "--command", "true")
    queue.ok("cancel", "a")
    wait_until(lambda: look() == {"a": "cancelled", "b": "pending"})
    queue.ok("purge", "--yes")
    wait_until(lambda: look() == {"b": "pending"})
    feed.close()


def test_tab_offers_ids_tags_and_settings(queue, url):
    queue.ok("enqueue", "--id", "first", "--command", "true", "--tag", "night")
    queue.ok("enqueue", "--id", "second", "--command", "true")
    queue.ok("config", "set", "base", "7")
    live = LiveQueue(opening.watch(host_folder(url)))
    assert [job.id for job in live.jobs(None)] == ["second", "first"]
    assert [job.id for job in live.jobs(("pending",), "fi")] == ["first"]
    assert (live.tags(), live.settings().base) == (["night"], 7)
    live.close()


def test_tab_asks_once_for_a_server_that_does_not_answer(monkeypatch):
    from queuectl.store.mongodb.connection import Connection

    asked, connect, url = [], Connection._connect, "mongodb://127.0.0.1:1/q"
    # Threads of other tests may connect, too, to servers that do answer.
    monkeypatch.setattr(
        Connection, "_connect", lambda self: asked.append(self.address.url) or connect(self)
    )
    live = LiveQueue(opening.watch(host_folder(url)))
    assert (live.jobs(None), live.jobs(("dead",), "a"), live.tags()) == ([], [], [])
    assert asked.count(url) == 1
    live.close()


# -- workers of other hosts


class Clock:
    """The time by which leases are measured."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def workers():
    """The module; it can be loaded only where the driver is installed."""
    from queuectl.store.mongodb import workers

    return workers


@pytest.fixture
def clock(monkeypatch, workers):
    clock = Clock()
    monkeypatch.setattr(workers, "clock", clock)
    return clock


@pytest.fixture
def elsewhere(queue, url, client):
    """A worker of another host, which runs job `a`."""
    queue.ok("enqueue", "--id", "a", "--command", "true")
    database = client[url.rpartition("/")[2]]
    database.workers.insert_one(
        {
            **{"_id": "w-far", "host": "far", "pid": 7, "start_time": "9"},
            **{"boot_id": "b", "started_at": "2026-01-01T00:00:00.000000Z", "lease": 120.0},
            **{"beat": 4, "beat_at": "2026-01-01T00:00:00.000000Z"},
        }
    )
    store = opened(url)
    store.claim("w-far", "2100-01-01T00:00:00.000000Z")
    return database, store


def opened(url):
    from queuectl.store.mongodb.mongodb_store import MongodbStore

    folder = host_folder(url)
    return MongodbStore(address_of(folder), folder)


def alive(store) -> dict[str, bool]:
    found: list[WorkerInfo] = store.workers()
    return {worker.id: worker.alive for worker in found}


def test_a_worker_elsewhere_is_lost_when_its_beat_was_the_same_for_a_lease(
    queue, url, clock, elsewhere
):
    database, store = elsewhere
    for _ in range(5):
        assert alive(store) == {"w-far": True}
        clock.seconds += 25
    assert alive(store) == {"w-far": False}
    assert database.workers.find_one()["lost"] is True
    queue.ok("config", "set", "base", "2")  # any command that writes
    assert states(queue) == {"a": "pending"}
    assert database.workers.count_documents({}) == 0


def test_a_worker_whose_file_was_removed_from_this_folder_is_dead_at_once(queue, url, client):
    """Not so one of a cloned disk, whose folder has the same numbers on another machine."""
    queue.ok("enqueue", "--id", "a", "--command", "true")
    store = opened(url)
    slot = store.register("w-1", 1 << 22, "1", "b")
    slot.stop()
    os.unlink(slot.path)
    assert alive(store) == {"w-1": False}
    workers = client[url.rpartition("/")[2]].workers
    here = workers.find_one()["folder"]
    workers.update_one({}, {"$set": {"folder": here.partition(" ")[0] + " of-another-boot"}})
    assert alive(store) == {"w-1": True}


def test_who_looks_rarely_sees_all_the_same_that_a_worker_elsewhere_is_lost(clock, elsewhere, url):
    """As beside long jobs, by the thread that renews the lease."""
    database, store = elsewhere
    os.makedirs(os.path.join(host_folder(url), "workers"), exist_ok=True)
    for lost in (None, None, None, None, True):
        store._workers.observe()
        assert database.workers.find_one().get("lost") is lost
        clock.seconds += 90


def test_workers_elsewhere_are_shown_and_asked_to_stop(queue, clock, elsewhere):
    database, _ = elsewhere
    told = queue.ok("worker", "list")
    assert "w-far runs on host far; last sign of life: 2026-01-01T00:00:00.000000Z\n" in told
    [worker] = json.loads(queue.ok("worker", "list", "--json"))["workers"]
    assert (worker["host"], worker["job"], worker["alive"]) == ("far", "a", True)
    assert " on host far, last sign of life 2026-01-01T00:00:00.0" in queue.ok("explain", "a")
    assert queue("worker", "stop", "w-far").code == 4
    told = "No worker was running on this host; 'worker stop --all-hosts' asks those of others to "
    assert queue("worker", "stop").err == f"{told}stop, too.\n"
    assert "asked" not in database.workers.find_one()
    told = queue("worker", "stop", "--all-hosts", "--now")
    assert told.out.startswith("Asked worker w-far of another host to stop\n")
    assert told.err == "No worker was running on this host.\n"
    assert database.workers.find_one()["asked"] == "now"


def test_after_an_outage_nobody_is_lost_who_lives(clock, elsewhere):
    database, store = elsewhere
    assert alive(store) == {"w-far": True}
    clock.seconds += 3600  # nothing was seen meanwhile
    assert alive(store) == {"w-far": True}
    clock.seconds += 25
    database.workers.update_one({}, {"$inc": {"beat": 1}})
    for _ in range(5):
        assert alive(store) == {"w-far": True}
        clock.seconds += 25


def test_a_worker_that_cannot_renew_its_lease_gives_up_in_time(queue, url, clock, workers):
    queue.ok("config", "set", "lease", "300")
    store = opened(url)
    slot = store.register("w-here", os.getpid(), "s", "b")
    try:
        assert slot.still_held()
        clock.seconds += 300 - 13
        assert slot.still_held()
        clock.seconds -= 300 - 13
        clock.seconds += 300 - 11
        assert not slot.still_held()
    finally:
        store.release(slot)
    assert (alive(store), os.listdir(os.path.join(host_folder(url), "workers"))) == ({}, [])


def test_a_worker_that_was_declared_lost_notices(
    queue, url, client, monkeypatch, wait_until, workers
):
    from pymongo.collection import Collection
    from pymongo.errors import AutoReconnect

    def unanswered(*_args: object, **_how: object) -> None:
        raise AutoReconnect("connection closed")

    monkeypatch.setattr(workers.MongodbWorkers, "_lease", lambda self: 1.2)
    queue.ok("config", "set", "kill-grace", "0.1")
    store = opened(url)
    slot = store.register("w-here", os.getpid(), "s", "b")
    slot._slack = 0.0
    documents = client[url.rpartition("/")[2]].workers
    try:
        wait_until(lambda: slot.still_held() and documents.find_one()["beat"] > 2)
        with monkeypatch.context() as patch:  # an outage for longer than the lease
            patch.setattr(Collection, "find_one_and_update", unanswered)
            wait_until(lambda: not slot.still_held())
            assert slot.lapsed
        wait_until(slot.still_held)
        documents.update_one({}, {"$set": {"asked": "stop"}})
        wait_until(lambda: slot.asked == "stop")
        documents.update_one({}, {"$set": {"lost": True}})
        wait_until(lambda: not slot.still_held())
        assert not slot.lapsed
        assert "was declared lost" in slot.why_gone()
    finally:
        store.release(slot)


def test_a_worker_that_sends_long_output_shows_life(
    queue, url, client, monkeypatch, wait_until, workers, tmp_path
):
    from queuectl.store.mongodb.output import Pieces, Sender

    monkeypatch.setattr(workers.MongodbWorkers, "_lease", lambda self: 0.6)
    store = opened(url)
    slot = store.register("w-here", os.getpid(), "s", "b")
    found = client[url.rpartition("/")[2]].workers.find_one
    try:
        wait_until(lambda: workers.clock() - slot._lives > 0.4)
        path, before = tmp_path / "a.1.w.log", found()["beat"]
        path.write_bytes(b"text")
        Sender(Pieces(store.connection)).send_file(make_job("a", run=1), str(path))
        wait_until(lambda: found()["beat"] > before)
    finally:
        store.release(slot)


def test_an_idle_worker_is_woken_by_what_another_host_enqueues(
    queue, url, server, tmp_path, monkeypatch
):
    if server.form == "standalone":
        return  # it has no change stream, and workers look by themselves
    store = opened(url)
    slot = store.register("w-here", os.getpid(), "s", "b")
    try:
        assert slot.keep_watch()
        assert select.select([slot.wake_fd], [], [], 30)[0]  # it listens
        os.read(slot.wake_fd, 100)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
        queue.ok("enqueue", "--id", "a", "--command", "true")
        assert select.select([slot.wake_fd], [], [], 30)[0]
    finally:
        store.release(slot)


@pytest.mark.parametrize("argv", [("wait", "a"), ("wait", "--all"), ("logs", "-f", "a")])
def test_what_waits_for_a_job_waits_for_a_new_primary_too(queue, database, monkeypatch, argv):
    from queuectl.errors import Unanswered
    from queuectl.store.mongodb.connection import Connection
    from queuectl.store.mongodb.mongodb_store import MongodbStore

    queue.ok("enqueue", "--id", "a", "--", "true")
    awaited, asked = [], []

    def silent_now_and_then(of):
        def ask(store, *given):
            asked.append(of.__name__)
            if len(asked) in (4, 5, 7):
                raise Unanswered("the connection broke")
            if len(asked) > 9:
                ended = {"state": "completed", "run": 1, "exit_code": 0}
                database.jobs.update_one({"_id": "a"}, {"$set": ended})
            return of(store, *given)

        return ask

    for name in ("get", "counts"):
        monkeypatch.setattr(MongodbStore, name, silent_now_and_then(getattr(MongodbStore, name)))
    monkeypatch.setattr(Connection, "await_answer", lambda self: awaited.append(self))
    queue.ok(*argv)
    assert len(awaited) == 3


def test_a_wait_for_a_server_that_stays_silent_fails(queue, monkeypatch):
    from queuectl.errors import Unanswered
    from queuectl.store.mongodb.connection import Connection
    from queuectl.store.mongodb.mongodb_store import MongodbStore

    def silent(*_given):
        raise Unanswered("mongodb://db does not answer: is it running?")

    queue.ok("enqueue", "--id", "a", "--", "true")
    monkeypatch.setattr(Connection, "await_answer", silent)
    monkeypatch.setattr(MongodbStore, "counts", silent)
    done = queue("wait", "--all")
    assert (done.code, done.err) == (
        125,
        "queuectl: mongodb://db does not answer: is it running?\n",
    )


def test_a_job_that_an_edit_set_running_is_run_again(queue, database):
    queue.ok("enqueue", "--id", "a", "--", "true")
    database.jobs.update_one({"_id": "a"}, {"$set": {"state": "in_progress"}})
    queue.ok("worker", "run", "--drain")
    assert database.jobs.find_one("a")["state"] == "completed"
