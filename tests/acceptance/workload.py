"""More than 300 real commands of mixed kinds, the same on every run on one machine.

Each prints only what it must print again, whenever and wherever it runs: no pids, no times.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from typing import NamedTuple


class Case(NamedTuple):
    """A job: what `/bin/sh -c` runs, and how many runs may follow a failed first one."""

    id: str
    command: str
    max_retries: int = 0


def cases() -> list[Case]:
    """All of them, the kinds mixed, so that a worker meets every sort in turn."""
    kinds = [list(kind()) for kind in KINDS]
    mixed: list[Case] = []
    for at in range(max(map(len, kinds))):
        mixed += [kind[at] for kind in kinds if at < len(kind)]
    return mixed


def script_line(number: int, case: Case) -> str:
    """The script's line that hands the case in; each number has the next of the five forms.

    What stands on several lines goes in as JSON, which has an escape for the newline.
    """
    if "\n" in case.command or number % 5 == 0:
        return f"enqueue {_json(case)}"
    retries = f"--max-retries {case.max_retries}"
    if number % 5 == 1:
        return f"enqueue --id {case.id} {retries} -- {case.command}"
    if number % 5 == 2:
        return f"enqueue --id {case.id} {retries} --command {shlex.quote(case.command)}"
    if number % 5 == 3:
        return (
            f"enqueue {{id: {case.id}, command: {_quoted(case)}, max_retries: {case.max_retries}}}"
        )
    return f"enqueue --id={case.id} '{_json(case, with_id=False)}'"


def _json(case: Case, *, with_id: bool = True) -> str:
    form: dict[str, object] = {"id": case.id} if with_id else {}
    form |= {"command": case.command, "max_retries": case.max_retries}
    # An apostrophe as an escape, so that the object can stand between apostrophes too.
    return json.dumps(form, ensure_ascii=False).replace("'", "\\u0027")


def _quoted(case: Case) -> str:
    return json.dumps(case.command, ensure_ascii=False)


def machine_files() -> list[str]:
    """Files that lie on this machine anyhow: a part of Python's own library, by name."""
    folder = os.path.dirname(os.__file__)
    names = sorted(name for name in os.listdir(folder) if name.endswith(".py"))
    return [os.path.join(folder, name) for name in names[:40]]


def compressed() -> Iterator[Case]:
    """Files packed, unpacked and compared."""
    for n, path in enumerate(machine_files()):
        file = shlex.quote(path)
        yield Case(f"gzip-{n}", f"gzip -{n % 9 + 1} -n -c {file} | gzip -d | cksum; cksum < {file}")


def checksums() -> Iterator[Case]:
    """Checksums by cksum and by Python."""
    code = "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())"
    for n, path in enumerate(machine_files()):
        file = shlex.quote(path)
        if n % 4 == 0:
            yield Case(f"sum-{n}", f"{_python(code)} {file}")
        else:
            yield Case(f"sum-{n}", f"cksum {file} && wc -l < {file} && od -An -tx1 {file} | cksum")


def pythons() -> Iterator[Case]:
    """Python programs that compute, print much or little, and leave in their own ways."""
    programs = (
        "print(sum(n * n for n in range(100_000)))",
        "import json; print(json.dumps({'a': [1, 2.5, None], 'ž': '日本'}, ensure_ascii=True))",
        "import sys; sys.stderr.write('to stderr\\n'); print('to stdout')",
        "import sys; sys.exit('a last word')",
        "raise SystemExit(77)",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import sys; sys.stdout.buffer.write(bytes(range(256)) * 40)",
        "import sys; print(repr(sys.stdin.read()))",
        "import os; print(sorted(n for n in os.environ if n == 'QUEUECTL_JOB_ID'))",
    )
    for n in range(27):
        program = programs[n % len(programs)]
        yield Case(f"python-{n}", f"{_python(program)}", max_retries=n % 2)


def sorted_texts() -> Iterator[Case]:
    """Large texts made by a small generator, then sorted in different ways."""
    make = 'awk "BEGIN{{x={seed}; while(i++<{lines}) {{x=(x*16807)%2147483647; print x, i%97}}}}"'
    orders = ("sort", "sort -rn", "sort -k2,2n -k1,1", "sort -u -k2,2n")
    for n in range(24):
        text = make.format(seed=n + 1, lines=4000 + 500 * n)
        order = orders[n % len(orders)]
        yield Case(f"sort-{n}", f"export LC_ALL=C; {text} | {order} | tee /dev/null | cksum")


def exit_codes() -> Iterator[Case]:
    """Failures with all sorts of codes, some retried, with and without a word about it."""
    # Not 75, which asks for a later run.
    codes = [1, 2, 3, 5, 7, 42, 64, 76, 77, 99, 100, 124, 125, 126, 127, 128, 129, 137, 200, 255]
    for n, code in enumerate(codes * 2):
        word = f"echo 'leaving with {code}' >&2; " if n % 2 else ""
        yield Case(f"exit-{n}", f"{word}exit {code}", max_retries=n % 3)


def signals() -> Iterator[Case]:
    """Shells that a signal ends, with output before it."""
    names = ("TERM", "KILL", "HUP", "INT", "USR1", "PIPE", "ALRM", "QUIT")
    for n, name in enumerate(names * 3):
        before = ("", "echo going; ", "printf 'no newline'; ")[n % 3]
        yield Case(f"signal-{n}", f"ulimit -c 0; {before}kill -{name} $$", max_retries=n % 2)


def megabytes() -> Iterator[Case]:
    """Outputs of up to four megabytes, text and bytes, on either stream."""
    for n in range(8):
        stream = " >&2" if n % 2 else ""
        size = 512 * (n + 1)
        yield Case(f"mega-{n}", f"dd if=/dev/zero bs=1024 count={size} 2>/dev/null{stream}")
        yield Case(f"yes-{n}", f"yes 'line {n} of many' | head -n {size * 50}{stream}")


