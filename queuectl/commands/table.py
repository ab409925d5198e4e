"""The one table of commands: what argv, script, shell, help and completion all read.

Handlers are only named here and loaded when their command runs, so that `status` does not load the
code of other commands. The same holds for long lists of parameters, which are in params.py.
"""

from __future__ import annotations

from queuectl.commands.grammar.specs import JSON, YES, CommandSpec, Param

SHELLS = ("bash", "zsh", "fish")

COMMANDS = (
    CommandSpec(
        words=("enqueue",),
        summary="Enqueue a job, or many at once.",
        params="queuectl.commands.params:ENQUEUE",
        handler="queuectl.commands.handlers.enqueue:enqueue",
        examples=(
            "enqueue '{id: job1, command: \"echo Hello\"}'",
            'enqueue --id job2 --priority -1 -- echo "it\'s done"',
            "enqueue --command 'ls | wc -l' --delay 5m --max-retries 0",
        ),
        details=(
            "The job runs under /bin/sh -c, in the folder it was enqueued in. "
            "--dry-run checks all and adds nothing; made-up ids will differ. "
            "'help objects' says how {...} is read."
        ),
        access="write",
    ),
    CommandSpec(
        words=("run",),
        summary="Enqueue a job, show its output, and exit as it does.",
        params="queuectl.commands.params:RUN",
        handler="queuectl.commands.handlers.running:run",
        examples=("run -- make -j4", "run --id build --max-retries 0 --command 'make && ./test'"),
        details=(
            "It shows all runs until the job has ended. Ctrl-C leaves the job running; at a "
            "terminal a second one cancels it. The exit code is 125 if the wait itself fails."
        ),
        access="write",
    ),
    CommandSpec(
        words=("list",),
        summary="List jobs, oldest first, the dead last.",
        params="queuectl.commands.params:LISTED",
        handler="queuectl.commands.handlers.jobs:list_jobs",
        examples=(
            "list --state failed,dead --tag nightly --since 2h",
            "list --newest --fields id,state,tags,run_time --csv",
            "list --state pending --jsonl --input",
        ),
    ),
    CommandSpec(
        words=("show",),
        summary="Show everything about a job, and the end of its output.",
        params=(
            Param("job", "job", "id of the job", required=True),
            Param("--reveal", "flag", "show the values of secret variables too"),
            JSON,
        ),
        handler="queuectl.commands.handlers.jobs:show",
        examples=("show job1", "show job1 --json"),
        details="-q shows only the state.",
    ),
    CommandSpec(
        words=("explain",),
        summary="Say why a job has not run yet, or ended as it did.",
        params=(Param("job", "job", "id of the job", required=True), JSON),
        handler="queuectl.commands.handlers.explain:explain",
        examples=("explain job1", "explain job1 --json"),
        details="-q shows the reasons as words for programs, one on each line.",
    ),
    CommandSpec(
        words=("logs",),
        summary="Show what a job printed, in its last run or an earlier one.",
        params="queuectl.commands.params:LOGS",
        handler="queuectl.commands.handlers.logs:logs",
        examples=("logs job1", "logs job1 --follow", "logs job1 --run 1 --lines 20"),
    ),
    CommandSpec(
        words=("status",),
        summary="Count the jobs in each state, and show the workers.",
        params=(JSON,),
        handler="queuectl.commands.handlers.status:status",
        examples=("status", "status --json"),
    ),
    CommandSpec(
        words=("stats",),
        summary="Show statistics of the jobs: failures, times, the last hour.",
        params=(JSON,),
        handler="queuectl.commands.handlers.stats:stats",
        examples=("stats", "stats --json"),
        details="It counts the jobs that still exist, but no hooks, and says how far back they go.",
    ),
    CommandSpec(
        words=("top",),
        summary="Watch jobs and workers on the whole screen.",
        params="queuectl.commands.params:TOP",
        handler="queuectl.shell.top.command:top",
        examples=("top", "top --sort time --filter backup"),
        details=(
            "? shows the keys. Enter follows the output of a job. "
            "Without a terminal it prints one snapshot, of at most 1000 jobs; "
            "-q then prints the ids."
        ),
    ),
    CommandSpec(
        words=("serve",),
        summary="Serve the page and the REST API to browsers and programs.",
        params="queuectl.commands.params:SERVE",
        handler="queuectl.web.command:serve",
        examples=("serve", "serve --port 0 --workers 2", "serve --read-only --unix page.sock"),
        details=(
            "The link that it prints holds the token; so does the file that it names for curl. "
            "Ctrl-C ends it, never a job; its own workers finish theirs. "
            "It needs the extra web; if that is missing, it names the line that installs it."
        ),
    ),
    CommandSpec(
        words=("dashboard",),
        summary="Open the page of the running server, or of a new one.",
        params="queuectl.commands.params:DASHBOARD",
        handler="queuectl.web.command:dashboard",
        examples=("dashboard", "dashboard --no-browser"),
    ),
    CommandSpec(
        words=("watch",),
        summary="Show the output of a command, again every few seconds.",
        params=(
            Param("interval", "duration", "time between; 2s if left out", default=2.0, low=0.2),
            Param("command", "line", "what to show, with its options", required=True),
        ),
        handler="queuectl.shell.screens.watch:watch",
        examples=("watch status", "watch 5 list --state failed --limit 3"),
        details=(
            "Only commands that change nothing can be watched. q or Ctrl-C ends it, never a job. "
            "Without a terminal it prints once."
        ),
    ),
    CommandSpec(
        words=("wait",),
        summary="Wait until jobs have ended, and exit as they did.",
        params="queuectl.commands.params:WAIT",
        handler="queuectl.commands.handlers.wait:wait",
        examples=("wait job1 job2 --timeout 5m", "wait --tag nightly", "wait --all"),
        details=(
            "The exit code is the job's own; for several jobs 0 if all completed, else 1. "
            "Ctrl-C ends the wait, never a job."
        ),
        access="read",  # it rescues by itself: an error there is its own failure
    ),
    CommandSpec(
        words=("update",),
        summary="Change the fields of a job, retry or cancel it.",
        params="queuectl.commands.params:UPDATE",
        handler="queuectl.commands.handlers.update:update",
        examples=(
            'update \'{"id": "job1", "state": "pending"}\'',
            "update job1 --priority 3 --timeout 5m",
        ),
        details=(
            "The state pending retries the job, cancelled cancels it. "
            "A running job can only be given another priority, number of retries and tags. "
            "An id right after --after b or --tag a is refused: it could be a value of those. "
            "After an empty value, as in --retry-delay '', the setting holds again."
        ),
        access="write",
    ),
    CommandSpec(
        words=("edit",),
        summary="Change the fields of a job in your editor.",
        params=(
            Param("job", "job", "id of the job", required=True),
            Param("--retry", "flag", "if the job is dead, retry it; asks if left out"),
        ),
        handler="queuectl.shell.screens.edit:edit",
        examples=("edit job1", "edit job2 --retry"),
        details=(
            "The fields are shown as JSON in $VISUAL, $EDITOR or vi. "
            "Nothing is changed if nothing is saved, or if the editor fails."
        ),
        access="write",
    ),
    CommandSpec(
        words=("cancel",),
        summary="Cancel jobs; a running one is ended by its worker.",
        params="queuectl.commands.params:CANCEL",
        handler="queuectl.commands.handlers.jobs:cancel",
        examples=("cancel job1 job2", "cancel --state pending --tag gpu --dry-run"),
        details=(
            "With --abandon a job is cancelled at once, but processes of its run may go on: "
            "'explain' names those that cannot be ended. Refused while its worker can end them."
        ),
        access="write",
    ),
    CommandSpec(
        words=("retry",),
        summary="Run waiting jobs now, and ended ones again.",
        params="queuectl.commands.params:RETRY",
        handler="queuectl.commands.handlers.jobs:retry",
        examples=("retry job1 job2", "retry --tag nightly --error 'timed out' --yes"),
        details="Options select only failed and dead jobs, unless --state names others.",
        access="write",
    ),
    CommandSpec(
        words=("purge",),
        summary="Remove finished jobs and their output for good.",
        params="queuectl.commands.params:PURGE",
        handler="queuectl.commands.handlers.jobs:purge",
        examples=(
            "purge --yes",
            "purge --logs --older-than 30d --yes",
            "purge --state dead --older-than 7d --dry-run",
        ),
        details="Without ids and --state: completed and cancelled jobs.",
        access="write",
    ),
    CommandSpec(
        words=("pause",),
        summary="Let no job start, or none with a tag; running jobs go on.",
        params=(Param("tag", "tag", "a tag; the whole queue if left out", many=True), JSON),
        handler="queuectl.commands.handlers.gate:pause",
        examples=("pause", "pause gpu"),
        details="After it has answered, no paused job starts on any worker.",
        access="write",
    ),
    CommandSpec(
        words=("resume",),
        summary="Let jobs start again after a pause.",
        params=(Param("tag", "tag", "a paused tag; the whole queue if left out", many=True), JSON),
        handler="queuectl.commands.handlers.gate:resume",
        examples=("resume", "resume gpu"),
        details="Tags that were paused by name stay paused until they are named here.",
        access="write",
    ),
    CommandSpec(
        words=("limit",),
        summary="Limit how many jobs with a tag run at once, or show limits.",
        params=(
            Param("tag", "tag", "the tag; all that have a limit if left out"),
            Param("number", "text", "the most that may run at once, or none; shown if left out"),
            JSON,
        ),
        handler="queuectl.commands.handlers.gate:limit",
        examples=("limit gpu 2", "limit", "limit gpu none"),
        details=(
            "Each of them gets a number from 0 on that no other has, in QUEUECTL_SLOT_GPU for the "
            "tag gpu. A limit below what runs ends nothing."
        ),
        access="write",
    ),
    CommandSpec(
        words=("worker", "start"),
        summary="Start workers in the background; they outlive the terminal.",
        params="queuectl.commands.params:WORKER_START",
        handler="queuectl.commands.handlers.workers:worker_start",
        examples=("worker start", "worker start --count 2"),
        access="write",
    ),
    CommandSpec(
        words=("worker", "scale"),
        summary="Start or stop workers until this many run.",
        params="queuectl.commands.params:WORKER_SCALE",
        handler="queuectl.commands.handlers.workers:worker_scale",
        examples=("worker scale 3", "worker scale 0"),
        details="Idle workers are stopped first; one that runs a job finishes it.",
        access="write",
    ),
    CommandSpec(
        words=("worker", "stop"),
        summary="Stop workers, or all of them, once each has finished its job.",
        params=(
            Param("worker", "worker", "id or pid of a worker; all if left out", many=True),
            Param("--now", "flag", "end the running jobs; they are queued again, no attempt spent"),
            Param("--all-hosts", "flag", "also ask those of other hosts (a queue in MongoDB)"),
        ),
        handler="queuectl.commands.handlers.workers:worker_stop",
        examples=("worker stop", "worker stop --now", "worker stop 4711"),
        details="Ctrl-C ends only the wait: the workers still stop.",
        access="read",  # it rescues by itself, after the stop
    ),
    CommandSpec(
        words=("worker", "list"),
        summary="List the workers and what they run.",
        params=(JSON,),
        handler="queuectl.commands.handlers.workers:worker_list",
        examples=("worker list", "worker list --json"),
    ),
    CommandSpec(
        words=("worker", "run"),
        summary="Work in the foreground, showing the life of each job.",
        params="queuectl.commands.params:WORKER_RUN",
        handler="queuectl.commands.handlers.workers:worker_run",
        examples=("worker run", "worker run --drain --count 2"),
        details=(
            "Ctrl-C lets the running jobs finish; a second one ends them and queues them again. "
            "With --drain the exit code is 1 if a job that ran here ended dead; "
            "'wait' reports those that other workers ran. If it is told to stop while jobs are "
            "left, the code is 130 for Ctrl-C, 129 for a hangup, else 143; without --drain it is "
            "0 but for Ctrl-C. "
            "-q shows no lines of jobs."
        ),
        access="write",
    ),
    CommandSpec(
        words=("dlq", "list"),
        summary="List the dead jobs: those that failed for good.",
        params="queuectl.commands.params:DEAD_LISTED",
        handler="queuectl.commands.handlers.dead_letters:dlq_list",
        examples=("dlq list --match backup", "dlq list --by error", "dlq list --json"),
    ),
    CommandSpec(
        words=("dlq", "retry"),
        summary="Put dead jobs back into the main queue.",
        params="queuectl.commands.params:DEAD_RETRY",
        handler="queuectl.commands.handlers.dead_letters:dlq_retry",
        examples=("dlq retry job2 job3", "dlq retry --error 'No space' --yes", "dlq retry --all"),
        access="write",
    ),
    CommandSpec(
        words=("dlq", "purge"),
        summary="Remove dead jobs and their output for good.",
        params="queuectl.commands.params:DEAD_PURGE",
        handler="queuectl.commands.handlers.dead_letters:dlq_purge",
        examples=("dlq purge job2 --yes", "dlq purge --all --older-than 30d --yes"),
        access="write",
    ),
    CommandSpec(
        words=("config", "get"),
        summary="Show one setting, or all of them.",
        params=(Param("setting", "setting", "name of the setting; all if left out"), JSON),
        handler="queuectl.commands.handlers.settings:config_get",
        examples=("config get", "config get base", "config get --json"),
    ),
    CommandSpec(
        words=("config", "set"),
        summary="Change a setting.",
        params=(
            Param("setting", "setting", "name of the setting", required=True),
            Param("value", "setting_value", "its new value", required=True),
            JSON,
        ),
        handler="queuectl.commands.handlers.settings:config_set",
        examples=("config set max-retries 5", "config set base 3", "config set timeout 5m"),
        access="write",
    ),
    CommandSpec(
        words=("config", "unset"),
        summary="Put a setting back to its default.",
        params=(Param("setting", "setting", "name of the setting", required=True), JSON),
        handler="queuectl.commands.handlers.settings:config_unset",
        examples=("config unset max-retries",),
        access="write",
    ),
    CommandSpec(
        words=("init",),
        summary="Make a data folder with its four files.",
        params=(Param("folder", "path", "where; the folder in use if left out"),),
        handler="queuectl.commands.handlers.maintenance:init",
        examples=("init", "init ./data"),
        details="From then on queuectl uses ./data whenever it runs beside it.",
        access="none",
    ),
    CommandSpec(
        words=("checkpoint",),
        summary="Write all changes into jobs.json and dlq.json now.",
        handler="queuectl.commands.handlers.maintenance:checkpoint",
        access="write",
    ),
    CommandSpec(
        words=("doctor",),
        summary="Check the queue's folder, and mend what can be mended.",
        params=(
            Param("--repair", "flag", "mend it; what cannot be read is set aside, not deleted"),
            JSON,
        ),
        handler="queuectl.commands.handlers.doctor:doctor",
        examples=("doctor", "doctor --repair", "doctor --json"),
        details=(
            "The exit code is 0 if all is well, 1 if something was found, 5 if the folder cannot "
            "be read at all; with --repair 1 if something is left or could not be read."
        ),
        access="none",  # a lost worker is also a finding
    ),
    CommandSpec(
        words=("backup",),
        summary="Copy jobs and settings into one file, while workers run.",
        params=(
            Param("file", "path", "the file to write; - for standard output", required=True),
            Param("--force", "flag", "overwrite the file if it is there"),
        ),
        handler="queuectl.commands.handlers.backups:backup",
        examples=("backup queue.jsonl", "backup -"),
        details="JSON lines: settings, jobs, checksum. The jobs' output is not in it.",
    ),
    CommandSpec(
        words=("restore",),
        summary="Put a backup into an empty queue.",
        params=(
            Param("file", "path", "the backup; - for standard input", required=True),
            Param("--replace", "flag", "put it in the place of the jobs there; they are kept"),
            YES,
        ),
        handler="queuectl.commands.handlers.backups:restore",
        examples=("restore queue.jsonl --replace --yes",),
        details=(
            "All or nothing. Jobs that were running are pending again, with no attempt spent. "
            "What is replaced is first written to another backup in the data folder."
        ),
        access="write",
    ),
    CommandSpec(
        words=("copy",),
        summary="Copy a whole queue from one folder or database to another.",
        params=(
            Param(
                "from",
                "path",
                "a data folder, URL or @FILE; without --move it stays as it is",
                required=True,
            ),
            Param("to", "path", "the same, for a queue without jobs", required=True),
            Param("--move", "flag", "take the jobs and their output away where they came from"),
        ),
        handler="queuectl.commands.handlers.copying:copy",
        examples=("copy ./data @queue-url", "copy mongodb://db1/jobs ~/jobs --move"),
        details=("Workers must be stopped in both. Run the same line again if it was interrupted."),
        access="none",
    ),
    CommandSpec(
        words=("ping",),
        summary="Check that the queue can be reached, read and written.",
        handler="queuectl.commands.handlers.status:ping",
    ),
    CommandSpec(
        words=("completion",),
        summary="Print what your own shell needs to complete queuectl's lines.",
        params=(Param("shell", "shell", "bash, zsh or fish", required=True, choices=SHELLS),),
        handler="queuectl.commands.handlers.completion:completion",
        examples=("completion bash", "completion zsh", "completion fish"),
        details="Put 'source <(queuectl completion bash)' into ~/.bashrc, the same with zsh into "
        "~/.zshrc; for fish, write it to ~/.config/fish/completions/queuectl.fish.",
        access="none",
    ),
    CommandSpec(
        words=("help",),
        summary="Explain queuectl, a command or a topic.",
        params=(Param("topic", "command", "a command or a topic", many=True),),
        handler="queuectl.commands.help.pages:show_help",
        examples=("help", "help enqueue", "help exit-codes"),
        access="none",
    ),
    CommandSpec(
        words=("version",),
        summary="Show the version.",
        handler="queuectl.commands.help.pages:version",
        access="none",
    ),
)
