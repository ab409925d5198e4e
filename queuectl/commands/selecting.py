"""Which jobs a command means: by ids, beginnings of ids, and options that select.

A command that changes jobs never takes a missing or empty option for "all jobs".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from queuectl.commands.context import Context
from queuectl.commands.params import SELECTORS
from queuectl.errors import InvalidInput, NoSuchJob, Reworded
from queuectl.model.fields import OLD_STATES, STATES
from queuectl.model.job import FINISHED, LIVE, Job
from queuectl.model.selection import Selection, selected

Which: TypeAlias = "list[str] | Selection"  # ids that must all exist, or a selection
# By command: the states that it can change, and those that it selects by default.
ABLE: dict[str, Collection[str]] = {
    "cancel": LIVE,
    "retry": [state for state in STATES if state != "in_progress"],
    "purge": FINISHED,
}
USUAL: dict[str, Collection[str]] = {
    "cancel": LIVE,
    "retry": ("failed", "dead"),
    "purge": ("completed", "cancelled"),
}
LEAST_PREFIX = 4  # letters with which an id may be abbreviated, if no other id begins like that
_FEW = 5  # ids named in a question


def selection_of(args: Mapping[str, Any], states: Collection[str] | None = None) -> Selection:
    """What the options select, without ids; `states`: the command's default.

    Raises InvalidInput if --since is later than --until.
    """
    wanted = args.get(_key("state", args)) or states
    since, until = args.get("since"), args.get("until")
    if since and until and since > until:
        raise InvalidInput(f"--since {since} is later than --until {until}: no job fits both")
    return Selection(
        states=None if wanted is None else frozenset(wanted),
        tags=frozenset(args.get(_key("tag", args)) or ()),
        match=args.get("match"),
        error=args.get("error"),
        exit_code=args.get("exit_code"),
        since=since,
        until=until,
        limit=args.get("limit"),
        recurring=bool(args.get("recurring")),
    )


def _key(name: str, args: Mapping[str, Any]) -> str:
    """The option that selects by state or tag; in `update` the usual names set the fields."""
    other = f"in_{name}" if name == "state" else f"with_{name}"
    return other if other in args else name


def selects(args: Mapping[str, Any]) -> bool:
    """Whether an option that selects jobs is given; a limit alone does not select."""
    names = [_key(param.key, args) for param in SELECTORS]
    return any(args.get(name) not in (None, [], False) for name in names)


def chosen(
    context: Context,
    args: Mapping[str, Any],
    command: str,
    allowed: Collection[str] = STATES,
    usual: Collection[str] | None = None,
) -> Which:
    """The jobs that a command will change: only ids, or a selection.

    `allowed`: the states that it can change. `usual`: those that it selects by default. Raises
    InvalidInput if nothing is named, NoSuchJob for an unknown id.
    """
    by = _key("state", args)
    for state in args.get(by) or ():
        if state not in allowed:
            able = ", ".join(name for name in STATES if name in allowed)
            raise InvalidInput(f"{command} selects jobs that are {able}, not {state}")
    ids = whole_ids(context, args["job"], changing=True, by=f"--{by.replace('_', '-')}")
    if not selects(args):
        if not ids:
            raise InvalidInput(f"{command} wants ids of jobs, or options that select some")
        return ids
    for job_id in ids:
        context.queue.get(job_id)
    selection = selection_of(args, usual or allowed)
    return selection._replace(ids=frozenset(ids)) if ids else selection


def listed_jobs(
    context: Context, args: Mapping[str, Any], states: Collection[str] | None = None
) -> Iterator[Job]:
    """The jobs that a command shows, in queue order; the command applies --limit itself."""
    selection = selection_of(args, states)._replace(limit=None)
    if args["job"]:
        ids = frozenset(whole_ids(context, args["job"]))
        selection = selection._replace(ids=ids)
    found = context.queue.find(selection.states)
    plain = selection._replace(states=None) == Selection()
    return found if plain else selected(found, selection)


def confirmed(context: Context, deed: str, which: Which, args: Mapping[str, Any]) -> Which | None:
    """The jobs to change, after asking a person if there are several; None for a no.

    Raises InvalidInput if there is nobody to ask.
    """
    if not isinstance(which, Selection):
        return which if context.agreed(deed, len(which), args) else None
    if args["yes"]:
        return which
    if not context.has_person:
        raise InvalidInput(
            "jobs are selected, not named, and nobody can be asked here: "
            "add --yes (--dry-run only shows them)"
        )
    ids = [job.id for job in context.queue.select(which)]
    if len(ids) > 1 and not context.confirm(f"{deed} {len(ids)} jobs ({named(ids)})?"):
        context.note("Nothing was changed.")
        return None
    # Only those that the person was asked about, even if others match by now.
    return which._replace(ids=frozenset(ids), limit=None)


def named(ids: Sequence[str]) -> str:
    """The first few of the ids."""
    return ", ".join(ids[:_FEW]) + ", ..." * (len(ids) > _FEW)


def whole_ids(
    context: Context, words: Sequence[str], *, changing: bool = False, by: str = "--state"
) -> list[str]:
    """The ids that are meant, each once; `by`: the option that selects by state, or "".

    A person may abbreviate an id. A script that changes jobs may not, because its id may be gone
    and another begin like that. Raises NoSuchJob for a word that does not name a job, InvalidInput
    for the beginning of several ids.
    """
    ids = []
    for word in dict.fromkeys(words):
        try:
            if changing and not context.has_person:
                if word in STATES:
                    context.queue.get(word)
                ids.append(word)
            else:
                ids.append(named_job(context, word).id)
        except NoSuchJob as exc:
            if by and (word in STATES or word in OLD_STATES):
                told = f"no job has the id '{word}'; to select by state: {by} {word}"
                raise Reworded(told, exc) from None
            if not changing:
                raise
            ids.append(word)  # the change itself reports which ids it cannot take, and why
    return list(dict.fromkeys(ids))


def named_job(context: Context, word: str) -> Job:
    """The job with that id or beginning; NoSuchJob, or InvalidInput for several."""
    try:
        return context.queue.get(word)
    except NoSuchJob:
        if len(word) < LEAST_PREFIX:
            raise
        found = [job for job in context.queue.find() if job.id.startswith(word)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise
        ids = named([job.id for job in found])
        raise InvalidInput(f"'{word}' begins the ids of {len(found)} jobs: {ids}") from None
