"""The invariants of the design, read from the code itself."""

from __future__ import annotations

import ast
import os
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import queuectl
from queuectl.shell.own_commands import SHELL_COMMANDS

ROOT = Path(queuectl.__file__).parent
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

# Who may import whom: each layer, and what of ours it stands on besides itself.
BELOW_FRONTS = {"errors", "addresses", "places", "model", "config", "store", "job_queue"}
BELOW_FRONTS |= {"worker", "commands"}
LAYERS = {
    "errors": set(),
    "places": {"errors"},
    "addresses": {"errors", "places"},
    "model": {"errors"},
    "config": {"errors", "model"},
    "store": {"errors", "addresses", "places", "model", "config"},
    "job_changes": {"errors", "model", "store"},
    "job_queue": {"errors", "model", "config", "store", "job_changes"},
    "worker": {"errors", "addresses", "places", "model", "config", "store", "job_queue"},
    "commands": BELOW_FRONTS - {"commands"},
    "live": BELOW_FRONTS,
    "completion": {*BELOW_FRONTS, "live"},
    "shell": {*BELOW_FRONTS, "live", "completion"},
    "web": {*BELOW_FRONTS, "live"},
    "cli": {*BELOW_FRONTS, "live", "completion", "shell"},
    "__main__": {"cli"},
    "__init__": set(),
}
# The part of the store that no store is named in: all above it may use that, and nothing else.
NEUTRAL = {"contract", "watch", "output", "facts", "opening", "door", "backup"}
PURE = {"__future__", "bisect", "collections", "dataclasses", "datetime", "enum", "functools"}
PURE |= {"heapq", "itertools", "math", "re", "time", "typing"}  # time: only to spell a moment
BESIDE_PURE = {
    "model/cron.py": {"cronsim", "zoneinfo"},  # a calculation, and the tables of time zones
    "errors.py": {"importlib", "shlex", "sys"},  # the line that installs an extra for this Python
}


@cache
def tree(name):
    return ast.parse((ROOT / name).read_text())


def layer(name):
    return name.removesuffix(".py").split("/")[0]


