"""What enqueuing jobs would result in, as far as other jobs decide it; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from queuectl.errors import DuplicateId, InvalidInput
from queuectl.model.dependencies import check_new, parents, states_with
from queuectl.model.job import LIVE, Job, refuse_key


def rehearse(
    new: Sequence[Job],
    there: Mapping[str, Job],
    where: str,
    meet: Callable[[int, Job, Sequence[Job]], Job | None] | None,
    check_size: Callable[[Job], None],
) -> None:
    """Raise what a store's `add` would; `there`: the jobs that `related` returned."""
    after, holders = dict(there), dict[str, dict[str, Job]]()
    for job in there.values():
        if job.unique is not None and job.state in LIVE:
            holders.setdefault(job.unique, {})[job.id] = job
    for index, job in enumerate(new):
        try:
            check_size(job)
        except InvalidInput as exc:
            exc.index = index
            raise
        if job.id in there and meet is None:
            raise DuplicateId(job.id, where, index)
        live = holders.setdefault(job.unique, {}) if job.unique is not None else {}
        others = [there[job.id]] if job.id in there else []
        others += [other for other in live.values() if other.id != job.id]
        if meet is None:
            refuse_key(job, others, index)
        found = meet(index, job, others) if others and meet is not None else job
        if found is not None:
            after[found.id] = live[found.id] = found
    kin = {job.id: job for job in after.values() if job is not there.get(job.id) and parents(job)}
    check_new(kin, after.get, states_with(after, lambda _: None))


def related(
    new: Sequence[Job], named: Iterable[str], find: Callable[[], Iterable[Job]]
) -> dict[str, Job]:
    """The jobs, by id, that may stand in the way of new jobs whose ids are named."""
    keys = {job.unique for job in new if job.unique is not None}
    ids = {*named, *(name for job in new for name in parents(job))}
    if not keys and not ids:
        return {}
    return {
        job.id: job
        for job in find()
        if job.id in ids or (job.unique in keys and job.state in LIVE) or parents(job)
    }
