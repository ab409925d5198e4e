"""`python -m queuectl.worker --data DIR`: a detached worker, as `worker start` starts it."""

from __future__ import annotations

from queuectl.worker.aside import aside


def _load() -> None:
    import ctypes  # noqa: F401  # processes.py needs it before the first run

    import filelock  # noqa: F401

    import queuectl.job_queue
    import queuectl.worker.entry  # noqa: F401


if __name__ == "__main__":
    aside(_load)  # loading takes as long as a hundred claims
    from queuectl.worker.entry import main

    raise SystemExit(main())
