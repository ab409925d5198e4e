"""The rules of the API, and the ten endpoints of the earlier tool."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("starlette", reason="the extra is missing: pip install -e '.[web]'")

from queuectl.commands.table import COMMANDS
from queuectl.errors import StoreError
from queuectl.job_queue import JobQueue
from queuectl.store.facts import RUN_LINE, WorkerInfo
from queuectl.web.exchange import Call
from queuectl.web.operations import Part
from queuectl.web.route_table import ROUTES
from queuectl.web.streams import _calm, _Reader
from queuectl.worker import pool
from tests.web.served import CAUSES, READ, both_stores, bury, every_route, filled

JOBS = "/api/v1/jobs"


def made(web, **job):
    told = web("POST", JOBS, {"command": "true", **job})
    assert told.status == 201, told
    return told


def walk(web, target, cursor=""):
    """The ids of all pages of a list."""
    found, pages = [], 0
    while cursor is not None:
        told = web("GET", target + (f"&cursor={cursor}" if cursor else "")).json
        found += [job["id"] for job in told["items"]]
        cursor, pages = told["next"], pages + 1
    return found, pages


# -- the ten of the earlier tool


@both_stores
def test_the_ten_older_endpoints_answer_as_they_did(web, cli):
    told = web("POST", "/enqueue", {"id": "job1", "command": "echo Hello"})
    assert told.json == {"status_code": 200, "status": "success", "inserted_id": "job1"}
    assert told.headers["deprecation"].startswith("@")
    [job] = web("GET", "/list?state=pending").json
    assert (job["id"], job["state"], job["command"]) == ("job1", "pending", "echo Hello")
    assert web("GET", "/list?state=processing").json == []
    told = web("PUT", "/update", {"id": "job1", "state": "cancelled"})
    assert told.json["status_code"] == 200
    assert "cancelled" in told.json["details"]
    standing = web("GET", "/status").json
    assert set(standing) == {"timestamp", "summary", "active_workers", "system_status"}
    assert standing["summary"] == {
        **{"total_jobs": 1, "pending": 0, "processing": 0, "completed": 0},
        **{"failed": 0, "dead": 0},
    }
    assert (standing["active_workers"], standing["system_status"]) == (0, "idle")
    assert web("POST", "/config/set", {"key": "max_retries", "value": 0}).json == {
        "status": "success",
        "key": "max_retries",
        "value": 0,
    }
    assert web("GET", "/config/get?key=max-retries").json["value"] == 0
    cli.ok("enqueue", "{id: bad, command: exit 3}")
    assert web("GET", "/status").json["system_status"] == "unhealthy"
    cli("worker", "run", "--drain")
    dead = web("GET", "/dlq/list").json
    assert (dead["status"], [job["id"] for job in dead["jobs"]]) == ("success", ["bad"])
    told = web("POST", "/dlq/retry?job_id=bad").json
    assert told["status"] == "success"
    assert "bad" in told["details"]


@both_stores
def test_the_lists_of_the_older_endpoints_are_sent_as_they_are_read(web, monkeypatch):
    """Of 100,000 jobs the whole answer took half a GiB."""
    monkeypatch.setattr("queuectl.web.legacy._PART", 1000)
    drafts = [{"command": "true", "id": f"j{number:02}"} for number in range(40)]
    web("POST", f"{JOBS}/batch", drafts)
    whole = web("GET", "/list")
    assert [job["id"] for job in whole.json] == [draft["id"] for draft in drafts]
    assert whole.headers["content-type"] == "application/json"
    assert web("HEAD", "/list").data == b""
    assert web("GET", "/dlq/list").json == {"status": "success", "jobs": []}
    jobs, read = web.service.operations.jobs, []

    def breaks(selection):
        for number, job in enumerate(jobs(selection)):
            read.append(number)
            if number == 20:
                raise StoreError("the disk is gone")
            yield job

    monkeypatch.setattr(web.service.operations, "jobs", breaks)
    with pytest.raises(json.JSONDecodeError):
        _ = web("GET", "/list").json
    assert len(read) == 21
    assert web.log[-1].endswith("GET /list: StoreError: the disk is gone")
    monkeypatch.setattr("queuectl.web.legacy._PART", 1 << 20)
    assert web("GET", "/list").status == 503  # nothing was sent yet


@both_stores
def test_the_older_endpoints_start_and_stop_workers(web, cli, wait_until):
    told = web("GET", "/worker/start?num_workers=2").json
    assert (told["status_code"], len(told["pids"])) == (200, 2)
    assert web("GET", "/status").json["active_workers"] == 2
    workers = web("GET", "/api/v1/workers").json["items"]
    assert {worker["pid"] for worker in workers} == set(told["pids"])
    told = web("GET", "/worker/stop").json
    assert (told["status_code"], len(told["pids"])) == (200, 2)
    wait_until(lambda: web("GET", "/status").json["active_workers"] == 0)
    assert web("GET", "/worker/stop").json["pids"] == []


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("POST", "/enqueue", {"command": "true", "id": "job1"}, 409),
        ("POST", "/enqueue", {"id": "x"}, 422),
        ("PUT", "/update", {"id": "job1", "state": "completed"}, 422),
        ("PUT", "/update", {"id": "none", "priority": 1}, 404),
        ("PUT", "/update", {"priority": 1}, 422),
        ("POST", "/dlq/retry?job_id=none", None, 404),
        ("POST", "/dlq/retry?job_id=job1", None, 409),
        ("POST", "/dlq/retry", None, 422),
        ("GET", "/config/get?key=nonsense", None, 422),
        ("POST", "/config/set", {"key": "base", "value": "much"}, 422),
    ],
)
def test_errors_of_the_older_endpoints_are_of_their_own_form(web, method, target, body, status):
    made(web, id="job1")
    told = web(method, target, body)
    assert told.status == status
    assert set(told.json) == {"status_code", "detail"}
    assert told.json["status_code"] == status


# -- /api/v1


@both_stores
def test_2_a_job_is_made_read_changed_and_removed(web):
    told = made(web, id="a:1", command="echo hi", env={"A": "b"}, retry_delay=5, retry_on=[1])
    assert told.headers["location"] == f"{JOBS}/a:1"
    assert told.headers["etag"] == '"1"'
    shown = web("GET", f"{JOBS}/a%3A1")
    assert shown.json == told.json
    assert web("GET", f"{JOBS}/a:1", if_none_match='"1"').status == 304
    changes = {"priority": 5, "retry_delay": None, "retry_on": None}
    changed = web("PATCH", f"{JOBS}/a:1", changes, if_match='"1"')
    assert (changed.status, changed.json["priority"], changed.headers["etag"]) == (200, 5, '"2"')
    assert changed.json["retry_delay"] is changed.json["retry_on"] is None
    assert web("DELETE", f"{JOBS}/a:1").status == 409  # it has not ended
    cancelled = web("POST", f"{JOBS}/a:1/cancel")
    assert (cancelled.status, cancelled.json["state"]) == (200, "cancelled")
    assert web("POST", f"{JOBS}/a:1/retry").json["state"] == "pending"
    web("POST", f"{JOBS}/a:1/cancel")
    gone = web("DELETE", f"{JOBS}/a:1")
    assert (gone.status, gone.data) == (204, b"")
    assert web("DELETE", f"{JOBS}/a:1").status == 404


def test_4_and_5_errors_are_problems_with_the_status_of_their_exit_code(web, data_dir):
    for method, target, body, status in [
        ("GET", "/api/v1/nothing", None, 404),
        ("GET", f"{JOBS}/none", None, 404),
        ("PUT", JOBS, None, 405),
        ("POST", f"{JOBS}/none/retry", None, 404),
        ("POST", "/api/v1/workers/stop", {"workers": ["1"]}, 404),
        ("POST", "/api/v1/jobs/cancel", {"ids": ["none"]}, 428),
    ]:
        told = web(method, target, body)
        assert told.status == status, (method, target)
        assert told.headers["content-type"] == "application/problem+json"
        assert told.json["status"] == status
        assert set(told.json) >= {"type", "title", "detail", "code"}
    for raw in (
        b"{",
        b"\xff",
        "{}".encode("utf-16"),
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b"[" * 10_000,
    ):
        assert web("POST", JOBS, raw=raw).status == 400, raw[:10]
    made(web)
    with open(f"{data_dir}/journal", "r+b") as file:
        file.write(b"nonsense")
    told = web("GET", f"{JOBS}/none")
    assert (told.status, told.headers["retry-after"]) == (503, "1")
    assert "journal" in told.json["detail"]


@pytest.mark.parametrize(
    ("fields", "pointers"),
    [
        ({"priority": "5"}, ["/priority"]),
        ({"priority": 5.0}, ["/priority"]),
        ({"priority": True}, ["/priority"]),
        ({"timeout": "5m"}, ["/timeout"]),
        ({"rerun": "no"}, ["/rerun"]),
        ({"nonsense/~": 1}, ["/nonsense~1~0"]),
        ({"attempts": 1}, ["/attempts"]),
        ({"id": "a b", "env": {"A": 1}, "command": ""}, ["/id", "/env", "/command"]),
        ({"command": None}, ["/command"]),
        ({"after": [""], "after_end": ["a b"], "tags": [1]}, ["/after", "/after_end", "/tags"]),
        ({"cron": "0 0 31 2 *", "tz": "Mars/Base"}, ["/cron", "/tz"]),
    ],
    ids=str,
)
def test_6_each_wrong_field_is_named_by_its_pointer_and_nothing_is_coerced(web, fields, pointers):
    told = web("POST", JOBS, {"command": "true", **fields})
    assert told.status == 422
    assert sorted(fault["pointer"] for fault in told.json["errors"]) == sorted(pointers)
    assert not any(f", not {word}" in told.json["detail"] for word in ("True", "'"))
    checked = web("POST", f"{JOBS}/check", {"command": "true", **fields}).json
    assert checked == {"ok": False, "errors": told.json["errors"]}
    assert web("GET", JOBS).json["total"] == 0


@both_stores
def test_7_a_change_may_ask_for_the_job_as_it_was_seen(web):
    made(web, id="a")
    assert web("PATCH", f"{JOBS}/a", {"command": "false"}).status == 428
    told = web("PATCH", f"{JOBS}/a", {"command": "false"}, if_match='"7"')
    assert (told.status, told.headers["etag"]) == (412, '"1"')
    for deed in ("/retry", "/cancel"):
        assert web("POST", f"{JOBS}/a{deed}", if_match='"9"').status == 412
    assert web("DELETE", f"{JOBS}/a", if_match='"9"').status == 412
    assert web("PATCH", f"{JOBS}/a", {}, if_match='"9"').status == 412
    assert web("PATCH", f"{JOBS}/a", {"priority": 1}, if_match="1").status == 400  # not an ETag
    for both in (('"9"', "*"), ("*", '"9"')):
        sent = [("if-match", value) for value in both]
        assert web("PATCH", f"{JOBS}/a", {"priority": 1}, headers=sent).status == 400
    assert web("PATCH", f"{JOBS}/a", {}, if_match='W/"1"').status == 200
    assert web("GET", f"{JOBS}/a").json["command"] == "true"
    assert web("PATCH", f"{JOBS}/a", {"command": "false"}, if_match='"1"').status == 200


@both_stores
def test_8_and_19_a_list_that_has_not_changed_is_not_sent_again(web, cli, wait_until):
    made(web, id="a")
    for target in (JOBS, "/api/v1/status", "/api/v1/stats", "/api/v1/dlq/groups"):

        def is_kept(target=target):
            etag = web("GET", target).headers["etag"]
            return web("GET", target, if_none_match=etag).status == 304

        wait_until(is_kept)  # a database tells a moment later of what it was told
    known = web("GET", JOBS).headers["etag"]
    assert web("GET", f"{JOBS}?wait=0.05s", if_none_match=known).status == 304
    cli.ok("enqueue", "--", "true")
    changed = web("GET", f"{JOBS}?wait=20s", if_none_match=known)
    assert (changed.status, changed.json["total"]) == (200, 2)


def test_9_and_27_methods_are_told_exactly(web):
    for route in every_route():
        target = filled(route.path)
        allowed = web("OPTIONS", target).headers["allow"].split(", ")
        assert route.method in allowed
        told = web(next(iter({"PUT", "DELETE"} - {*allowed})), target)
        assert told.status == 405
        assert told.headers["allow"].split(", ") == allowed
        assert web(route.method, f"{target.rstrip('/')}/x/").status == 404
    got, head = web("GET", JOBS), web("HEAD", JOBS)
    assert head.data == b""
    assert {**got.headers, "x-request-id": ""} == {**head.headers, "x-request-id": ""}


@both_stores
def test_a_job_that_is_called_like_an_action_is_a_job(web):
    below = {route.path.removeprefix(f"{JOBS}/") for route in ROUTES}
    named = sorted(name for name in below if name.isalpha())
    assert {"retry", "batch", "check"} <= {*named}
    for name in named:
        assert web("GET", f"{JOBS}/{name}").status == 405
        made(web, id=name)
        assert web("GET", f"{JOBS}/{name}").json["id"] == name
        assert web("HEAD", f"{JOBS}/{name}").status == 200
        assert web("PATCH", f"{JOBS}/{name}", {"priority": 4}).json["priority"] == 4
        assert web("POST", f"{JOBS}/{name}/cancel").json["state"] == "cancelled"
        assert web("DELETE", f"{JOBS}/{name}", token=READ).status == 403
        assert web("DELETE", f"{JOBS}/{name}").status == 204
    assert web("PUT", f"{JOBS}/retry").status == 405


@both_stores
def test_10_and_11_pages_are_walked_while_jobs_come_and_go(web):
    ids = [f"job{number:02}" for number in range(12)]
    web("POST", f"{JOBS}/batch", [{"command": "true", "id": job_id} for job_id in ids])
    for order in ("created_at", "-created_at", "id", "-id", "priority"):
        found, pages = walk(web, f"{JOBS}?limit=5&sort={order}")
        assert sorted(found) == ids
        assert pages == 3
    first = web("GET", f"{JOBS}?limit=5&sort=-id")
    assert first.headers["link"].endswith('; rel="next"')
    assert first.json["total"] == 12
    web("POST", f"{JOBS}/cancel", {"ids": ids[:3], "expect": 3})
    web("DELETE", f"{JOBS}/{ids[0]}")
    made(web, id="zz")
    rest, _ = walk(web, f"{JOBS}?limit=5&sort=-id", first.json["next"])
    assert rest == ids[6:0:-1]
    for cursor in ("x", "e30", first.json["next"][:-2]):
        assert web("GET", f"{JOBS}?sort=-id&cursor={cursor}").status == 400
    assert web("GET", f"{JOBS}?sort=id&cursor={first.json['next']}").status == 400


@both_stores
def test_a_list_that_reaches_below_what_is_kept_reads_the_queue(web, cli, monkeypatch, wait_until):
    monkeypatch.setattr("queuectl.web.mirror._MOST", 4)
    monkeypatch.setattr("queuectl.web.mirror.Window.__init__.__defaults__", (4,))
    lines = "\n".join(json.dumps({"id": f"j{n:02}", "command": "true"}) for n in range(30))
    cli.ok("enqueue", "--file", "-", stdin=lines)
    for order in ("-created_at", "-updated_at", "-id"):
        found, _ = walk(web, f"{JOBS}?limit=7&sort={order}")
        assert found == [f"j{n:02}" for n in reversed(range(30))]
    cli.ok("cancel", "j05")
    latest = f"{JOBS}?limit=1&sort=-updated_at"
    wait_until(lambda: web("GET", latest).json["items"][0]["id"] == "j05")  # a database tells later
    assert web("GET", latest).json["total"] == 30
    assert web("GET", f"{JOBS}?state=cancelled").json["total"] == 1
    assert web("GET", f"{JOBS}?q=J0").json["total"] == 10


@both_stores
def test_12_and_13_filters_are_joined_and_lists_are_light(web, cli, monkeypatch):
    made(web, id="a", command="sleep 1", env={"A": "b"})
    made(web, id="b", command="sleep 2")
    web("POST", f"{JOBS}/b/cancel")

    def ids(query):
        return sorted(job["id"] for job in web("GET", f"{JOBS}?{query}").json["items"])

    assert ids("state=pending&state=cancelled") == ["a", "b"]
    assert ids("state=cancelled&q=sleep") == ["b"]
    assert ids("q=SLEEP%201") == ["a"]
    assert ids("error=cancel") == ["b"]
    assert ids("until=2020-01-01T00:00:00Z") == []
    for query in ("nonsense=1", "state=none", "sort=command", "limit=x", "q=1&q=2", "since=soon"):
        assert web("GET", f"{JOBS}?{query}").status == 400, query
    [job] = web("GET", f"{JOBS}?q=sleep%201").json["items"]
    assert not {"env", "history", "cwd"} & set(job)
    [job] = web("GET", f"{JOBS}?q=sleep%201&fields=history&fields=cwd").json["items"]
    assert (job["history"], job["cwd"]) == ([], "/")
    present = web.service.operations.present

    def late(ids):
        cli.ok("purge", "b", "--yes")
        return present(ids)

    monkeypatch.setattr(web.service.operations, "present", late)
    told = web("GET", f"{JOBS}?sort=id&fields=cwd")
    assert [(job["id"], job.get("cwd")) for job in told.json["items"]] == [("a", "/"), ("b", None)]


@both_stores
def test_14_and_15_a_key_makes_a_job_once(web):
    job = {"command": "true", "priority": 3, "env": {"API_TOKEN": "hunter2"}}
    first = web("POST", JOBS, job, idempotency_key="k1")
    again = web("POST", JOBS, job, idempotency_key="k1")
    assert (first.status, again.status) == (201, 200)
    assert again.json == first.json
    assert web("POST", JOBS, {**job, "priority": 4}, idempotency_key="k1").status == 422
    assert web("GET", JOBS).json["total"] == 1
    made(web, id="own")
    there = web("POST", JOBS, {"command": "true", "id": "own"})
    assert (there.status, there.json["job"]) == (409, f"{JOBS}/own")
    assert web("POST", JOBS, {"command": "true", "id": "own"}, idempotency_key="k2").status == 200
    taken = {"command": "false", "id": first.json["id"]}  # an id of its own, whatever it looks like
    assert web("POST", JOBS, taken, idempotency_key="k3").status == 409


@both_stores
def test_16_many_jobs_are_all_made_or_none(web):
    made(web, id="there")
    for last, status in (({"id": "there"}, 409), ({"priority": "x"}, 422)):
        told = web("POST", f"{JOBS}/batch", [{"command": "true"}, {"command": "true", **last}])
        assert told.status == status
        assert told.json["errors"][0]["pointer"].startswith("/1")
    assert web("GET", JOBS).json["total"] == 1
    told = web("POST", f"{JOBS}/batch", [{"command": "true", "id": name} for name in "cba"])
    assert (told.status, [job["id"] for job in told.json["items"]]) == (201, ["c", "b", "a"])
    assert web("POST", f"{JOBS}/batch", []).status == 422


@both_stores
def test_17_a_group_of_dead_jobs_is_retried_if_it_is_as_it_was_said(web, cli):
    cli.ok("config", "set", "max-retries", "0")
    for number in range(3):
        cli.ok("enqueue", "--id", f"x{number}", "--command", f"exit {3 + (number == 2)}")
    cli("worker", "run", "--drain")
    groups = web("GET", "/api/v1/dlq/groups").json["groups"]
    assert [(group["count"], group["cause"]) for group in groups] == [
        (2, "exit code 3"),
        (1, "exit code 4"),
    ]
    group = groups[0]["group"]
    shown = web("POST", "/api/v1/dlq/retry", {"group": group, "dry_run": True}).json
    assert (shown["count"], sorted(shown["ids"])) == (2, ["x0", "x1"])
    told = web("POST", "/api/v1/dlq/retry", {"group": group, "expect": 1})
    assert (told.status, told.json["count"]) == (409, 2)
    assert web("POST", "/api/v1/dlq/retry", {"group": group}).status == 428
    done = web("POST", "/api/v1/dlq/retry", {"group": group, "expect": 2}).json
    assert (done["count"], done["done"]) == (2, True)
    assert [group["count"] for group in web("GET", "/api/v1/dlq/groups").json["groups"]] == [1]
    assert web("POST", "/api/v1/dlq/retry", {}).status == 422
    assert web("POST", "/api/v1/dlq/retry", {"all": True, "expect": 1}).json["count"] == 1
    assert web("POST", f"{JOBS}/cancel", {"q": "exit", "expect": 3}).json["count"] == 3
    assert web("POST", f"{JOBS}/purge", {"state": ["cancelled"], "expect": 3}).json["count"] == 3
    assert web("POST", f"{JOBS}/purge", {"expect": 0}).status == 422
    assert web("GET", JOBS).json["total"] == 0


@both_stores
def test_17_five_hundred_dead_jobs_are_as_many_groups_as_there_are_causes(web, cli, wait_until):
    ids = bury(web.folder, 500)
    groups = web("GET", "/api/v1/dlq/groups").json["groups"]
    assert sorted(group["count"] for group in groups) == [83, 83, 83, 83, 84, 84]
    assert len(CAUSES) == 6
    of_first = next(group for group in groups if ids[498] in group["samples"])
    assert of_first["cause"] == "exit code 1: no such file: *"
    asked = {"group": of_first["group"], "expect": of_first["count"]}
    cli.ok("dlq", "retry", ids[0])  # meanwhile
    told = web("POST", "/api/v1/dlq/retry", asked)
    assert (told.status, told.json["count"]) == (409, 83)
    assert web("GET", f"{JOBS}?state=dead").json["total"] == 499
    done = web("POST", "/api/v1/dlq/retry", {**asked, "expect": 83}).json
    assert {*done["ids"]} == {*ids[6::6]}
    # Where grouping takes long, what was found holds for some seconds.
    wait_until(lambda: len(web("GET", "/api/v1/dlq/groups").json["groups"]) == 5)


@both_stores
def test_17_what_others_change_before_the_change_itself_counts_too(web, cli, monkeypatch):
    for job_id in "abc":
        made(web, id=job_id, tags=["t"])
    touch = web.service.operations.touch

    def late(*given, **how):
        cli.ok("update", "c", "--untag", "t")
        return touch(*given, **how)

    for action in ("cancel", "retry", "purge"):
        monkeypatch.setattr(web.service.operations, "touch", late)
        asked = {"tag": ["t"], "state": ["pending" if action == "cancel" else "cancelled"]}
        told = web("POST", f"{JOBS}/{action}", {**asked, "expect": 3})
        assert (told.status, told.json["count"]) == (409, 2)
        monkeypatch.setattr(web.service.operations, "touch", touch)
        cli.ok("update", "c", "--tag", "t")
        told = web("POST", f"{JOBS}/{action}", {**asked, "expect": 3})
        assert (told.status, told.json["count"]) == (200, 3), told
        if action == "retry":
            web("POST", f"{JOBS}/cancel", {"tag": ["t"], "expect": 3})


@both_stores
def test_what_is_selected_without_a_state_is_what_the_command_selects(web, cli):
    cli.ok("config", "set", "max-retries", "0")
    cli.ok("enqueue", "{id: dead, command: exit 3, tags: [t]}")
    cli.ok("enqueue", "{id: done, command: 'true', tags: [t]}")
    cli("worker", "run", "--drain")
    made(web, id="later", tags=["t"], delay=3600)
    made(web, id="due", tags=["t"])
    for action, ids in (
        ("retry", ["dead"]),
        ("purge", ["done"]),
        ("cancel", ["later", "due"]),
    ):
        told = web("POST", f"{JOBS}/{action}", {"tag": ["t"], "dry_run": True}).json
        assert told["ids"] == ids, action
    every = {"ids": ["dead", "done", "later", "due"]}
    told = web("POST", f"{JOBS}/retry", {**every, "dry_run": True}).json
    assert told["ids"] == ["done", "later", "dead"]  # the other one is due already
    assert web("POST", f"{JOBS}/retry", {**every, "expect": 3}).json["ids"] == told["ids"]
    for action, state in (("retry", "in_progress"), ("purge", "pending"), ("cancel", "dead")):
        told = web("POST", f"{JOBS}/{action}", {"state": [state], "expect": 0})
        assert (told.status, told.json["errors"][0]["pointer"]) == (422, "/state"), action


def test_a_folder_that_is_gone_is_not_taken_for_an_empty_queue(web, data_dir):
    made(web, id="a")
    assert web("GET", "/status").json["summary"]["pending"] == 1
    shutil.rmtree(data_dir)
    for target in ("/status", "/list", "/metrics", JOBS, f"{JOBS}/a", "/api/v1/stats"):
        told = web("GET", target)
        assert (told.status, "is gone" in told.json["detail"]) == (503, True), target
    assert "is gone" in str(events(web, "timeout=0")[0])
    assert web("GET", "/healthz").status == 200
    JobQueue.open(data_dir).enqueue([{"command": "true", "id": "b"}])
    assert [job["id"] for job in web("GET", JOBS).json["items"]] == ["b"]


def test_a_list_that_came_out_empty_never_means_all(web):
    made(web, id="a")
    for target, body in (
        (f"{JOBS}/cancel", {"ids": [], "q": "true", "expect": 1}),
        (f"{JOBS}/cancel", {"state": [], "q": "true", "expect": 1}),
        ("/api/v1/dlq/retry", {"ids": [], "all": True, "expect": 0}),
        ("/api/v1/workers/stop", {"workers": []}),
        ("/api/v1/pause", {"tags": []}),
    ):
        told = web("POST", target, body)
        assert (told.status, "must not be empty" in told.json["detail"]) == (422, True), target
    assert web("GET", f"{JOBS}/a").json["state"] == "pending"


@both_stores
def test_a_job_that_others_wait_for_stays(web, cli):
    cli.ok("enqueue", "{id: one, command: 'true'}")
    cli.ok("enqueue", "{id: lone, command: 'true'}")
    cli.ok("worker", "run", "--drain")
    made(web, id="two", after=["one"], delay=3600)
    told = web("DELETE", f"{JOBS}/one")
    assert (told.status, "wait for it" in told.json["detail"]) == (409, True)
    told = web("POST", f"{JOBS}/purge", {"state": ["completed"], "expect": 2}).json
    assert (told["ids"], told["kept"]) == (["lone"], ["one"])
    assert web("GET", f"{JOBS}/one").status == 200


@both_stores
def test_who_changed_a_job_stands_in_its_history(web, cli):
    made(web, id="a")
    web("PATCH", f"{JOBS}/a", {"priority": 4})
    web("POST", f"{JOBS}/a/cancel")
    cli.ok("retry", "a")
    told = web("GET", f"{JOBS}/a").json["history"]
    assert [(entry["event"], entry["by"]) for entry in told] == [
        ("edit", "web"),
        ("cancel", "web"),
        ("retry", "cli"),
    ]
    assert "by web" in cli.ok("show", "a")


@both_stores
def test_20_output_is_had_in_parts(web, cli):
    cli.ok("enqueue", "--id", "job1", "--command", "printf 'aä€😀z'")
    cli.ok("worker", "run", "--drain")
    whole = "aä€😀z".encode()
    logs = f"{JOBS}/job1/logs"
    told = web("GET", logs)
    assert (told.data, told.headers["x-log-size"], told.headers["x-log-complete"]) == (
        whole,
        "11",
        "true",
    )
    for offset in range(-12, 12):
        part = web("GET", f"{logs}?offset={offset}").data
        part.decode()  # no sign is cut in two
        assert whole.endswith(part)
    for limit in range(1, 12):
        assert whole.startswith(web("GET", f"{logs}?limit={limit}").data)
        web("GET", f"{logs}?limit={limit}").data.decode()
    told = web("GET", logs, range="bytes=1-2")
    assert (told.status, told.data, told.headers["content-range"]) == (
        206,
        whole[1:3],
        "bytes 1-2/11",
    )
    assert web("GET", logs, range="bytes=-1").data == b"z"
    assert web("GET", logs, range="bytes=99-").status == 416
    assert web("GET", logs, range="lines=1-2").status == 200
    assert web("GET", f"{logs}?run=2").status == 404


@both_stores
def test_a_text_is_found_in_output_from_any_byte_on_and_before_it(web, cli, monkeypatch):
    monkeypatch.setattr("queuectl.web.operations._BLOCK", 10)
    monkeypatch.setattr("queuectl.web.operations._MOST_BLOCKS", 4)
    text = "xx NEEDLE\n" + "y" * 35 + "needle" + "z" * 60 + "\u20acneedle\n"
    cli.ok("enqueue", "--id", "job1", "--command", f"printf '{text}'")
    cli.ok("worker", "run", "--drain")
    data = text.lower().encode()

    def found(query):
        """Where it is, asked as often as it takes."""
        told = web("GET", f"{JOBS}/job1/logs/find?q=nEEdle{query}").json
        assert told["size"] == len(data)
        on = told["next"]
        return (
            told["offset"]
            if on is None
            else found(re.sub(r"&offset=\d+|$", f"&offset={on}", query, count=1))
        )

    for offset in range(0, len(data) + 2, 3):
        place = data.find(b"needle", offset)
        assert found(f"&offset={offset}") == (None if place < 0 else place), offset
        place = data[: offset + 5].rfind(b"needle")
        assert found(f"&offset={offset}&back=true") == (None if place < 0 else place), offset
    told = web("GET", f"{JOBS}/job1/logs/find?q=%E2%82%AC").json
    assert told == {"offset": None, "next": 40, "size": len(data), "complete": True}
    for query, status in (("q=", 400), ("", 400), ("q=x&run=2", 404), ("q=x&offset=-1", 400)):
        assert web("GET", f"{JOBS}/job1/logs/find?{query}").status == status, query


@both_stores
def test_what_holds_a_job_back_is_told_with_its_reasons(web, cli, wait_until):
    made(web, id="one")
    made(web, id="two", after=["one"], after_end=["one"], tags=["gpu", "cpu"])
    cli.ok("limit", "gpu", "2")
    # A database tells a moment later of settings, too.
    wait_until(lambda: web("GET", f"{JOBS}/two/explain").json["limits"])
    told = web("GET", f"{JOBS}/two/explain").json
    assert (told["parents"], told["limits"]) == ({"one": "pending"}, {"gpu": 2})
    assert "one" in told["reasons"][0]["text"]
    told = web("GET", f"{JOBS}/one/explain").json
    assert (told["parents"], told["children"]) == ({}, {"two": "pending"})
    assert web("GET", f"{JOBS}/none/explain").status == 404


@both_stores
def test_22_workers_are_started_and_stopped_without_waiting(web, cli, wait_until):
    cli.ok("enqueue", "--id", "job1", "--command", "sleep 60")
    told = web("POST", "/api/v1/workers", {"count": 1})
    assert told.status == 202
    [pid] = told.json["pids"]

    def running():
        [worker] = web("GET", "/api/v1/workers").json["items"]
        return worker["job"] == "job1" and worker["command"] and worker

    worker = wait_until(running)
    assert (worker["command"], worker["pid"], worker["alive"]) == ("sleep 60", pid, True)
    assert web("POST", "/api/v1/workers/stop", {"workers": [str(pid)]}).status == 202
    assert web("GET", "/api/v1/workers").json["total"] == 1  # it finishes its job
    assert web("POST", "/api/v1/workers", {"count": 0}).status == 422
    assert web("POST", "/api/v1/workers", {"number": 1}).status == 422


@both_stores
def test_settings_are_read_and_changed(web):
    told = web("PATCH", "/api/v1/config", {"base": 3, "max-retries": 5})
    assert (told.status, told.json["settings"]["base"]) == (200, 3)
    assert web("PATCH", "/api/v1/config", {"base": None}).json["settings"]["base"] == 2
    wrong = web("PATCH", "/api/v1/config", {"base": "3", "nonsense": 1})
    assert wrong.status == 422
    assert [fault["pointer"] for fault in wrong.json["errors"]] == ["/base", "/nonsense"]
    assert web("GET", "/api/v1/config").json["about"]["base"]["default"] == 2


def test_26_figures_for_programs(web):
    made(web)
    assert web("GET", "/healthz", token=None).json == {"status": "ok"}
    assert web("GET", "/metrics", token=None).status == 401
    lines = web("GET", "/metrics").data.decode().splitlines()
    assert 'queuectl_jobs{state="pending"} 1' in lines
    assert all(line.startswith("#") or len(line.split(" ")) == 2 for line in lines)


# -- what commands do beside


@both_stores
def test_a_job_that_meets_another_is_left_at_it_or_put_in_its_place(web, cli):
    job = {"command": "echo 1", "unique": "k"}
    first = made(web, **job).json["id"]
    kept = web("POST", f"{JOBS}?on_conflict=keep", {**job, "command": "echo 2"})
    assert (kept.status, kept.json["id"], kept.json["command"]) == (200, first, "echo 1")
    put = web("POST", f"{JOBS}?on_conflict=replace", {**job, "command": "echo 3"})
    assert (put.status, put.json["id"], put.json["command"]) == (200, first, "echo 3")
    assert put.json["history"][0]["event"] == "replace"
    assert web("POST", f"{JOBS}?on_conflict=keep", {"command": "true", "id": "new"}).status == 201
    drafts = [{"command": "true", "id": "new"}, {"command": "true", "id": "newer"}]
    many = web("POST", f"{JOBS}/batch?on_conflict=keep", drafts)
    assert (many.status, many.json["instead"], many.json["total"]) == (201, [0], 2)
    for query, body, status in [
        ("on_conflict=replace", {"command": "true"}, 422),
        ("on_conflict=keep", {"command": "true"}, 422),
        ("on_conflict=yes", job, 400),
    ]:
        assert web("POST", f"{JOBS}?{query}", body).status == status, query
    assert web("POST", JOBS, job).status == 409
    assert web("POST", JOBS, {"command": "true", "id": "new"}, if_none_match="*").status == 412
    assert json.loads(cli.ok("status", "--json"))["total"] == 3
    assert "enqueued 1 job" in web.log[3]


@both_stores
def test_the_queue_is_paused_and_tags_are_limited(web, cli):
    assert web("POST", "/api/v1/pause", {"tags": ["gpu"]}).json == {"paused": ["gpu"]}
    assert web("POST", "/api/v1/pause").json == {"paused": ["gpu", "*"]}
    assert json.loads(cli.ok("status", "--json"))["paused"] == ["gpu", "*"]
    assert web("POST", "/api/v1/resume", {}).json == {"paused": ["gpu"]}
    assert web("POST", "/api/v1/resume", {}).status == 409
    wrong = web("POST", "/api/v1/pause", {"tags": ["a b"]})
    assert (wrong.status, wrong.json["errors"][0]["pointer"]) == (422, "/tags")
    limits = web("PUT", "/api/v1/limits", {"tag": "gpu", "most": 2}).json
    assert limits == {"limits": [{"tag": "gpu", "limit": 2, "running": 0}]}
    assert web("GET", "/api/v1/limits").json == limits
    for body in ({"most": 2}, {"tag": "gpu", "most": 0}, {"tag": ""}, {"tag": 1}):
        assert web("PUT", "/api/v1/limits", body).status == 422, body
    assert web("PUT", "/api/v1/limits", {"tag": "gpu"}).json == {"limits": []}


@both_stores
def test_many_jobs_are_changed_if_they_are_as_many_as_was_said(web):
    for job_id in "abc":
        made(web, id=job_id, tags=["t"])
    many = {"ids": ["a", "b"], "set": {"priority": 4}, "add_tags": ["new"], "drop_tags": ["t"]}
    assert web("POST", f"{JOBS}/update", {**many, "expect": 3}).status == 409
    assert web("POST", f"{JOBS}/update", {**many, "dry_run": True}).json["count"] == 2
    assert web("POST", f"{JOBS}/update", {**many, "expect": 2}).json["done"]
    changed = web("GET", f"{JOBS}/b").json
    assert (changed["priority"], changed["tags"]) == (4, ["new"])
    assert web("GET", f"{JOBS}/c").json["tags"] == ["t"]
    assert web("POST", f"{JOBS}/update", {"ids": ["a"]}).status == 428
    for given, status in (({"command": "x"}, 422), ({"priority": "4"}, 422)):
        told = web("POST", f"{JOBS}/update", {"ids": ["a"], "set": given, "expect": 1})
        assert told.status == status
    assert told.json["errors"][0]["pointer"] == "/set/priority"


@both_stores
def test_paths_moments_and_zones_are_read_as_the_command_line_reads_them(web):
    """The server stands in / and in Tokyo."""
    by_clock = {"every": None, "cron": "@daily"}
    for job_id, more in (
        ("e", {"every": 60}),
        ("m", {"every": 60}),
        ("u", {"cron": "@hourly", "tz": "UTC"}),
    ):
        made(web, id=job_id, env_file="x.env", cwd="tmp", **more)
    assert web("PATCH", f"{JOBS}/e", by_clock).json["tz"] == "Asia/Tokyo"
    assert web("PATCH", f"{JOBS}/u", by_clock).json["tz"] == "UTC"  # it went by that clock before
    assert web("PATCH", f"{JOBS}/u", {**by_clock, "tz": None}).json["tz"] == "Asia/Tokyo"
    assert web("PUT", "/update", {"id": "e", "cron": "@hourly"}).status == 200
    many = {"ids": ["m"], "set": {**by_clock, "delay": 3600, "env_file": "y.env"}, "expect": 1}
    assert web("POST", f"{JOBS}/update", many).json["done"]
    shown = [web("GET", f"{JOBS}/{job_id}").json for job_id in "eum"]
    assert [(job["tz"], job["cwd"], job["env_file"]) for job in shown] == [
        ("Asia/Tokyo", "/tmp", "/x.env"),
        ("Asia/Tokyo", "/tmp", "/x.env"),
        ("Asia/Tokyo", "/tmp", "/y.env"),
    ]


@both_stores
def test_dead_and_old_jobs_are_removed(web, cli):
    cli.ok("config", "set", "max-retries", "0")
    for number in range(3):
        cli.ok("enqueue", "--id", f"x{number}", "--command", f"exit {3 + (number == 2)}")
    cli("worker", "run", "--drain")
    group = web("GET", "/api/v1/dlq/groups").json["groups"][1]["group"]
    assert web("POST", "/api/v1/dlq/purge", {"group": group, "expect": 1}).json["ids"] == ["x2"]
    old = {"state": ["dead"], "older_than": 3600}
    assert web("POST", f"{JOBS}/purge", {**old, "dry_run": True}).json["count"] == 0
    assert web("POST", f"{JOBS}/purge", {**old, "older_than": 0, "expect": 2}).json["count"] == 2
    assert web("POST", "/api/v1/dlq/purge", {"all": True, "expect": 0}).json["done"]


@both_stores
def test_workers_are_scaled_and_the_queue_is_looked_after(web, cli, wait_until):
    assert len(web("POST", "/api/v1/workers/scale", {"count": 2}).json["started"]) == 2
    told = web("POST", "/api/v1/workers/scale", {"count": 0}).json
    assert (len(told["stopped"]), told["started"]) == (2, [])
    wait_until(lambda: web("GET", "/api/v1/workers").json["total"] == 0)
    assert web("POST", "/api/v1/workers/scale", {}).status == 422
    assert web("POST", "/api/v1/checkpoint").json == {"status": "ok"}
    assert web("GET", "/api/v1/doctor").json["ok"] is True


def test_workers_of_other_hosts_are_asked_to_stop(web, monkeypatch):
    asked = []

    def ask(queue, *, now):
        asked.append(now)
        return ["w-far"]

    monkeypatch.setattr(JobQueue, "stop_elsewhere", ask)
    stop = "/api/v1/workers/stop"
    assert web("POST", stop, {"now": True}).json == {"pids": [], "asked": []}
    told = web("POST", stop, {"all_hosts": True})
    assert (told.status, told.json, asked) == (202, {"pids": [], "asked": ["w-far"]}, [False])
    assert web.log[-1].endswith("told 1 worker to stop")


def test_scaling_counts_the_workers_of_this_host_only(web, monkeypatch):
    elsewhere = WorkerInfo("w-1", True, "w-1 77\n" + "\n".ljust(RUN_LINE) + "host=other\n")
    assert elsewhere.host == "other"
    monkeypatch.setattr(JobQueue, "workers", lambda _, here=False: [elsewhere] * (not here))
    monkeypatch.setattr(pool, "start", lambda folder, count: [7] * count)
    told = web("POST", "/api/v1/workers/scale", {"count": 1})
    assert (told.status, told.json) == (202, {"started": [7], "stopped": []})


def test_each_command_that_makes_sense_over_http_has_its_route():
    told = {route.command for route in every_route()}
    # Made of files on the server, of a terminal, or of several requests: run is a POST and events.
    elsewhere = (
        *("run", "top", "watch", "wait", "edit", "serve", "dashboard", "worker run", "init"),
        *("backup", "restore", "copy", "ping", "completion", "help", "version"),
    )
    wanted = {" ".join(spec.words) for spec in COMMANDS} - {*elsewhere}
    assert wanted - {"config unset"} <= told  # that is null in config set
    assert {command.partition(" --")[0] for command in told if command} <= wanted


def test_23_the_document_says_what_the_table_of_routes_says(web):
    api = web("GET", "/openapi.json", token=None).json
    assert api["openapi"] == "3.1.0"
    said = {
        (method.upper(), path): row
        for path, rows in api["paths"].items()
        for method, row in rows.items()
    }
    assert set(said) == {(route.method, route.path) for route in ROUTES}
    for route in ROUTES:
        row = said[route.method, route.path]
        assert row["operationId"] == route.name
        assert {int(status) for status in row["responses"]} >= {*route.answers}
        assert row.get("security", api["security"]) == ([{"token": []}] if route.right else [])
        assert row.get("deprecated", False) is (route.kind == "old")
        body = row.get("requestBody", {}).get("content", {}).get("application/json", {})
        schema = body.get("schema", {})
        schema = api["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], schema)
        for name, member in schema.get("properties", {}).items():
            assert member["description"], (route.name, name)  # which /docs shows
    assert len({row["operationId"] for row in said.values()}) == len(said)
    names = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(api)))
    assert names <= set(api["components"]["schemas"])


def test_1_3_and_21_paths_ids_times_and_numbers_have_one_form(web):
    for route in ROUTES:
        if route.kind != "old":
            assert re.fullmatch(r"/(metrics|healthz|api/v1(/[a-z]+|/\{id\})+)", route.path)
    told = made(web, id="a.b:c_d-e", command="true", priority=1_000_000, timeout=0.5).json
    assert web("GET", f"{JOBS}/a%2Eb%3Ac_d-e").json["id"] == told["id"]
    for job_id in ("-a", ".a", "a b", "a/b", "x" * 129):
        assert web("POST", JOBS, {"command": "true", "id": job_id}).status == 422, job_id
    for name in ("created_at", "updated_at", "run_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", told[name])
    assert (told["timeout"], told["priority"]) == (0.5, 1_000_000)
    assert made(web, timeout=None, cwd=None).json["timeout"] is None


# -- the stream of events


def events(web, query="", **headers):
    """The events of a stream that ends by itself, as (name, data), and the last id."""
    told = web("GET", f"/api/v1/events?{query}", **headers)
    assert told.status == 200
    assert told.headers["content-type"] == "text/event-stream"
    found, last = [], ""
    for block in told.data.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        last = lines.get("id", last)
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found, last


@both_stores
def test_18_the_stream_resumes_where_it_was_left(web, cli):
    made(web, id="a")
    found, position = events(web, "timeout=0")
    assert [name for name, _ in found][:2] == ["hello", "counts"]
    cli.ok("enqueue", "{id: b, command: 'printf \"x\\n\\ndata: forged\\n\"'}")
    cli.ok("cancel", "a")
    found, later = events(web, "timeout=0", last_event_id=position)
    jobs = {form["id"]: form["state"] for name, form in found if name == "job"}
    assert jobs == {"a": "cancelled", "b": "pending"}
    assert events(web, f"timeout=0&since={later}")[0][0][0] == "counts"
    for old in ("gone-1", "x", f"{later}9"):
        assert events(web, "timeout=0", last_event_id=old)[0][0][0] == "resync"
    found, _ = events(web, f"max=1&since={position}")
    assert len(found) == 1
    cli("purge", "--state", "cancelled", "--yes")
    found, _ = events(web, "timeout=0", last_event_id=later)
    assert ("job", {"id": "a", "removed": True}) in found


@both_stores
def test_18_a_reader_misses_nothing_over_breaks_folds_and_a_server_that_was_killed(
    web, serve_it, cli
):
    """Of what a reader is told, some is lost on the way; then it asks from where it was."""
    known, position = {}, None

    def read(web, *, lost=False):
        nonlocal position
        more = {"last_event_id": position} if position else {}
        found, later = events(web, "timeout=0", **more)
        if lost:
            return
        for name, form in found:
            if name == "resync":
                known.clear()
                known.update(
                    {
                        job["id"]: job["state"]
                        for job in web("GET", f"{JOBS}?limit=200").json["items"]
                    }
                )
            elif name == "job" and form.get("removed"):
                del known[form["id"]]
            elif name == "job":
                known[form["id"]] = form["state"]
        position = later or position

    read(web)
    for number in range(20):
        made(web, id=f"j{number:02}")
        read(web, lost=number % 3 == 1)
        if number % 4 == 3:
            web("POST", f"{JOBS}/j{number:02}/cancel")
            web("POST", f"{JOBS}/j{number - 3:02}/cancel")
            web("DELETE", f"{JOBS}/j{number - 3:02}")
        if number % 5 == 4:
            cli("checkpoint")
        if number == 13:
            web = serve_it()  # the other one is gone, and its positions with it
    read(web)
    assert known == {job["id"]: job["state"] for job in json.loads(cli.ok("list", "--json"))}
    assert len(known) == 15


@both_stores
def test_18_readers_at_one_place_are_told_the_same_and_those_who_count_too(web, cli):
    _, position = events(web, "timeout=0")
    cli.ok("enqueue", "--file", "-", stdin='{"id": "a", "command": "true"}')
    for job_id in "bc":
        cli.ok("enqueue", "--id", job_id, "--", "true")
    told = [events(web, "timeout=0", last_event_id=position) for _ in range(3)]
    assert told[0] == told[1] == told[2]
    assert [form["id"] for name, form in told[0][0] if name == "job"] == ["a", "b", "c"]
    found, _ = events(web, "max=2", last_event_id=position)
    assert [form["id"] for _, form in found] == ["a", "b"]


@both_stores
def test_18_the_stream_follows_the_output_of_a_job(web, cli):
    cli.ok("enqueue", "{id: b, command: 'printf \"x\\n\\ndata: forged\\n\"'}")
    cli.ok("worker", "run", "--drain")
    found, _ = events(web, "timeout=0&log=b")
    [log] = [form for name, form in found if name == "log"]
    assert (log["text"], log["ended"], log["size"]) == ("x\n\ndata: forged\n", True, 16)
    assert events(web, "timeout=0&log=b&offset=14")[0][-1][1]["text"] == "d\n"
    assert web("GET", "/api/v1/events?log=none").status == 404


def test_18_output_that_is_cut_while_it_is_followed_goes_on_at_its_end(web, monkeypatch):
    """A run that prints more than log-limit goes on in an empty file; its log begins anew, too."""
    made(web, id="a")
    told = {"text": b"1\n2\n3\n", "complete": False}

    def output(job, run, offset, limit):
        text = told["text"]
        begin = max(0, len(text) + offset) if offset < 0 else min(offset, len(text))
        return Part(text[begin : begin + limit], begin, len(text), told["complete"])

    monkeypatch.setattr(web.service.operations, "output", output)
    query = dict.fromkeys(("since", "max", "timeout", "offset")) | {"log": "a", "run": 1}
    reader = _Reader(Call("GET", {}, query, {}), web.app.streams)

    def heard(text, complete=False):
        told.update(text=text, complete=complete)
        return [(form["offset"], form["text"]) for form in reader._output()]

    assert heard(b"1\n2\n3\n") == [(0, "1\n2\n3\n")]
    assert heard(b"1\n2\n3\n") == []
    assert heard(b"1\n2\n3\n4\n") == [(6, "4\n")]
    assert heard(b"8\n") == [(0, "8\n")]  # it was cut
    assert heard(b"8\n9\n") == [(2, "9\n")]
    assert heard(b"16\n17\n18\n") == [(0, "16\n17\n18\n")]  # cut, and longer than it was
    assert heard(b"1\n2\n... \n16\n17\n18\n19\n", True)[0][1].endswith("18\n19\n")


def test_18_readers_that_come_together_share_one_look_and_one_rendering(web, monkeypatch):
    """Fifty of them had fifty loops that looked, each for itself."""
    streams = web.app.streams
    looks, found = [], []
    read, news = streams._read, _Reader.news
    monkeypatch.setattr(streams, "_read", lambda workers: looks.append(workers) or read(workers))
    monkeypatch.setattr(_Reader, "news", lambda reader: found.append(reader) or news(reader))

    async def come(count):
        query = {**dict.fromkeys(("since", "log", "run", "offset", "max")), "timeout": 1.2}
        told = [[] for _ in range(count)]

        async def take(number, message):
            told[number].append(message.get("body", b""))

        async def stay():
            await asyncio.sleep(60)

        async def one(number):
            sender = await streams.open(Call("GET", {}, query, {}))
            await sender(lambda message: take(number, message), stay, {})

        readers = asyncio.gather(*map(one, range(count)))
        await asyncio.sleep(0.5)
        web.service.operations.enqueue([{"command": "true", "id": "a"}])
        await readers
        return [b"".join(parts) for parts in told]

    told = asyncio.run(come(20))
    assert len({*told}) == 1
    assert told[0].count(b"event: hello") == told[0].count(b'"id":"a"') == 1
    assert len(looks) <= 12  # in 1.2 seconds, each 0.15 at most
    assert len(found) <= 20 + 4  # at the end each is asked once more


@both_stores
def test_the_last_hour_moves_on_though_nothing_happens(web, cli, monkeypatch, wait_until):
    cli.ok("enqueue", "--", "true")
    cli.ok("worker", "run", "--drain")
    wait_until(lambda: "etag" in web("GET", "/api/v1/stats").headers)  # a database tells later
    first = web("GET", "/api/v1/stats")
    assert (first.json["hour"]["completed"], len(first.json["recent"])) == (1, 2)
    known = first.headers["etag"]
    for minutes, completed in ((1, 1), (61, 0)):
        clock = SimpleNamespace(time=lambda add=60 * minutes: time.time() + add)
        monkeypatch.setattr("queuectl.web.queue_api.time", clock)
        told = web("GET", "/api/v1/stats", if_none_match=known)
        assert (told.status, told.json["hour"]["completed"]) == (200, completed)
    assert (told.json["hour"]["minutes"], told.json["recent"]) == ([[0, 0, 0]] * 60, [])
    assert web("GET", "/api/v1/stats", if_none_match=told.headers["etag"]).status == 304


def test_a_look_that_waits_for_a_processor_delays_the_next_one_little(web, monkeypatch):
    """On a busy machine it rested 20 times what the look took by the clock."""
    monkeypatch.setattr(web.app.streams, "_read", lambda workers: time.sleep(0.1) or (True, True))
    assert web.app.streams._look(True)[1] < 0.4


def test_an_error_that_nobody_foresaw_is_told_to_readers(web, monkeypatch):
    """It ended the looking, and those who listened were told of nothing any more."""

    def fail():
        raise OSError(5, "the disk")

    monkeypatch.setattr(web.service.mirror, "catch_up", fail)
    [trouble] = [form for name, form in events(web, "timeout=0")[0] if name == "trouble"]
    assert "the disk" in trouble["detail"]


def test_beats_of_workers_are_not_told_all_the_time():
    """Each would tell every reader of every worker, though nothing happens."""
    told = {"items": [{"id": "w", "beat": "2026-01-01T00:00:00Z"}, {"id": "x"}]}
    for second, shown in ((10, "00"), (29, "00"), (30, "30")):
        beat = f"2026-01-01T00:00:{second}Z"
        found = _calm([{"id": "w", "beat": beat}, {"id": "x"}, {"id": "y", "beat": beat}], told)
        assert [worker.get("beat") for worker in found] == [
            f"2026-01-01T00:00:{shown}Z",
            None,
            beat,
        ]


def test_figures_that_are_behind_the_queue_have_no_etag(web, cli, monkeypatch):
    """Else a reader would keep them: the queue is as that ETag says, and they are not."""
    monkeypatch.setattr("queuectl.web.service._SLOW", -1.0)
    monkeypatch.setattr("queuectl.web.service._REST", 1e9)
    assert "etag" in web("GET", "/api/v1/stats").headers
    cli.ok("enqueue", "--", "true")
    behind = web("GET", "/api/v1/stats")
    assert behind.json["total"] == 0
    assert "etag" not in behind.headers
    monkeypatch.setattr("queuectl.web.service._SLOW", 1e9)
    web.service._kept["stats"].rest_until = 0.0
    assert web("GET", "/api/v1/stats").json["total"] == 1
