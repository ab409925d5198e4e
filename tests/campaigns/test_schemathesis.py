"""A short search for what the API does and its document does not say; see tests/web."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette", reason="the extra is missing: pip install -e '.[web]'")
pytest.importorskip("cronsim", reason="the extra is missing: pip install -e '.[cron]'")

from tests.web import schemathesis_run


@pytest.mark.skipif(bool(schemathesis_run.missing()), reason=schemathesis_run.missing())
@pytest.mark.timeout(400)
def test_the_api_does_what_its_document_says(capfd):
    code = schemathesis_run.run(seed=21, examples=3, phases="examples,fuzzing,stateful")
    assert code == 0, capfd.readouterr().out
