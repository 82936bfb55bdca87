"""``deadhop completion``: a script for bash, zsh or fish."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(
    "completion",
    epilog="\b\nExamples:\n  deadhop completion bash >> ~/.bashrc\n  deadhop completion zsh > ~/.zfunc/_deadhop",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a completion script for your SHELL."""
    from deadhop.cli import group

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(group, {}, "deadhop", "_DEADHOP_COMPLETE").source())