def layer_of_module(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def is_for_types(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


@cache
def nodes(name):
    """Every node of the file."""
    return tuple(ast.walk(tree(name)))


def is_package(module):
    """Whether it is a folder of ours: what is imported from it is a module of its own."""
    return module.split(".")[0] == "queuectl" and ROOT.joinpath(*module.split(".")[1:]).is_dir()


@cache
def imports(name, types=False):
    """Every module that the file imports, as it runs; `types`: for its annotations too."""
    found = set()
    waiting = [tree(name)]
    while waiting:
        node = waiting.pop()
        if is_for_types(node) and not types:
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            found.add(node.module)
            if is_package(node.module):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        waiting += ast.iter_child_nodes(node)
    return {module for module in found if not is_package(module)}


def ours(name, types=False):
    return {module for module in imports(name, types) if module.split(".")[0] == "queuectl"}


@cache
def calls(name):
    """Every call in the file, as (function as written, line)."""
    return [
        (ast.unparse(node.func), node.lineno) for node in nodes(name) if isinstance(node, ast.Call)
    ]


def functions(name):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in nodes(name) if isinstance(node, kinds)]


def of_each(names):
    """Make the test of one file one of all these: a test each would cost more than the look."""

    def made(check):
        def test():
            faults = []
            for name in names:
                try:
                    check(name)
                except AssertionError as exc:
                    faults.append(f"{name}: {exc}")
            assert not faults, "\n".join(faults)

        test.__doc__ = check.__doc__
        return test

    return made


# -- layers


@of_each(FILES)
def test_no_arrow_runs_back_up(name):
    below = LAYERS[layer(name)] | {layer(name)}
    for module in ours(name, types=True):
        target = layer_of_module(module)
        assert target in below or target == "__version__" or module == "queuectl", (
            f"{name} imports {module}"
        )


@of_each([name for name in FILES if layer(name) != "store"])
def test_who_stands_above_the_store_knows_no_store(name):
    used = {module for module in ours(name, types=True) if layer_of_module(module) == "store"}
    used -= {f"queuectl.store.{neutral}" for neutral in NEUTRAL}
    assert not used, f"{name} reaches into a store"


def test_modules_import_each_other_in_no_circle():
    edges = {
        "queuectl." + name.removesuffix(".py").replace("/", "."): ours(name, types=True)
        for name in FILES
    }
    done, path = set(), []

    def visit(module):
        assert module not in path, f"a circle: {[*path, module]}"
        if module in done or module not in edges:
            return
        path.append(module)
        for target in sorted(edges[module]):
            visit(target)
        done.add(path.pop())

    for module in edges:
        # The table of commands names its handlers as text, so none of them closes a circle.
        visit(module)


@of_each([name for name in FILES if layer(name) in ("model", "errors")])
def test_the_model_is_pure(name):
    foreign = {module.split(".")[0] for module in imports(name)} - {"queuectl", "difflib"}
    assert foreign <= PURE | BESIDE_PURE.get(name, set())
    deeds = {"open", "print", "input", "datetime.now", "datetime.utcnow", "date.today"}
    assert not deeds & {call for call, _ in calls(name)}


@pytest.mark.parametrize("spec", SHELL_COMMANDS, ids=lambda spec: " ".join(spec.words))
def test_every_row_names_a_handler_that_returns_a_result(spec):
    module, _, name = spec.handler.partition(":")
    handler = getattr(import_module(module), name)
    assert [*handler.__annotations__.items()][:1] == [("context", "Context")]
    assert handler.__annotations__["return"] == "Result"


# -- one place for each thing


def importers(module):
    return {name for name in FILES if module in {found.split(".")[0] for found in imports(name)}}


def test_filelock_is_used_where_locks_are_kept():
    allowed = {"store/files/lock.py", "store/files/worker_files.py", "worker/pool.py"}
    allowed.add("worker/__main__.py")  # which only has it loaded beforehand
    assert importers("filelock") <= allowed


def test_files_are_locked_where_the_queue_and_workers_are_and_history_is_kept():
    locking = {
        name for name in FILES if {"fcntl.flock", "fcntl.lockf"} & {c for c, _ in calls(name)}
    }
    allowed = {"store/files/lock.py", "store/files/worker_files.py", "store/files/logs.py"}
    assert locking <= {*allowed, "store/mongodb/host.py", "shell/history_file.py"}


def test_prompt_toolkit_is_the_shells_own():
    assert {layer(name) for name in importers("prompt_toolkit")} <= {"shell"}
    # And it is loaded only when the shell starts.
    top = {"queuectl.shell.session", "prompt_toolkit"}
    for name in FILES:
        if layer(name) != "shell":
            loaded = {node.module for node in tree(name).body if isinstance(node, ast.ImportFrom)}
            assert not loaded & top, name


def test_processes_are_started_by_workers_and_front_ends_only():
    for name in importers("subprocess"):
        assert layer(name) in ("worker", "shell", "cli"), name


@of_each(FILES)
def test_no_process_is_forked_without_exec(name):
    forbidden = ("os.fork", "os.forkpty", "os.system", "os.popen", "multiprocessing.Process")
    if name == "worker/first_process.py":  # the parent only reaps, before anything is open
        forbidden = forbidden[1:]
    assert not [call for call in calls(name) if call[0] in forbidden]


@of_each([n for n in FILES if layer(n) not in ("cli", "shell", "__main__")])
def test_nothing_prints_or_exits_below_the_front_ends(name):
    forbidden = {"print", "sys.exit", "exit", "quit", "os._exit", "input"}
    assert not [call for call in calls(name) if call[0] in forbidden]


@of_each([name for name in FILES if layer(name) in ("model", "store")])
def test_only_a_stores_own_now_asks_the_time(name):
    clocks = {"time.time", "time.time_ns", "datetime.now", "time.localtime"}
    allowed = {
        inner.lineno
        for node in functions(name)
        if node.name == "now" and name.startswith("store/")
        for inner in ast.walk(node)
        if isinstance(inner, ast.Call)
    }
    assert [call for call in calls(name) if call[0] in clocks and call[1] not in allowed] == []
    assert "time.gmtime()" not in (ROOT / name).read_text(), "of a moment that is given, no other"


def test_the_queue_asks_its_store_for_the_time():
    assert not {"time", "datetime", "random"} & imports("job_queue.py")


# Everything that changes a byte or a name on disk.
DOOR = {"os.write", "os.fsync", "os.fdatasync", "os.rename", "os.replace", "os.unlink", "os.remove"}
DOOR |= {"os.ftruncate", "os.truncate", "os.chmod", "os.mkfifo", "os.mkdir", "os.makedirs"}
DOOR |= {"os.rmdir", "os.pwrite", "os.link", "os.symlink", "shutil.rmtree", "os.utime"}
# A worker's own line in its file, which only it writes, and hints into pipes: no data file.
BESIDE_THE_DOOR = {"store/files/worker_files.py": {"os.pwrite", "os.write"}}


@of_each([n for n in FILES if layer(n) in ("store", "job_queue", "config")])
def test_data_files_are_changed_through_one_door(name):
    if name == "store/door.py":
        return
    used = {call for call, _ in calls(name)} & DOOR
    assert used <= BESIDE_THE_DOOR.get(name, set())
    for node in nodes(name):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("open", "os.fdopen"):
            modes = [ast.unparse(arg) for arg in node.args[1:2]]
            assert all(mode in ("'rb'", "'r'") for mode in modes), f"{name}:{node.lineno} writes"


# As words these mean other things, too: they are names of files where they stand in a path.
WORDS = {"mongodb", ".queuectl", "journal", "logs", "workers"}


@of_each([name for name in FILES if name != "places.py"])
def test_the_names_in_a_data_folder_stand_in_places_alone(name):
    named = [node for node in tree("places.py").body if isinstance(node, ast.Assign)]
    values = [n.value for one in named for n in ast.walk(one) if isinstance(n, ast.Constant)]
    known = {value for value in values if isinstance(value, str)}
    assert known > WORDS
    in_paths = [
        arg
        for node in nodes(name)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("path.join", "within"))
        for arg in node.args
    ]
    texts = {node.value for node in nodes(name) if isinstance(node, ast.Constant)}
    assert not texts & (known - WORDS)
    assert not {arg.value for arg in in_paths if isinstance(arg, ast.Constant)} & known


