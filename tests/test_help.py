"""Help is made from the table of commands, and what it says is true."""

from __future__ import annotations

import pytest

from queuectl import __version__
from queuectl.commands.grammar.specs import GLOBAL_OPTIONS
from queuectl.commands.table import COMMANDS


class TestHelp:
    def test_all_ways_to_ask_for_help_agree(self, cli):
        overview = cli.ok("help")
        assert cli.ok("-h") == cli.ok("--help") == overview
        page = cli.ok("help", "dlq", "retry")
        assert cli.ok("dlq", "retry", "--help") == page
        assert cli.ok("-h", "dlq", "retry", "nobody") == page
        assert cli.ok("help", "dlq-retry") == page
        assert page in cli.ok("help", "dlq")
        assert cli("list", "-h", stdin="lst\n").code == 0

    @pytest.mark.parametrize("spec", COMMANDS, ids=lambda spec: " ".join(spec.words))
    def test_every_command_has_a_page_within_80_columns(self, cli, spec):
        page = cli.ok("help", *spec.words)
        assert page.startswith(f"Usage: queuectl {' '.join(spec.words)}")
        assert max(map(len, page.splitlines())) <= 80
        assert spec.summary.endswith(".")
        assert 1 <= len(spec.examples) <= 3
        assert spec.summary in cli.ok("help")
        for param in (*spec.params, *GLOBAL_OPTIONS):
            assert param.help

    @pytest.mark.parametrize(
        "topic", ["exit-codes", "objects", "scripts", "shell", "settings", "fields", None]
    )
    def test_each_topic_fits_80_columns(self, cli, topic):
        page = cli.ok("help", *[topic] if topic else [])
        assert max(map(len, page.splitlines())) <= 80
        assert "\x1b" not in page

    @pytest.mark.parametrize(
        "example",
        [(spec, example) for spec in COMMANDS for example in spec.examples],
        ids=lambda example: example[1],
    )
    def test_every_example_runs(self, cli, example):
        """In a queue where the ids of the examples are in a state that fits."""
        spec, line = example
        if spec.words[0] in ("worker", "edit", "serve", "dashboard", "run", "copy"):
            line = line.replace(spec.words[-1], f"{spec.words[-1]} --help", 1)
        elif spec.words != ("enqueue",):
            _queue_for_examples(cli, dead=spec.words[0] in ("dlq", "retry", "logs"))
        if spec.words == ("resume",):
            cli.ok("pause")
            cli.ok("pause", "gpu")
        if spec.words == ("restore",):
            cli.ok("backup", "queue.jsonl")
        if spec.words == ("wait",):
            cli.ok("enqueue", "--tag", "nightly", "--", "true")
            line = line.replace(" --timeout 5m", "") + " --timeout 0"
        result = cli(stdin=f"{line}\n")
        assert result.code == 0 or "wait ended with exit code 124" in result.err, result

    @pytest.mark.parametrize("word", ["version", "--version", "-V"])
    def test_each_spelling_of_version_prints_it(self, cli, word):
        assert cli.ok(word) == f"queuectl {__version__}\n"


def _queue_for_examples(cli, *, dead):
    from queuectl.job_queue import JobQueue
    from queuectl.model.lifecycle import Outcome

    queue = JobQueue.open(cli.folder)
    ids = ("job1", "job2", "job3")
    queue.enqueue([{"id": job_id, "command": "true", "max_retries": 0} for job_id in ids])
    for _ in ids if dead else ():
        queue.settle(queue.claim("w"), Outcome("exited", 1, None, queue.now()))
    if not dead:
        job = queue.claim("w")
        queue.settle(job, Outcome("exited", 1, None, queue.now()))
        queue.retry(["job1"])
        queue.update("job1", {"max_retries": 3})
        job = queue.claim("w")
        queue.settle(job, Outcome("no_resources", None, "none", queue.now()))
    queue.close()
