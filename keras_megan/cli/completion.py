"""`megan completion`: a script for the shell that completes commands and options.

    eval "$(megan completion bash)"          in ~/.bashrc
    eval "$(megan completion zsh)"           in ~/.zshrc
    megan completion fish | source           in ~/.config/fish/config.fish

The script is made from the parser itself, so it cannot know other options than the
program; it holds nothing but words, and starts no program while completing.
"""

import argparse

SHELLS = ("bash", "zsh", "fish")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "shell", choices=SHELLS, help="the shell that will read the script"
    )


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_megan.cli.main import build_parser

    print(_SCRIPTS[arguments.shell](_words(build_parser())))


def _words(parser: argparse.ArgumentParser) -> dict[str, dict[str, list[str]]]:
    """Command -> option -> the values it takes, if they can be listed."""
    (commands,) = (
        action.choices
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return {
        name: {
            option: list(map(str, action.choices or []))
            for action in sub._actions
            for option in action.option_strings
        }
        for name, sub in commands.items()
    }


def _bash(words: dict[str, dict[str, list[str]]]) -> str:
    cases = "\n".join(
        f"    {name}) options='{' '.join(options)}' ;;"
        for name, options in words.items()
    )
    listed = {o: v for options in words.values() for o, v in options.items() if v}
    chosen = "\n".join(
        f"    {option}) from_words '{' '.join(v)}'; return ;;"
        for option, v in listed.items()
    )
    return f"""\
_megan() {{
  from_words() {{ COMPREPLY=($(compgen -W "$1" -- "$word")); }}
  local word="${{COMP_WORDS[COMP_CWORD]}}" options=''
  case "${{COMP_WORDS[COMP_CWORD-1]}}" in
{chosen}
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then
    from_words '{" ".join(words)} --help --version'; return
  fi
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  if [[ "$word" == -* ]]; then
    from_words "$options"
  else
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}}
complete -o filenames -F _megan megan"""


def _zsh(words: dict[str, dict[str, list[str]]]) -> str:
    return "autoload -U +X bashcompinit && bashcompinit\n" + _bash(words)


def _fish(words: dict[str, dict[str, list[str]]]) -> str:
    lines = [f"complete -c megan -n __fish_use_subcommand -f -a '{' '.join(words)}'"]
    for name, options in words.items():
        seen = f"complete -c megan -n '__fish_seen_subcommand_from {name}'"
        for option, listed in options.items():
            kind = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            chosen = f" -x -a '{' '.join(listed)}'" if listed else ""
            lines.append(f"{seen} {kind}{chosen}")
    return "\n".join(lines)


_SCRIPTS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
