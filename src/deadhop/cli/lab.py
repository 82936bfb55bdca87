"""``deadhop lab``: topologies made real and played, and the Linux model against the running kernel."""

from __future__ import annotations

import click

from deadhop.cli.lazy import LazyGroup

EXAMPLES = """\b
Examples:
  deadhop lab list
  sudo deadhop lab run mtu-df --keep evidence/     play it, keep the evidence
  sudo deadhop lab up mtu-df                       hold it until Ctrl-C
  sudo deadhop lab up my.yaml --detach             and later: deadhop lab down my
  sudo deadhop lab verify --random 300 --seed 7
"""


PLACES = {
    "list": "lab_play:list_",
    "run": "lab_play:run",
    "up": "lab_play:up",
    "down": "lab_play:down",
    "verify": "lab_verify:verify",
}


@click.group("lab", cls=LazyGroup, places=PLACES, epilog=EXAMPLES)
def command() -> None:
    """Faults made real in network namespaces, and the model checked against the running kernel.

    Nothing outside the namespaces that a lab makes is touched; they go when it ends, however it ends.
    """
