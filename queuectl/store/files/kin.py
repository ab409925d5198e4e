"""Jobs that wait for others, in the files: what a step means for them.

A worker knows from its index which jobs wait for a job that ends. Any other step finds jobs that
name others by the bytes of their lines, in one pass over the files; without such jobs that is all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from queuectl.model.dependencies import (
    Kin,
    asked_anew,
    check_new,
    concerns_others,
    goes_back,
    is_back,
    parent_state,
    parents,
    states_with,
)
from queuectl.model.job import Job
from queuectl.store.files.job_files import (
    NAMES_OTHERS,
    decode_job,
    encode_job,
    line_id,
    line_state,
    lines_with,
    read_lines_with,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.model.dependencies import Pair
    from queuectl.store.files.journal import Journal
    from queuectl.store.files.live_index import LiveIndex
    from queuectl.store.files.own_files import OwnFiles
    from queuectl.store.files.staged import Staged
    from queuectl.store.files.writer import Move, Writer


def with_parents(files: OwnFiles, journal: Journal) -> dict[str, Job]:
    """All jobs that name others, in any state, by id."""
    newer = {line_id(line) for line in lines_with(journal.text(), (NAMES_OTHERS,))}
    lines: dict[bytes, bytes] = {}
    for which in range(2):
        with files.open(journal, which) as own:
            found = read_lines_with(own.fd, (NAMES_OTHERS,))
            lines |= {line_id(line): line for line in found}
    if lines or newer:
        # The newest line of a job may name no other any more, or be a removal.
        lines |= {
            line_id(line): line
            for line in journal.all_lines()
            if line_id(line) in newer or line_id(line) in lines
        }
    jobs = (decode_job(line) for line in lines.values() if NAMES_OTHERS in line)
    return {job.id: job for job in jobs}


def _states(writer: Writer, journal: Journal, ids: Collection[str]) -> dict[str, str]:
    """The states, as parents, of those of the jobs that exist."""
    found = writer.look_up(journal, ids) if ids else {}
    return {job_id: _state(line) for job_id, (line, _) in found.items()}


def _state(line: bytes) -> str:
    if b', "every": ' in line or b', "cron": ' in line:
        return parent_state(decode_job(line))
    return (line_state(line) or b"").decode()


def consequences(
    writer: Writer, journal: Journal, pairs: Sequence[Pair], now: str, *, alone: bool = False
) -> tuple[list[Pair], int]:
    """What else happens in a step that changes these jobs, and the number of jobs that it frees.

    Raises what `check_new` raises for jobs that are to wait for others.
    """
    if not concerns_others(pairs):
        return [], 0
    asked = asked_anew(pairs)
    live = writer.known_live
    if live is not None and not asked and not any(is_back(*pair) for pair in pairs):
        kin = _kin_in(writer, journal, live, pairs)
        return kin.consequences(pairs, now), 0  # the index itself counts the freed jobs
    known = with_parents(writer.files, journal)
    named = {name for job in (*known.values(), *asked.values()) for name in parents(job)}
    states = _states(writer, journal, named)
    kin = Kin.among(known.values(), states.get)
    more = kin.consequences(pairs, now, alone=alone)
    changed = {new.id: new for _, new in (*pairs, *more)}
    new_states = states_with(changed, states.get)
    check_new(asked_anew((*pairs, *more)), {**known, **changed}.get, new_states)
    return more, len(kin.freed([*pairs, *more]))


def fall(
    writer: Writer,
    journal: Journal,
    live: LiveIndex,
    ended: Pair,
    now: str,
    lines: list[bytes],
    moves: list[Move],
) -> list[Pair]:
    """What falls with the end of a run. The index knows the end already and learns of the falls.

    The falls are added to the `lines` and `moves` of the step.
    """
    if not concerns_others((ended,)):
        return []
    found = _kin_in(writer, journal, live, (ended,)).consequences((ended,), now)
    for old, new in found:
        lines.append(encode_job(new))
        moves.append((old.state, new.state))
        live.put(lines[-1])
    return found


def _kin_in(writer: Writer, journal: Journal, live: LiveIndex, pairs: Sequence[Pair]) -> Kin:
    """The kin from the index of live jobs, for a step that brings no job back."""
    waiting = (new for old, new in pairs if goes_back(old, new))
    states = _states(writer, journal, {name for job in waiting for name in job.after})
    seen: dict[str, Job] = {}  # a child of ten thousand jobs that fall is looked up as often

    def kids_of(parent: str) -> Iterator[Job]:
        waits = live.waits
        ids = [kid.decode() for kid in waits.kids.get(parent.encode(), ())] if waits else []
        found = writer.look_up(journal, [name for name in ids if name not in seen])
        seen.update((name, decode_job(line)) for name, (line, _) in found.items())
        yield from (seen[name] for name in ids if name in seen)

    return Kin(kids_of, states.get)


def check_added(
    writer: Writer, journal: Journal, staged: Staged, ids: Collection[str], meets: bool
) -> None:
    """Check what new jobs wait for; raises what `check_new` raises.

    `ids`: those that people gave them; `meets`: they may replace other jobs.
    """
    naming = (line for line in staged if NAMES_OTHERS in line)
    new = {job.id: job for job in map(decode_job, naming) if parents(job)}
    if not new:
        return
    named = {name for job in new.values() for name in parents(job)}
    own = {job_id: _state(line) for line in staged if (job_id := line_id(line).decode()) in named}
    states = _states(writer, journal, named.difference(own)) | own
    # Only a job of the same batch can wait for a job with a new id.
    known = with_parents(writer.files, journal) if meets or not new.keys().isdisjoint(ids) else {}
    check_new(new, known.get, states.get)
