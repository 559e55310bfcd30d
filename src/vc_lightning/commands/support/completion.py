"""Completion of commands, keys and choices in bash and zsh, as a script that starts no Python."""

from collections.abc import Sequence

from vc_lightning.commands.support import overrides
from vc_lightning.common import resources

SCRIPT = """\
# Of vc_lightning, for bash and zsh: eval "$(vc-lightning completion)"
if [ -n "$ZSH_VERSION" ]; then autoload -U +X compinit bashcompinit; compinit; bashcompinit; fi
_vc_lightning() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} first=1 name=${{COMP_WORDS[0]##*/}} words=
    COMPREPLY=()
    case $name in
        python*) name=${{COMP_WORDS[1]##*/}} first=2; [[ $name == *.py ]] || return ;;
        vc-lightning) name=${{COMP_WORDS[1]}} first=2 ;;
    esac
    name=${{name#vc-}}
    if [ "$COMP_CWORD" -lt "$first" ]; then
        words='{names} completion'
    else
        case ${{name%.py}} in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    if [ "${{#COMPREPLY[@]}}" = 0 ] && [[ $word == *=* ]]; then
        COMPREPLY=($(compgen -P "${{word%%=*}}=" -f -- "${{word#*=}}"))
    elif [[ ${{COMPREPLY[0]}} == *= ]]; then
        compopt -o nospace 2> /dev/null
    fi
}}
COMP_WORDBREAKS=${{COMP_WORDBREAKS//=}}
complete -o default -F _vc_lightning vc-lightning {programs} python python3
"""


def script(names: Sequence[str]) -> str:
    """Make the script."""
    cases = [f"            {name}) words='{' '.join(words(name))}' ;;" for name in names]
    programs = " ".join(f"vc-{name}" for name in names)
    return SCRIPT.format(names=" ".join(names), cases="\n".join(cases), programs=programs)


def words(name: str) -> list[str]:
    """List what can be typed after a command: `group=choice` and `key=`."""
    keys = overrides.known_keys(name)
    groups = [key for key in keys if (resources.CONF / key).is_dir()]
    choices = [f"{group}={choice}" for group in groups for choice in overrides.group_choices(group)]
    return choices + [f"{key}=" for key in keys if key not in groups]
