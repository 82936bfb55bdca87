"""The scenarios that ship, one file each, found by their names: ``deadhop lab run NAME``.

A scenario is a topology file ``NAME.yaml`` (:mod:`deadhop.model.topology` says what it may hold), or, where YAML cannot
say it, a module ``name.py`` (dashes become underscores) with

- ``TITLE``: one line for ``lab list``;
- ``missing() -> str``: why it cannot run on this machine, empty where it can; cheap, called by ``list`` too;
- ``run(story, lab, keep) -> None``: builds with ``lab`` (:class:`deadhop.lab.topology.made.Lab`: ``add`` a namespace,
  ``ip``, ``sysctl``, ``must``/``run`` a command in it, ``start`` a service, ``inside`` for sockets, ``scratch`` for
  files), tells what it does with ``story`` (:class:`deadhop.lab.topology.story.Story`: ``step``, ``saw``) and what must
  hold with ``story.check(what, held, seen)``, and writes its evidence below ``keep``, a folder that exists. It closes
  nothing: the lab removes its namespaces, processes and files however ``run`` ends. A
  :class:`~deadhop.lab.topology.made.LabError` ends the run with its message.

A topology with ``guest`` is played by a kernel of its own in QEMU (:mod:`deadhop.lab.guest`).

Where both files exist the module wins, and may play the topology itself.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deadhop.evidence.topology import loads
from deadhop.lab.topology.made import Lab
from deadhop.lab.topology.story import Story
from deadhop.model.topology import Topology

FOLDER = Path(__file__).parent
#: Where programs are that are on no user's path.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Scenario:
    """One scenario: ``missing`` says why it cannot run here; ``topology`` is None for a module."""

    name: str
    title: str
    missing: Callable[[], str]
    run: Callable[[Story, Lab, Path], None]
    topology: Topology | None = None


def shipped() -> Iterator[str]:
    """The names of the scenarios that ship, sorted."""
    names = {p.stem for p in FOLDER.glob("*.yaml")}
    names |= {p.stem.replace("_", "-") for p in FOLDER.glob("*.py") if not p.name.startswith("_")}
    yield from sorted(names)


def load(name: str) -> Scenario:
    """A scenario by its name, or by the path of a topology file.

    Raises :class:`~deadhop.evidence.topology.TopologyError` where the file is wrong, :class:`LookupError` where
    there is none.
    """
    path = Path(name)
    if "/" in name or name.endswith((".yaml", ".yml")):
        if not path.is_file():
            raise LookupError(f"{name}: no such file")
        return of_topology(loads(path.read_text(errors="replace"), name))
    if (FOLDER / f"{name.replace('-', '_')}.py").is_file() and not name.startswith("_"):
        module = importlib.import_module(f"deadhop.lab.scenarios.{name.replace('-', '_')}")
        return Scenario(name, module.TITLE, module.missing, module.run)
    shipped_file = FOLDER / f"{name}.yaml"
    if not shipped_file.is_file():
        raise LookupError(f"no scenario {name!r}; there are {', '.join(shipped())}")
    return of_topology(loads(shipped_file.read_text(), str(shipped_file)))


def of_topology(topology: Topology) -> Scenario:
    """The scenario that plays a topology."""

    def run(story: Story, lab: Lab, keep: Path) -> None:
        if topology.guest:
            from deadhop.lab.topology import in_guest

            in_guest.run([topology], story, keep, lab.scratch)
        else:
            from deadhop.lab.topology.play import play

            play(lab, topology, story, keep)

    def missing() -> str:
        if topology.guest:
            from deadhop.lab import guest

            if why := guest.unavailable():
                return why
        return lacking(topology.needs)

    return Scenario(topology.name, topology.title, missing, run, topology)


def lacking(programs: list[str]) -> str:
    """Which of these programs (names or absolute paths) this machine lacks, in words; empty where none."""
    absent = [p for p in programs if not (Path(p).exists() if "/" in p else shutil.which(p, path=_PATH))]
    return f"not installed: {', '.join(absent)}" if absent else ""
