"""Answers to the words of other tools, and which command may be offered for a word that is none.

Loaded only for a line that is at fault. Every command line that is told can be run as it stands,
once the words in capitals are filled in.
"""

from __future__ import annotations

from queuectl.errors import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_STOPS = (("cancel ID", "stops a job"), ("purge", "forgets ended ones"))
_HANDS_IN = (("enqueue -- COMMAND", "hands in a job"),)
_JOBS = (("list", "shows the jobs"), ("worker list", "what runs them"))
_OUTPUT = (("logs ID", "shows a job's output"), ("logs ID --follow", "as it comes"))
_WORKERS = (("worker list", "shows the workers"), ("worker scale N", "has so many run"))
_FORGETS_DEAD = (("dlq purge --all", "forgets the dead jobs"),)
_SETTINGS = (("config get", "shows the settings"), ("config set NAME VALUE", "changes one"))
# A word that is not a command -> command lines, each with what it does. A word of a group stands
# behind its group.
ANSWERS: dict[str, tuple[tuple[str, str], ...]] = {
    **dict.fromkeys(("add", "create", "exec", "new", "push", "put", "queue", "submit"), _HANDS_IN),
    **dict.fromkeys(("clean", "clear", "delete", "rm", "remove"), _STOPS),
    **dict.fromkeys(("jobs", "ls", "ps"), _JOBS),
    **dict.fromkeys(("cat", "follow", "log", "output", "tail"), _OUTPUT),
    **dict.fromkeys(("for", "while", "xargs"), (("enqueue --file FILE", "hands in many jobs"),)),
    "workers": _WORKERS,
    **dict.fromkeys(("set", "settings"), _SETTINGS),
    "?": (("help", "lists the commands"), ("help COMMAND", "explains one")),
    **dict.fromkeys(
        ("abort", "kill"),
        (("cancel ID", "stops a job"), ("worker stop --now", "stops the workers at once")),
    ),
    "cd": (("enqueue --cwd DIR -- COMMAND", "runs a job in another folder"),),
    "count": (("status", "counts the jobs in each state"),),
    "dead": (("dlq list", "shows the dead jobs"),),
    "failed": (("list --state failed,dead", "shows the jobs that failed"),),
    "get": (("show ID", "shows a job"), ("config get NAME", "a setting")),
    "history": (("show ID", "tells what became of a job"), ("list", "shows all of them")),
    "info": (("show ID", "shows a job"), ("status", "counts them")),
    "monitor": (("top", "shows jobs and workers as they change"),),
    "requeue": (("retry ID", "runs a job again"),),
    "reset": (("retry ID", "runs a job again"), ("config unset NAME", "resets a setting")),
    "restart": (
        ("retry ID", "runs a job again"),
        ("worker stop", "and then 'worker start' begin with fresh workers"),
    ),
    "shutdown": (("worker stop", "stops the workers; there is no server"),),
    "start": (("worker start", "starts a worker"), ("retry ID", "runs a job again")),
    "stop": (("worker stop", "stops the workers"), ("cancel ID", "stops a job")),
    **dict.fromkeys(("worker ls", "worker ps", "worker status"), _WORKERS[:1]),
    "worker kill": (("worker stop --now", "stops the workers at once"),),
    "worker restart": (("worker stop", "and then 'worker start' begin with fresh workers"),),
    **dict.fromkeys(("dlq clear", "dlq delete", "dlq remove"), _FORGETS_DEAD),
    "dlq show": (("show ID", "shows a job"), ("dlq list", "all dead ones")),
    **dict.fromkeys(("config list", "config show"), _SETTINGS[:1]),
}
# Commands that a later version has, with what does nearly the same today.
NOT_YET: dict[str, tuple[tuple[str, str], ...]] = {
    "worker install": (("worker start", "starts a worker that outlives the terminal"),),
    "worker uninstall": (("worker stop", "stops the workers"),),
}
# Options that a command does not have, with what does it.
OPTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "retry --all": (
        ("dlq retry --all", "retries the dead jobs"),
        ("retry --state STATE", "all that are in a state"),
    ),
    "cancel --all": (("cancel --state STATE", "cancels all that are in a state"),),
    "dlq retry --state": (("dlq retry --all", "retries every dead job"),),
    "list --filter": (("list --match TEXT", "shows the jobs that hold a text"),),
}
# Commands that end or remove something are offered only for a word that is nearly theirs.
_DESTROYING = frozenset(("cancel", "purge", "restore", "stop", "unset"))
_NEARLY = 0.8


def answer(words: str) -> str:
    """What to say to words that are not a command; "" if nothing is known of them."""
    lines = ANSWERS.get(words) or NOT_YET.get(words)
    if lines is None:
        return ""
    told = ", ".join(f"'{line}' {does}" for line, does in lines)
    if words in NOT_YET:
        return f"'{words}' is not supported by this version; {told}"
    return f"unknown command '{words}': {told}"


def option_answer(words: str) -> str:
    """What to say, behind its name, to an option that a command does not have; "" if nothing."""
    return ", ".join(f"'{line}' {does}" for line, does in OPTIONS.get(words, ()))


def nearest_command(word: str, commands: Collection[str]) -> str:
    """The command that was most likely meant, or an empty text."""
    near = nearest(word, commands)
    if near not in _DESTROYING:
        return near
    import difflib

    alike = difflib.SequenceMatcher(None, word, near).ratio() >= _NEARLY
    return near if alike else nearest(word, [name for name in commands if name not in _DESTROYING])
