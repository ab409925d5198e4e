"""Answers to the words of other tools, and the command to suggest for an unknown word.

Loaded only for a faulty line. Every suggested command line can be run as it is, once the words in
capitals are filled in.
"""

from __future__ import annotations

from collections.abc import Collection

from queuectl.config import SETTINGS
from queuectl.errors import nearest
from queuectl.model.fields import OLD_STATES, STATES

_STOPS = (("cancel ID", "stops a job"), ("purge", "removes ended ones"))
_KILLS = (("cancel ID", "stops a job"), ("worker stop --now", "stops the workers at once"))
_HANDS_IN = (("enqueue -- COMMAND", "enqueues a job"),)
_MANY = (("enqueue --file FILE", "enqueues many jobs"), ("help each", "explains tables and lists"))
_TAKES_IN = (("enqueue --file FILE", "enqueues many jobs"), ("restore FILE", "reads a backup"))
_AGAIN_AND_AGAIN = (("enqueue --every 15m -- COMMAND", "makes a schedule"),)
_LATER = (("enqueue --run-at 18:30 -- COMMAND", "runs a job later"),)
_JOBS = (("list", "shows the jobs"), ("worker list", "what runs them"))
_ONE_JOB = (("show ID", "shows a job"), ("logs ID", "its output"))
_FOUND = (("list --match TEXT", "shows the jobs that contain a text"),)
_OUTPUT = (("logs ID", "shows a job's output"), ("logs ID --follow", "as it comes"))
_CHANGES = (("update ID --priority N", "changes a field of a job"), ("edit ID", "several"))
_RETRIES = (("retry ID", "runs a job again"), ("dlq retry --all", "all that are dead"))
_PAUSES = (("pause", "lets no job start"), ("resume", "ends that"))
_RESUMES = (("resume", "lets jobs start again after a pause"),)
_SCALES = ("worker scale N", "starts or stops workers until N run")
_WORKERS = (("worker list", "shows the workers"), _SCALES)
_STARTS = (("worker start", "starts a worker in the background; there is no server"),)
_ENDS = (("worker stop", "stops the workers; there is no server"),)
_AFRESH = ("worker stop", "and then 'worker start' begin with fresh workers")
_SETTINGS = (("config get", "shows the settings"), ("config set NAME VALUE", "changes one"))
_DEFAULTS = (("config unset NAME", "puts a setting back to its default"),)
_COPIES = (("backup FILE", "copies the queue into a file"), ("list --json", "prints the jobs"))
_FAILED = (
    ("list --state failed,dead", "shows the jobs that failed"),
    ("dlq list --by error", "counts what jobs died of"),
)
_HOOKS = (("config set on-dead COMMAND", "runs it for each job that dies"), ("help hooks", "more"))
_CHECKS = (("doctor", "checks the queue's folder"), ("status", "says whether all is well"))
_COUNTS = (("status", "counts the jobs in each state"), ("stats", "shows how they went"))
_HELP = (("help", "lists the commands"), ("help COMMAND", "explains one"))


def _each(words: str, lines: tuple[tuple[str, str], ...]) -> dict[str, tuple[tuple[str, str], ...]]:
    return dict.fromkeys(words.split(), lines)


def _behind(
    group: str, words: str, lines: tuple[tuple[str, str], ...]
) -> dict[str, tuple[tuple[str, str], ...]]:
    return {f"{group} {word}": lines for word in words.split()}


