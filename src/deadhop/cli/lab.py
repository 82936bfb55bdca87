"""``deadhop lab``: topologies made real and played, and the Linux model against the running kernel."""

from __future__ import annotations

import click

EXAMPLES = """\b
Examples:
  deadhop lab list
  sudo deadhop lab run mtu-df --keep evidence/     play it, keep the evidence
  sudo deadhop lab up mtu-df                       hold it until Ctrl-C
  sudo deadhop lab up my.yaml --detach             and later: deadhop lab down my
  sudo deadhop lab verify --random 300 --seed 7
"""


class _Lazy(click.Group):
    """Subcommands live in modules of their own, imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return ["list", "run", "up", "down", "verify"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        if cmd_name == "verify":
            from deadhop.cli.lab_verify import verify

            return verify
        from deadhop.cli import lab_play

        return lab_play.COMMANDS[cmd_name]


@click.group("lab", cls=_Lazy, epilog=EXAMPLES)
def command() -> None:
    """Faults made real in network namespaces, and the model checked against the running kernel.

    Nothing outside the namespaces that a lab makes is touched; they go when it ends, however it ends.
    """
