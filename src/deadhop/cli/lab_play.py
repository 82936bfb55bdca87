"""``deadhop lab list``, ``run``, ``up`` and ``down``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from deadhop.lab.scenarios import Scenario


@click.command("list", epilog="\b\nExamples:\n  deadhop lab list")
def list_() -> int:
    """The scenarios that ship, and the labs that are up."""
    from deadhop.lab import scenarios
    from deadhop.lab.topology import holder

    found = [scenarios.load(name) for name in scenarios.shipped()]
    width = max(len(s.name) for s in found)
    for scenario in found:
        missing = scenario.missing()
        click.echo(f"{scenario.name:<{width}}  {scenario.title}" + (f"  [{missing}]" if missing else ""))
    for state in holder.states():
        click.echo(f"up: {state.name} (pid {state.pid}): {', '.join(state.namespaces)}")
    return 0


@click.command(
    "run",
    epilog="\b\nExamples:\n  sudo deadhop lab run mtu-df\n  sudo deadhop lab run ./my.yaml --keep evidence/",
)
@click.argument("name", metavar="FILE|NAME")
@click.option(
    "--keep", type=click.Path(file_okay=False, path_type=Path), help="Keep the evidence in this folder."
)
def run(name: str, keep: Path | None) -> int:
    """Build a scenario, play its steps, and say what was sent, what the kernel did and what was expected.

    Exit status: 0 everything as expected, 1 not, 2 the file is wrong, 3 this machine lacks something.
    """
    scenario = _load(name)
    if why := _cannot(scenario):
        click.echo(f"{scenario.name} cannot run here: {why}", err=True)
        return 3
    from deadhop.cli.sigterm import end_on_sigterm
    from deadhop.lab.topology.made import Lab, LabError
    from deadhop.lab.topology.story import Story

    end_on_sigterm()
    story = Story()
    with Lab() as lab:
        into = keep or lab.scratch / "evidence"
        into.mkdir(parents=True, exist_ok=True)
        try:
            scenario.run(story, lab, into)
        except LabError as error:
            click.echo(f"{scenario.name}: {error}", err=True)
            return 1
        story.end()
        if keep:
            story.say(f"the evidence is in {keep}")
    return 1 if story.failed else 0


@click.command(
    "up",
    epilog="\b\nExamples:\n  sudo deadhop lab up mtu-df\n  sudo deadhop lab up mtu-df --detach; deadhop lab down mtu-df",
)
@click.argument("name", metavar="FILE|NAME")
@click.option("--detach", is_flag=True, help="Leave it up; `deadhop lab down NAME` removes it.")
def up(name: str, detach: bool) -> int:
    """Build a scenario with its services, and hold it until Ctrl-C."""
    scenario = _load(name)
    if scenario.topology is None:
        raise click.UsageError(f"{scenario.name} is a played scenario and has nothing to hold: use lab run")
    if why := _cannot(scenario):
        click.echo(f"{scenario.name} cannot be built here: {why}", err=True)
        return 3
    from deadhop.lab.topology import holder
    from deadhop.lab.topology.made import LabError

    try:
        if detach:
            state = holder.detach(scenario.topology)
            _entrances(state.namespaces)
            click.echo(f"it stays up (pid {state.pid}) until: deadhop lab down {state.name}")
            return 0
        holder.hold(scenario.topology, lambda state: _held(state.namespaces))
    except LabError as error:
        click.echo(f"{scenario.name}: {error}", err=True)
        return 1
    return 0


@click.command("down", epilog="\b\nExamples:\n  sudo deadhop lab down mtu-df\n  sudo deadhop lab down --all")
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--all", "every", is_flag=True, help="Every lab that is up, and what a crashed one left.")
def down(name: str | None, every: bool) -> int:
    """Remove a lab that `up --detach` left up."""
    from deadhop.lab.topology import holder, owner
    from deadhop.lab.topology.made import LabError

    if not name and not every:
        raise click.UsageError("which one? NAME, or --all")
    wanted = [s for s in holder.states() if every or s.name == name]
    if not wanted and not every:
        raise click.UsageError(f"no lab {name!r} is up")
    failed = False
    for state in wanted:
        try:
            holder.end(state)
        except LabError as error:
            click.echo(str(error), err=True)
            failed = True
        else:
            click.echo(f"{state.name} is down")
    for left in owner.sweep():
        click.echo(f"removed {left}, left by a process that is gone")
    return 1 if failed else 0


def _load(name: str) -> Scenario:
    from deadhop.evidence.topology import TopologyError
    from deadhop.lab import scenarios

    try:
        return scenarios.load(name)
    except (LookupError, TopologyError) as error:
        raise click.UsageError(str(error.args[0])) from None


def _cannot(scenario: Scenario) -> str:
    if sys.platform != "linux":
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "making network namespaces needs root (try sudo)"
    return scenario.missing()


def _entrances(names: dict[str, str]) -> None:
    for short, full in names.items():
        click.echo(f"  {short:<12} ip netns exec {full} sh")


def _held(names: dict[str, str]) -> None:
    _entrances(names)
    click.echo("Ctrl-C removes it.", err=True)
