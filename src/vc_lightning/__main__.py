"""All commands behind one name: `vc-lightning convert …`, `python -m vc_lightning convert …`."""

import sys
from importlib import import_module

COMMANDS = {  # modules of commands/ with a `run`, and what each does
    "convert": "give a recording, or a folder of them, another voice",
    "live": "convert while you speak",
    "app": "open the page in the browser",
    "serve": "answer programs over HTTP",
    "voices": "learn, list, share and forget voices",
    "prepare": "check recordings, compute their features, write shards",
    "train": "train a network on recordings",
    "evaluate": "measure how good conversions are",
    "export": "write a network for other programs, or share it on a hub",
}
USAGE = """\
usage: vc-lightning COMMAND [KEY=VALUE …]      vc-lightning COMMAND --help

{commands}
  completion  print the completion of bash and zsh: eval "$(vc-lightning completion)"
"""


def main() -> None:
    """Run the command that the first argument names, with the other arguments."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        lines = [f"  {command:<11} {what}" for command, what in COMMANDS.items()]
        sys.stdout.write(USAGE.format(commands="\n".join(lines)))
    elif name == "completion":
        from vc_lightning.commands.support import completion

        sys.stdout.write(completion.script(list(COMMANDS)))
    elif name in COMMANDS:
        sys.argv = [f"vc-{name}", *arguments]
        import_module(f"vc_lightning.commands.{name}").run()
    else:
        from vc_lightning.commands.support import entry_point, overrides

        entry_point.fail(f"there is no command {name}{overrides.suggestion(name, [*COMMANDS])}")


if __name__ == "__main__":
    main()