# A word that is not a command -> command lines, each with what it does. A word of a group follows
# its group.
ANSWERS: dict[str, tuple[tuple[str, str], ...]] = {
    **_each("add background batch bg create exec new push put queue send spawn submit", _HANDS_IN),
    **_each("at defer delay later", _LATER),
    **_each("cron crontab every recur repeat schedule", _AGAIN_AND_AGAIN),
    **_each("for foreach map while xargs", _MANY),
    **_each("import load", _TAKES_IN),
    **_each("clean cleanup clear delete destroy drop empty erase flush", _STOPS),
    **_each("gc prune remove rm tidy trash vacuum wipe", _STOPS),
    **_each("abort kill killall terminate", _KILLS),
    **_each("atrm", _STOPS[:1]),
    **_each("atq job jobs ls ps task tasks", _JOBS),
    **_each("describe detail details inspect open print view", _ONE_JOB),
    **_each("filter find grep query search select", _FOUND),
    **_each("attach cat fg follow fq log output stdout tail", _OUTPUT),
    **_each("alter change modify move mv prio priority rename renice reorder switch", _CHANGES),
    **_each("again redo replay requeue rerun resubmit", _RETRIES),
    **_each("block disable freeze hold stash suspend", _PAUSES),
    **_each("continue enable release thaw unblock unfreeze unhold unpause unsuspend", _RESUMES),
    **_each("workers", _WORKERS),
    **_each("daemon launch server up", _STARTS),
    **_each("down shutdown", _ENDS),
    **_each("set setting settings", _SETTINGS),
    **_each("dump export save snapshot", _COPIES),
    **_each("check fix fsck health healthcheck lint repair validate verify", _CHECKS),
    **_each("count counts overview report summary total", _COUNTS),
    **_each("? bye commands exit h man quit usage", _HELP),
    "cd": (("enqueue --cwd DIR -- COMMAND", "runs a job in another folder"),),
    "dead": (("dlq list", "shows the dead jobs"),),
    "drain": (("worker run --drain", "works until nothing is left to do"),),
    **_each("error errors failed failures", _FAILED),
    "get": (("show ID", "shows a job"), ("config get NAME", "a setting")),
    **_each("group groups", (("limit gpu 2", "lets two jobs with the tag gpu run at once"),)),
    "history": (("show ID", "shows what became of a job"), ("list", "shows all of them")),
    **_each("callback hook hooks notify webhook", _HOOKS),
    "info": (("show ID", "shows a job"), ("status", "counts them")),
    "monitor": (("top", "shows jobs and workers as they change"),),
    "reset": (("retry ID", "runs a job again"), ("config unset NAME", "resets a setting")),
    "parallel": (("worker scale 4", "runs four jobs at a time"), *_MANY),
    "restart": (("retry ID", "runs a job again"), _AFRESH),
    "start": (("worker start", "starts a worker"), ("retry ID", "runs a job again")),
    **_each("reason why", (("explain ID", "says why a job waits, or ended as it did"),)),
    "stop": (("worker stop", "stops the workers"), ("cancel ID", "stops a job")),
    **_behind("worker", "ls ps show status", _WORKERS[:1]),
    **_behind("worker", "add create launch new spawn up", _STARTS),
    **_behind("worker", "delete down drain remove rm shutdown", _ENDS),
    **_behind("worker", "kill terminate", (("worker stop --now", "stops the workers at once"),)),
    **_behind("worker", "count resize", _WORKERS[1:]),
    "worker restart": (_AFRESH,),
    **_behind(
        "dlq",
        "clean clear delete drop empty flush remove rm",
        (("dlq purge --all", "removes the dead jobs"),),
    ),
    **_behind(
        "dlq",
        "drain redrive replay requeue rerun restart resubmit",
        (("dlq retry ID", "runs a dead job again"), ("dlq retry --all", "all of them")),
    ),
    **_behind("dlq", "get show", (("show ID", "shows a job"), ("dlq list", "all dead ones"))),
    **_behind("config", "all edit list ls show view", _SETTINGS),
    **_behind("config", " ".join(setting.name for setting in SETTINGS), _SETTINGS),
    **_behind("config", "clear del delete remove reset rm", _DEFAULTS),
}
# Commands of a later version, with what does nearly the same today.
NOT_YET: dict[str, tuple[tuple[str, str], ...]] = {
    "worker install": (("worker start", "starts a worker that outlives the terminal"),),
    "worker uninstall": (("worker stop", "stops the workers"),),
}
# Options that a command does not have, with what does the same.
OPTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "retry --all": (
        ("dlq retry --all", "retries the dead jobs"),
        ("retry --state STATE", "all that are in a state"),
    ),
    "cancel --all": (("cancel --state STATE", "cancels all that are in a state"),),
    "dlq retry --state": (("dlq retry --all", "retries every dead job"),),
    "list --failed": (("list --state failed,dead", "shows the jobs that failed"),),
    "logs --failed": (("logs --state failed,dead", "shows the output of those that failed"),),
    "retry --failed": (("dlq retry --all", "retries the jobs that failed for good"),),
    "retry --all-failed": (("dlq retry --all", "retries the jobs that failed for good"),),
    "purge --all": (
        ("purge --yes", "removes what is completed or cancelled"),
        ("dlq purge --all", "what is dead"),
    ),
    "pause --all": (("pause", "lets no job start"),),
    **dict.fromkeys(
        ("list --follow", "list --watch"), (("watch 5 list", "shows it again every five seconds"),)
    ),
    "status --watch": (("watch 5 status", "shows it again every five seconds"),),
    "worker stop --all": (("worker stop", "stops all workers"),),
    "worker scale --count": (("worker scale 3", "starts or stops workers until three run"),),
    "enqueue --follow": (("run -- COMMAND", "enqueues a job and shows its output"),),
    "enqueue -f": (("run -- COMMAND", "enqueues a job and shows its output"),),
    "logs --grep": (("logs ID", "shows the output, for grep to search"),),
    " -S": (("worker scale 3", "starts or stops workers until three run"),),
    "list --filter": (("list --match TEXT", "shows the jobs that contain a text"),),
}
# Commands that take no word, with the command that does.
WORDS = {"status": (("show ID", "shows a job"),)}
# Options -> what other tools call them.
_OTHER_NAMES = {
    "--id": "L name job-id jid job-name",
    "--command": "c cmd exec run script shell",
    "--run-at": "at when start start-at start-time time",
    "--delay": "in start-in start-after",
    "--max-retries": "attempts max-attempts retries retry tries",
    "--priority": "p prio nice",
    "--tag": "group label labels queue t",
    "--after-end": "D after-any",
    "--after": "W dependency depends depends-on needs requires",
    "--cwd": "C chdir d dir directory wd workdir working-directory",
    "--timeout": "max-time time-limit walltime",
    "--every": "interval repeat",
    "--count": "concurrency j jobs n num number parallel processes procs workers",
    "--lines": "tail last n",
    "--limit": "count first head last max n tail",
    "--state": "s status",
    "--match": "contains filter find grep name search",
    "--follow": "tail w watch",
    "--json": "format o output",
    "--yes": "assume-yes f force no-confirm y",
    "--now": "force immediate kill",
    "--older-than": "age before keep older",
    "--drain": "once until-empty",
    "--file": "from input",
}
# Commands that end, hold or remove something are suggested only for a very similar word.
_DESTROYING = frozenset(("cancel", "pause", "purge", "restore", "stop", "unset"))
_NEARLY = 0.8