def quotes() -> Iterator[Case]:
    """What quoting can do to a command, which must reach /bin/sh as it is."""
    commands = (
        """echo "it's" 'a "b"' """,
        r"""printf '%s\n' 'a\tb' "c\\d" e\ f""",
        """echo '$HOME' "${NOPE:-unset}" `echo back`""",
        """printf '<%s>' "" '' " " "a b"; echo""",
        r"""printf 'tab\there\nand\\there\n'""",
        """echo "{id: x, command: \\"y\\"}" '{a,b}'""",
        """echo '[1, 2]' '<a&b>' '#no' a#b""",
        """echo 'a; b && c || d' ; echo "$((6 * 7))" """,
        """sh -c 'echo "nested '"'"'quotes'"'"'"' """,
        """set -- "a b" c; echo $# "$1" """,
        """echo "two  blanks   three" 'and\\'""",
        """x='a=b, command: c'; echo "$x", id: 1, max_retries: 2""",
        """echo -- --state pending -n""",
        """echo 100% '%s' "!bang" ~nobody/ ^""",
    )
    for n in range(28):
        yield Case(f"quote-{n}", f"{commands[n % len(commands)].strip()}; echo {n}")


def pipes() -> Iterator[Case]:
    """Pipelines, lists, loops, redirections, subshells and functions."""
    commands = (
        "printf '%s\\n' pear fig apple | sort | tr a-z A-Z",
        "for i in 1 2 3; do echo $i; done | awk '{s += $1} END {print s}'",
        "seq 1 2000 | sed -n '/7$/p' | wc -l | tr -d ' '",
        "{ echo out; echo err >&2; } 2>&1 | sort",
        "echo a; echo b >&2; echo c; echo d >&2",
        "false || echo rescued && echo and",
        "false | true; echo $?; true | false",
        "(sleep 0.02; echo late) & wait; echo after",
        'f() { echo "in f: $1"; return 3; }; f x; echo $?',
        'd=$(mktemp -d) && cd "$d" && echo kept > file && cat file && cd / && rm -r "$d"',
        "cat; echo end of nothing",
        "read line || echo no line",
        "trap 'echo on exit' EXIT; echo body; exit 4",
        "exec 2>&1; ls /no/such/folder | cat; cd /no/such/folder 2>/dev/null || echo stays",
        "ulimit -c; umask 077; umask",
        "no-such-program-here 2>/dev/null; echo $?",
    )
    for n in range(32):
        yield Case(f"pipe-{n}", f"{commands[n % len(commands)]}", max_retries=n // 16)


def here_documents() -> Iterator[Case]:
    """Commands of several lines."""
    rows = "\n".join(f"{n * 7919 % 1000:03} row" for n in range(300))
    commands = (
        "cat <<'EOF'\nplain $HOME `no`\n\ttab \\ backslash \"quotes\" 'and'\nEOF",
        "x=42\ncat <<EOF | sed 's/^/> /'\nvalue $x\n$(echo inner)\nEOF",
        "if true\nthen\n  echo yes # a comment\nfi\n\n\necho last",
        "cat <<A; cat <<B\nfirst\nA\nsecond\nB",
        "while read -r line\ndo\n  echo \"[$line]\"\ndone <<'EOF'\n one\ntwo\\n\nEOF\nexit 6",
        f"sort <<EOF | cksum\n{rows}\nEOF",
        f"{shlex.quote(sys.executable)} - <<'EOF'\nimport sys\nprint('from standard input', "
        "len(sys.argv))\nsys.exit(9)\nEOF",
    )
    for n in range(28):
        yield Case(f"here-{n}", commands[n % len(commands)], max_retries=n % 2)


def unicode_texts() -> Iterator[Case]:
    """Letters, signs and directions of many scripts, counted in bytes."""
    words = (
        "žluťoučký kůň",
        "日本語のテキスト",
        "🐎🏁👩‍👩‍👧",
        "עברית ועוד",
        "e\u0301 é ﬁ",
        "\u00a0\u2009\ufeff",
        "Ω≈ç√∫",
    )
    for n in range(28):
        word = words[n % len(words)]
        yield Case(f"unicode-{n}", f"x='{word}'; echo \"$x\"; printf %s \"$x\" | wc -c | tr -d ' '")


def sleeps() -> Iterator[Case]:
    """Short waits, some of them in the background."""
    for n in range(20):
        yield Case(f"sleep-{n}", f"sleep 0.{n % 4 + 1}; echo slept {n}")


def retried() -> Iterator[Case]:
    """Jobs that go well only after some runs, or never soon enough."""
    for n in range(24):
        needed, allowed = n % 4 + 1, n % 3
        yield Case(
            f"flaky-{n}",
            f'echo "$QUEUECTL_JOB_ID, $QUEUECTL_ATTEMPT"; test "$QUEUECTL_ATTEMPT" -ge {needed}',
            max_retries=allowed,
        )


def long_lines() -> Iterator[Case]:
    """Command lines of up to a hundred kilobytes."""
    for n in range(4):
        yield Case(f"long-{n}", f"echo {'x' * (1000 * 5**n // (1 + n // 3))} | wc -c | tr -d ' '")


KINDS = (
    compressed,
    checksums,
    pythons,
    sorted_texts,
    exit_codes,
    signals,
    megabytes,
    quotes,
    pipes,
    here_documents,
    unicode_texts,
    sleeps,
    retried,
    long_lines,
)


def _python(code: str) -> str:
    # Without the site module it starts in half the time, and a venv's start-up files stay out.
    return f"{shlex.quote(sys.executable)} -S -c {shlex.quote(code)}"
