"""The rules of safety, a case each: what a foreign page, a rebound name or a guesser can do."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import stat
from pathlib import Path

import pytest

import queuectl.web

pytest.importorskip("starlette", reason="the extra is missing: pip install -e '.[web]'")

from queuectl.web.app import MOST_CONNECTIONS
from queuectl.web.exchange import Refused
from queuectl.web.guard import Door, read_body
from queuectl.web.server import idle_since
from queuectl.web.streams import MOST_STREAMS
from queuectl.web.tokens import Desk, Tokens
from tests.web.served import FULL, HOST, READ, every_route, filled

EVIL = "http://evil.test"
CHANGES = [
    route for route in every_route() if route.right == "full" and route.name != "getVariables"
]
JOB = {"command": "true", "id": "job1"}


def test_1_and_2_no_token_is_for_this_machine_alone(cli):
    told = cli("serve", "--no-token", "--host", "0.0.0.0", "--allow-root", "--port", "0")
    assert (told.code, "--no-token" in told.err) == (2, True)


def test_2_tokens_lie_in_files_of_ones_own_and_can_be_renewed(tmp_path):
    desk = Desk("/some/queue", {"XDG_STATE_HOME": str(tmp_path)})
    tokens = desk.tokens()
    assert set(tokens) == {"full", "read"}
    assert len(tokens["full"]) >= 43
    assert stat.S_IMODE(os.stat(desk.file("full")).st_mode) == 0o600
    assert Path(desk.file("full")).read_text() == f"Authorization: Bearer {tokens['full']}\n"
    os.chmod(desk.file("full"), 0o644)
    assert desk.tokens() == tokens
    assert stat.S_IMODE(os.stat(desk.file("full")).st_mode) == 0o600
    assert not set(desk.tokens(anew=True).values()) & set(tokens.values())
    for name in ("full", "served"):  # a pipe in its place does not make us wait
        Path(desk.file(name)).unlink(missing_ok=True)
        os.mkfifo(desk.file(name))
    assert desk.tokens()["full"] != tokens["full"]
    assert desk.served() is None
    assert Desk("/another", {"XDG_STATE_HOME": str(tmp_path)}).file("full") != desk.file("full")


@pytest.mark.parametrize("route", every_route(), ids=lambda route: route.name)
def test_3_and_15_every_route_against_every_token(web, route):
    """Without a token only what is open answers; with the read token nothing can be changed."""
    target = filled(route.path)
    for token, refused in ((None, 401), ("x" * 43, 401), (READ, 403)):
        status = web(
            route.method, target + "?timeout=0" * (route.name == "events"), token=token
        ).status
        if not route.right or (token == READ and route.right == "read"):
            assert status not in (401, 403), token
        else:
            assert status == refused, token
    assert web.log == []


def test_3_a_token_in_the_query_or_a_cookie_opens_nothing(web):
    assert web("GET", f"/api/v1/status?token={FULL}", token=None).status == 401
    assert web("GET", "/api/v1/status", token=None, cookie=f"token={FULL}").status == 401
    assert not any(FULL in line for line in web.log)


def test_5_wrong_tokens_are_told_so_and_soon_slowed_down(web):
    for header in ("", "Bearer", f"Basic {FULL}", f"Bearer {FULL[:-1]}", f"Bearer {FULL} x"):
        told = web("GET", "/status", token=None, authorization=header)
        assert told.status == 401
        assert told.headers["www-authenticate"].startswith("Bearer")
    statuses = [web("GET", "/status", token="wrong").status for _ in range(10)]
    assert statuses[-1] == 429
    assert web("GET", "/status").status == 200
    assert Tokens({"full": FULL}).right_of(f"bearer {FULL}") == "full"


@pytest.mark.parametrize(
    ("client", "proxy", "told"),
    [
        ("127.0.0.1", "", True),
        ("::1", "", True),
        ("10.0.0.8", "", False),
        ("127.0.0.1", "127.0.0.1", False),
    ],
)
def test_3_where_the_token_lies_is_told_on_this_machine_alone(serve_it, client, proxy, told):
    web = serve_it(door=Door(8000, "0.0.0.0", proxy=proxy))
    refused = web("GET", "/status", token=None, client=client)
    assert (refused.status, "@FILE" in refused.json["detail"]) == (401, told)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (HOST, 200),
        ("localhost:8000", 200),
        ("LocalHost:8000", 200),
        ("[::1]:8000", 200),
        ("127.9.9.9:8000", 200),
        ("evil.test:8000", 403),
        ("evil.test", 403),
        ("127.0.0.1", 403),
        ("127.0.0.1:8001", 403),
        ("127.0.0.256:8000", 403),
        ("127.0.0.1:8000@evil.test", 403),
        ("127.0.0.1.evil.test:8000", 403),
        ("localhost.:8000", 403),
        ("", 403),
    ],
)
def test_6_only_this_servers_own_names_are_answered(web, host, status):
    assert web("GET", "/healthz", host=host).status == status


@pytest.mark.parametrize(
    "twice",
    [
        ("origin", EVIL, f"http://{HOST}"),
        ("sec-fetch-site", "cross-site", "same-origin"),
        ("content-type", "text/plain", "application/json"),
        ("authorization", "Bearer x", f"Bearer {FULL}"),
        ("content-length", "1", str(len(json.dumps(JOB)))),
    ],
    ids=lambda twice: twice[0],
)
def test_8_and_10_of_two_headers_none_is_believed(web, twice):
    name, *values = twice
    for order in (values, values[::-1]):
        how = {name.replace("-", "_"): None}  # not the usual one
        told = web("POST", "/enqueue", JOB, headers=[(name, value) for value in order], **how)
        assert (told.status, name in told.json["detail"]) == (400, True)
    assert web("GET", "/list").json == []


def test_6_no_host_and_two_hosts_are_refused_and_names_can_be_given(web, serve_it):
    assert web("GET", "/healthz", host=None).status == 403
    assert web("GET", "/healthz", headers=[("host", HOST)]).status == 403
    named = serve_it(door=Door(8000, "10.0.0.7", ("queue.lan", "other.lan:443")))
    for host, status in {
        "queue.lan:8000": 200,
        "QUEUE.lan": 200,
        "other.lan:443": 200,
        "10.0.0.7:8000": 200,
        "other.lan:8000": 403,
        "queue.lan:1": 403,
    }.items():
        assert named("GET", "/healthz", host=host).status == status, host


def test_6_a_name_that_is_none_lets_nobody_in(cli, serve_it):
    for option, value in (("--name", "http://x/"), ("--name", "a b"), ("--proxy", "lan")):
        told = cli("serve", "--allow-root", "--port", "0", option, value)
        assert (told.code, f"{option} must be" in told.err) == (2, True), value
    web = serve_it(door=Door(8000, "127.0.0.1", ("a b",)))
    assert web("GET", "/healthz", host="x y").status == 403
    assert web("GET", "/healthz", origin="http://evil.test/").status == 403


def test_7_an_origin_that_equals_a_rebound_host_proves_nothing(web):
    told = web("POST", "/enqueue", JOB, host="evil.test:8000", origin="http://evil.test:8000")
    assert told.status == 403
    assert web("GET", "/list").json == []


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": EVIL},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9000"},  # another port of this machine
        {"origin": "https://127.0.0.1:8000"},
        {"origin": "http://[::1"},  # which no parser of addresses takes
        {"origin": "http://127.0.0.1:8000/"},
        {"origin": "http://x@127.0.0.1:8000"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},  # which a page on another port is
        {"sec_fetch_site": "none"},
        {"sec_fetch_site": "nonsense"},
    ],
    ids=str,
)
def test_8_what_a_foreign_page_sends_is_refused(web, headers):
    assert web("POST", "/enqueue", JOB, **headers).status == 403
    assert web("POST", "/api/v1/jobs", JOB, **headers).status == 403
    assert web("GET", "/list").json == []


def test_8_the_page_itself_and_a_typed_address_are_answered(web):
    own = {"origin": f"http://{HOST}", "sec_fetch_site": "same-origin"}
    assert web("POST", "/enqueue", JOB, **own).status == 200
    typed = {"sec_fetch_site": "none", "sec_fetch_mode": "navigate"}
    assert web("GET", "/healthz", token=None, **typed).status == 200


@pytest.mark.parametrize("action", ["start", "stop"])
@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"},
        {"sec_fetch_site": "none", "sec_fetch_mode": "navigate"},
        {"sec_fetch_site": "same-origin", "sec_fetch_mode": "navigate"},
        {"sec_fetch_site": "same-origin", "sec_purpose": "prefetch"},
    ],
    ids=["image", "typed link", "link", "prefetch"],
)
def test_9_a_get_that_acts_is_not_a_link(serve_it, action, headers):
    web = serve_it(tokens=None)  # without tokens too
    told = web("GET", f"/worker/{action}", **headers)
    assert told.status == 403
    if headers.get("sec_fetch_mode") == "navigate":
        assert "curl" in told.json["detail"]
        assert "button" in told.json["detail"]
    assert web("HEAD", f"/worker/{action}").status == 405
    assert web("GET", "/api/v1/workers").json["items"] == []


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "blob"])
def test_10_a_body_is_json_and_says_so(web, kind):
    for method, path in (("POST", "/enqueue"), ("PUT", "/update"), ("POST", "/api/v1/jobs")):
        assert web(method, path, JOB, content_type=kind).status == 415
    assert web("GET", "/list").json == []


def test_11_to_13_every_answer_has_the_headers_and_none_of_cors(web):
    answers = [
        (web(route.method, filled(route.path)), route)
        for route in every_route()
        if not route.acts and route.kind != "stream"
    ]
    answers += [
        (web("OPTIONS", "/api/v1/jobs", origin=f"http://{HOST}"), None),
        (web("GET", "/nothing"), None),
        (web("GET", "/status", host="evil.test"), None),
    ]
    for reply, route in answers:
        headers = reply.headers
        assert not [name for name in headers if name.startswith("access-control")]
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers
        if route is None or route.kind != "page":
            assert headers["cache-control"] == "no-store"


def test_15_and_21_a_log_is_text_and_its_path_comes_from_the_store(web, cli, wait_until):
    octal = "".join(f"\\{number:03o}" for number in range(256))
    cli.ok("enqueue", "--id", "job1", "--command", f"printf '{octal}'")
    cli.ok("worker", "run", "--drain")
    told = web("GET", "/api/v1/jobs/job1/logs")
    assert told.headers["content-type"] == "text/plain; charset=utf-8"
    assert told.data == bytes(range(256))
    for path in (
        "..",
        "%2e%2e",
        "%2e%2e%2fjobs.json",
        "%00",
        "/",
        "job1%00",
        "job1%0d%0aX: y",
        "-x",
    ):
        assert web("GET", f"/api/v1/jobs/{path}/logs").status == 404, path
    for path in ("/page/../tokens.py", "/page/%2e%2e/app.py", "//", "/page/", "/page/no.js"):
        assert web("GET", path).status == 404, path


def test_16_and_17_read_only_refuses_every_change_and_says_so(serve_it):
    web = serve_it(read_only=True)
    for route in CHANGES:
        told = web(route.method, filled(route.path))
        assert told.status == 403, route.name
        assert "read-only" in told.json["detail"]
    assert web("GET", "/api/v1/access").json["may"] == ["read"]
    assert web.log == []


def test_18_values_of_variables_are_shown_one_job_at_a_time_to_the_full_right(web):
    web("POST", "/api/v1/jobs", {**JOB, "env": {"API_TOKEN": "hunter2"}})
    shown = [
        web("GET", "/list"),
        web("GET", "/api/v1/jobs?fields=env"),
        web("GET", "/api/v1/jobs/job1"),
        web("POST", "/api/v1/jobs/job1/cancel"),
    ]
    for reply in shown:
        assert b"hunter2" not in reply.data
    assert web("GET", "/api/v1/jobs/job1").json["env"] == {"API_TOKEN": "***"}
    assert web("GET", "/api/v1/jobs/job1/env", token=READ).status == 403
    assert web("GET", "/api/v1/jobs/job1/env").json["env"] == {"API_TOKEN": "hunter2"}


def test_19_what_is_too_large_is_refused_with_its_code(web):
    large = b'{"command": "' + b"x" * (1 << 20) + b'"}'
    assert web("POST", "/api/v1/jobs", raw=large).status == 413
    assert (
        web(
            "POST", "/api/v1/jobs", raw=large, content_length=None, transfer_encoding="chunked"
        ).status
        == 413
    )
    assert web("POST", "/api/v1/jobs", JOB, transfer_encoding="chunked").status == 400  # two sizes
    # What is too large is not read on in; but a small body is, or its answer could be lost.
    assert web("POST", "/api/v1/jobs", raw=large, token=None).headers["connection"] == "close"
    assert "connection" not in web("POST", "/api/v1/jobs", raw=b"{}", token=None).headers
    assert web("GET", "/api/v1/jobs?q=" + "a" * 5000).status == 414
    assert web("GET", "/api/v1/jobs?limit=201").status == 400
    assert web("GET", "/api/v1/jobs?limit=0").status == 400
    assert web("GET", "/api/v1/jobs/job1/logs?limit=1048577").status == 400
    assert web("GET", "/api/v1/jobs?wait=61").status == 400
    web.app.streams._open = MOST_STREAMS
    told = web("GET", "/api/v1/events")
    assert (told.status, told.headers["retry-after"]) == (503, "5")


def test_19_and_26_where_too_many_connections_are_open_each_is_told_so(web):
    web.app.connections = range(MOST_CONNECTIONS)
    assert web("GET", "/healthz").status == 200
    web.app.connections = range(MOST_CONNECTIONS + 1)
    told = web("GET", "/api/v1/status")
    assert (told.status, told.headers["retry-after"]) == (503, "5")
    assert (told.headers["connection"], "server" in told.headers) == ("close", False)


def test_19_who_is_slow_holds_up_nobody(web, monkeypatch):
    class Connection:
        def __init__(self, cycle):
            self.cycle = cycle

    class Cycle:
        response_complete = True

    async def never():
        await asyncio.sleep(60)

    monkeypatch.setattr("queuectl.web.guard.LONGEST_BODY", 0.05)
    with pytest.raises(Refused, match="did not come within"):
        asyncio.run(read_body(never))
    fresh, kept, streams = Connection(None), Connection(Cycle()), Connection(Cycle())
    streams.cycle.response_complete = False
    seen = idle_since([fresh, kept, streams], {}, 1.0)
    assert seen == {fresh: (None, 1.0), kept: (kept.cycle, 1.0)}
    kept.cycle = Cycle()  # another request was answered
    assert idle_since([fresh, kept], seen, 9.0) == {fresh: (None, 1.0), kept: (kept.cycle, 9.0)}


def test_20_nothing_of_a_user_is_a_pattern_or_goes_into_a_header(web):
    web("POST", "/api/v1/jobs", {"command": "a" * 60_000, "id": "long"})
    assert web("GET", "/api/v1/jobs?q=(a%2B)%2B%24").json["total"] == 0
    assert web("GET", "/api/v1/jobs?q=AAA").json["total"] == 1
    told = web("GET", "/api/v1/jobs?q=%0d%0aX-Evil%3a%201&limit=1")
    assert "x-evil" not in told.headers
    for given in ("a\r\nx: y", "<b>", "x" * 65):
        assert web("GET", "/healthz", x_request_id=given).headers["x-request-id"] != given
    assert web("GET", "/healthz", x_request_id="abc-1").headers["x-request-id"] == "abc-1"


def test_22_forwarded_headers_are_believed_of_the_proxy_alone(serve_it):
    given = {"x_forwarded_for": "6.6.6.6", "x_forwarded_host": "evil.test"}
    for door, told in ((Door(8000), "127.0.0.1"), (Door(8000, proxy="127.0.0.1"), "6.6.6.6")):
        web = serve_it(door=door)
        web("POST", "/api/v1/jobs", {"command": "true"}, **given)
        assert f"full token, {told}:" in web.log[0]


def test_24_each_change_is_a_line_without_body_or_token(web):
    web("POST", "/api/v1/jobs", {**JOB, "command": "echo my-secret"})
    web("POST", "/dlq/retry?job_id=job1")  # refused: nothing is told
    web("POST", "/api/v1/jobs/job1/cancel")
    [first, second] = web.log
    assert re.fullmatch(r"20\S+Z full token, 127\.0\.0\.1: POST /api/v1/jobs: enqueued job1", first)
    assert second.endswith("POST /api/v1/jobs/job1/cancel: cancelled job1")
    assert "my-secret" not in first + second
    assert FULL not in first + second


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
def test_25_root_is_refused_unless_it_insists(cli):
    told = cli("serve", "--port", "0")
    assert (told.code, "--allow-root" in told.err) == (2, True)


def test_26_a_socket_is_this_users_alone_and_asks_for_no_token(tmp_path, web):
    from queuectl.web.server import listen_at

    path = str(tmp_path / "page.sock")
    listening = listen_at(path)
    try:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    finally:
        listening.close()
    again = listen_at(path)  # what nobody listens at any more is replaced
    again.close()
    os.unlink(path)
    Path(path).write_text("mine")
    with pytest.raises(queuectl.errors.StoreError, match="not a socket"):
        listen_at(path)
    assert web("GET", "/api/v1/status", token=None, local=True, host="any").status == 200
    assert isinstance(listening, socket.socket)


def test_14_and_23_no_text_becomes_markup_and_nothing_foreign_is_loaded():
    folder = Path(queuectl.web.__file__).parent / "page"
    for path in folder.iterdir():
        text = path.read_text()
        for found in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "javascript:",
            "srcdoc",
        ):
            assert found not in text, f"{path.name}: {found}"
        foreign = re.findall(r"https?://[^\s\"'`)]+", text)
        assert set(foreign) <= {"http://www.w3.org/2000/svg"}, path.name
        if path.suffix == ".html":
            assert not re.search(r"\s(on\w+|style)=", text)
            assert not re.search(r"<script(?![^>]*\bsrc=)", text)
            assert "<style" not in text


def test_an_error_inside_tells_nothing_of_our_insides(web, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("secret path /x/y")

    monkeypatch.setattr(web.service.operations, "form", fail)
    told = web("GET", "/api/v1/status")
    assert told.status == 500
    assert b"secret" not in told.data
    assert "RuntimeError" in web.log[0]
    assert json.loads(told.data)["code"] == "internal_server_error"
