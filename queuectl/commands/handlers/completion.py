"""What other shells need to complete queuectl's lines: `completion`.

The scripts know nothing about the commands. At each Tab they call `queuectl __complete SHELL LINE`,
which `completion/tab_completion.py` answers: lines of a word, a tab and what it is; exit code 10
asks for file names.

If the command on the PATH is the one that printed the script, its interpreter is called directly:
the command file that pip makes may load `re`, which costs two thirds of the start of a bare
interpreter, and the search for packages costs a quarter.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import queuectl
from queuectl.commands.context import Context
from queuectl.commands.dispatch import Result
from queuectl.commands.grammar.tokens import quote

# bash replaces what follows the last character of COMP_WORDBREAKS, or an open quote. So the part of
# a word before that (`--state=`) is removed from the candidates, which do not know quotes. bash
# itself shows no descriptions: they follow the words when it only lists them (types ?, ! and @),
# never when it inserts.
_BASH = r"""# queuectl for bash. In ~/.bashrc: source <(queuectl completion bash)
_queuectl() {
    local line=${COMP_LINE:0:COMP_POINT} IFS=$'\n'
    local typed=${line##*[[:space:]]} answer word meaning width=0
    local present=${typed##*["$COMP_WORDBREAKS"]} quotes=${typed//[^\"\']/}
    [ $((${#quotes} % 2)) -eq 1 ] && present=${typed##*[\"\']}
    local kept=${typed%"$present"}
    kept=${kept//[\'\"]/}
    COMPREPLY=()
    local -a ask=("${1/#\~/$HOME}")
    @DIRECTLY@
    answer=$("${ask[@]}" __complete bash "$line" 2>/dev/null)
    if [ $? -eq 10 ]; then
        compopt -o default 2>/dev/null || COMPREPLY=($(compgen -f -- "$present"))
        return
    fi
    while IFS=$'\t' read -r word meaning; do
        [ -n "$word" ] && COMPREPLY+=("${word#"$kept"}")
        [ ${#word} -gt $width ] && width=${#word}
    done <<<"$answer"
    case "${#COMPREPLY[@]}:$COMP_TYPE" in
        0:* | 1:*) ;;
        *:63 | *:33 | *:64)
            COMPREPLY=()
            while IFS=$'\t' read -r word meaning; do
                printf -v word "%-${width}s  %s" "${word#"$kept"}" "${meaning:+($meaning)}"
                COMPREPLY+=("$word")
            done <<<"$answer"
            ;;
    esac
}
complete -o nosort -F _queuectl queuectl 2>/dev/null || complete -F _queuectl queuectl
"""

_ZSH = r"""#compdef queuectl
# queuectl for zsh. In ~/.zshrc, after compinit: source <(queuectl completion zsh)
_queuectl() {
    local program=${(Q)words[1]/#\~/$HOME} answer entry
    local -a found ask
    ask=("$program")
    @DIRECTLY@
    answer=$("${ask[@]}" __complete zsh "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)
    if (( $? == 10 )); then
        [[ $PREFIX == --*=* ]] && compset -P '*='
        _files
        return
    fi
    for entry in ${(f)answer}; do
        found+=("${${entry%%$'\t'*}//:/\\:}:${entry#*$'\t'}")
    done
    _describe -V 'queuectl' found
}
if [[ ${funcstack[1]} == _queuectl ]]; then
    _queuectl "$@"
else
    compdef _queuectl queuectl
fi
"""

_FISH = r"""# queuectl for fish. In ~/.config/fish/completions/queuectl.fish
function __queuectl_complete
    set -l line (commandline --current-process --cut-at-cursor)
    set -l program (commandline --current-process --tokenize --cut-at-cursor)[1]
    set -l ask $program
    @DIRECTLY@
    set -l answer ($ask __complete fish "$line" 2>/dev/null)
    if test $status -eq 10
        set -l token (commandline --current-token --cut-at-cursor)
        set -l option (string match --regex -- '^--[^=]+=' $token)
        for path in (__fish_complete_path (string replace --regex -- '^--[^=]+=' '' $token))
            printf '%s\n' "$option$path"
        end
    else if test (count $answer) -gt 0
        printf '%s\n' $answer
    end
end
complete --command queuectl --no-files --keep-order --arguments '(__queuectl_complete)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_DIRECTLY = {
    "bash": (
        "hash queuectl 2>/dev/null\n"
        "    [[ $1 == queuectl && ${BASH_CMDS[queuectl]-} == @PROGRAM@ && -x @PYTHON@ ]] &&\n"
        "        ask=(@PYTHON@ -S -c @CODE@)"
    ),
    "zsh": (
        "[[ $program == queuectl && ${commands[queuectl]-} == @PROGRAM@ && -x @PYTHON@ ]] &&\n"
        "        ask=(@PYTHON@ -S -c @CODE@)"
    ),
    "fish": (
        "set -l found (command --search queuectl)\n"
        '    if test "$program" = queuectl -a "$found" = @PROGRAM@ -a -x @PYTHON@\n'
        "        set ask @PYTHON@ -S -c @CODE@\n"
        "    end"
    ),
}
# No module may come from the current folder. The folders of the packages are passed in; after an
# update of the interpreter they may be elsewhere.
_CODE = """import gc, os, sys
gc.disable()
sys.path[0] or sys.path.pop(0)
sys.path += @FOLDERS@
try:
    from queuectl.completion.tab_completion import answer
except ImportError:
    import site
    site.main()
    from queuectl.completion.tab_completion import answer
sys.stdout.reconfigure(errors="replace")
code = answer(sys.argv[2:])
sys.stdout.flush()
os._exit(code)"""


def completion(context: Context, args: dict[str, Any]) -> Result:
    """The script for one shell."""
    shell, program = args["shell"], os.path.abspath(sys.argv[0])
    is_command = os.path.basename(program) == "queuectl" and os.path.isfile(program)
    script = _SCRIPTS[shell]
    if is_command and sys.executable:
        script = script.replace("@DIRECTLY@", _DIRECTLY[shell])
    else:
        script = script.replace("    @DIRECTLY@\n", "")
    facts = (("PROGRAM", program), ("PYTHON", sys.executable), ("CODE", direct_code()))
    for name, text in facts:
        script = script.replace(f"@{name}@", quote(text))
    return Result([script])


def direct_code() -> str:
    """What this interpreter runs, with -S, to answer a Tab without the command file."""
    packages = (path for path in sys.path if path.endswith("-packages"))
    folders = dict.fromkeys((os.path.dirname(queuectl.__path__[0]), *packages))
    return _CODE.replace("@FOLDERS@", repr([*folders]))