@of_each([name for name in FILES if layer(name) == "store"])
def test_nothing_sleeps_in_the_store_but_what_waits(name):
    sleeps = [line for call, line in calls(name) if call == "time.sleep"]
    waits = [node for node in functions(name) if node.name in ("wait", "_wait")]
    assert all(any(w.lineno <= line <= w.end_lineno for w in waits) for line in sleeps)


# -- names and sizes

VAGUE = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "base", "core", "tools"}
# The names of our files that the standard library has too, though never at its top as ours.
BESIDE_STANDARD = {"__init__", "__main__"}


@of_each(FILES)
def test_files_are_named_after_what_they_hold(name):
    parts = name.removesuffix(".py").split("/")
    assert not VAGUE & set(parts)
    assert parts[-1] in BESIDE_STANDARD or parts[-1] not in sys.stdlib_module_names, (
        f"{name} is named like a standard module"
    )


@of_each(FILES)
def test_modules_stay_under_500_lines_and_functions_under_60(name):
    assert len((ROOT / name).read_text().splitlines()) <= 500
    for node in functions(name):
        assert node.end_lineno - node.lineno + 1 <= 60, f"{name}: {node.name}"


def test_the_median_function_is_short():
    lengths = sorted(
        node.end_lineno - node.lineno + 1 for name in FILES for node in functions(name)
    )
    assert lengths[len(lengths) // 2] <= 8
    assert sum(length > 25 for length in lengths) <= len(lengths) * 0.05


@of_each(FILES)
def test_every_module_says_what_it_is_and_postpones_annotations(name):
    assert ast.get_docstring(tree(name)), f"{name} has no docstring"
    if layer(name) != "__init__" and not name.endswith("__init__.py"):
        body = [node for node in tree(name).body if isinstance(node, ast.ImportFrom)]
        # A NamedTuple would compile each of its annotations when it is imported.
        records = any(alias.name == "NamedTuple" for node in body for alias in node.names)
        assert records or any(node.module == "__future__" for node in body), name


@of_each(FILES)
def test_what_is_public_says_what_it_does(name):
    for node in nodes(name):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name}: class {node.name}"
    for node in tree(name).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name}: {node.name}"


def test_no_path_of_this_machine_is_written_into_the_code():
    for name in FILES:
        text = (ROOT / name).read_text()
        assert os.path.expanduser("~") + os.sep not in text
        assert str(ROOT.parent) not in text


def test_no_store_knows_a_rule_of_a_jobs_life_but_claiming_and_hand_edits():
    for name in FILES:
        if layer(name) == "store":
            for node in nodes(name):
                if isinstance(node, ast.ImportFrom) and node.module == "queuectl.model.lifecycle":
                    names = {alias.name for alias in node.names}
                    assert names <= {"Claim", "claimed", "rewritten"}, name
