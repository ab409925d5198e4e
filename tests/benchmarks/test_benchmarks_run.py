"""The benchmarks themselves run, in a small form; what they measure is not asserted."""

from __future__ import annotations

import pytest

from tests.benchmarks import run


@pytest.mark.parametrize("name", run.ROWS)
def test_a_benchmark_runs(name, capsys):
    assert run.main([name, "--small"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert len(table) >= 3
    assert all(line.startswith("#") or "  " in line for line in table)


def test_an_unknown_name_is_refused(capsys):
    assert run.main(["speed"]) == 2
    assert "no benchmark named speed" in capsys.readouterr().err
