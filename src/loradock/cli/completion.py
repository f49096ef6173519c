"""`loradock completion bash`: what a shell needs to complete commands and options."""

import os
from enum import StrEnum
from typing import Annotated, Any

import typer

from loradock.cli.output import console

_PROGRAM, _VARIABLE = "loradock", "_LORADOCK_COMPLETE"


class Shell(StrEnum):
    """A shell that typer knows."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="Yours.")]) -> None:
    """Print a shell's completion script. In bash: eval "$(loradock completion bash)"."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    print(get_completion_script(prog_name=_PROGRAM, complete_var=_VARIABLE, shell=shell.value))


def run(command: Any) -> Any:
    """Run it, or answer a shell that asks what could come next. Returns the exit status."""
    if _VARIABLE not in os.environ:
        return command(standalone_mode=False, prog_name=_PROGRAM)
    from typer.completion import get_completion_inspect_parameters

    get_completion_inspect_parameters()  # registers the shells
    console.quiet = True
    return command(standalone_mode=False, prog_name=_PROGRAM, complete_var=_VARIABLE)