def answer(words: str) -> str:
    """The answer to words that are not a command; "" if they are unknown."""
    lines = ANSWERS.get(words) or NOT_YET.get(words)
    if lines is None:
        return ""
    told = ", ".join(f"'{line}' {does}" for line, does in lines)
    if words in NOT_YET:
        return f"'{words}' is not supported by this version; {told}"
    return f"unknown command '{words}': {told}"


def option_answer(words: str) -> str:
    """The answer, after its name, to an option that a command does not have; "" if unknown.

    For a command alone: the answer to a word after it.
    """
    lines = OPTIONS.get(words, WORDS.get(words, ()))
    return ", ".join(f"'{line}' {does}" for line, does in lines)


def nearest_option(name: str, known: Collection[str]) -> str:
    """The known option that was most likely meant, or ""."""
    word = name.lstrip("-")
    for option, others in _OTHER_NAMES.items():
        if option in known and word in others.split():
            return option
    if "--state" in known and (word in STATES or word in OLD_STATES):
        return f"--state {word}"
    near = nearest(word, [option[2:] for option in known])
    return f"--{near}" if near else ""


def nearest_command(word: str, commands: Collection[str]) -> str:
    """The command that was most likely meant, or ""."""
    turned = "-".join(reversed(word.replace("_", "-").replace("workers", "worker").split("-")))
    if "-" in turned and turned in commands:
        return turned.replace("-", " ")
    near = nearest(word, commands)
    if near not in _DESTROYING:
        return near
    import difflib

    alike = difflib.SequenceMatcher(None, word, near).ratio() >= _NEARLY
    return near if alike else nearest(word, [name for name in commands if name not in _DESTROYING])
