"""``deadhop lab verify``: the Linux model against the running kernel, on random topologies.

Each topology is built in two nameless namespaces, its packets are sent for real, and the kernel is asked what became
of them: by listening on the wire and on local raw sockets, by the drop reason of ``skb:kfree_skb`` where BPF may be
loaded, by the ICMP errors that come back. The model sees nothing but what ``ip -j``, ``sysctl -a`` and ``nft -j``
print. A disagreement is shrunk to the lines that matter and comes back as a scenario.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable

import msgspec

from deadhop.lab.verify.compare import Disagreement, Result, attempt
from deadhop.lab.verify.drops import DropProbe, NoProbe
from deadhop.lab.verify.generate import KINDS, generate
from deadhop.lab.verify.shrink import shrink
from deadhop.lab.verify.topology import Topology

__all__ = ["KINDS", "CannotVerify", "Report", "unavailable", "verify"]


class CannotVerify(Exception):
    """This machine or this user cannot make namespaces; the message says why."""


class Report(msgspec.Struct, kw_only=True):
    """What a run found. ``covered`` counts the kernel's ends; ``scenarios`` holds one text per disagreement."""

    topologies: int = 0
    packets: int = 0
    unknown: int = 0
    disagreements: int = 0
    covered: Counter[str] = msgspec.field(default_factory=Counter)
    unknowns: Counter[str] = msgspec.field(default_factory=Counter)
    scenarios: list[str] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)


def unavailable() -> str:
    """Why this machine cannot run :func:`verify`, empty where it can."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root"
    return ""


def verify(
    random: int = 100,
    seed: int = 1,
    *,
    kinds: tuple[str, ...] = KINDS,
    shrinking: bool = True,
    progress: Callable[[int, Report], None] | None = None,
) -> Report:
    """Tries ``random`` topologies of the seeds from ``seed`` on, the kinds in turn.

    ``progress`` is called after each. Raises :class:`CannotVerify` where namespaces cannot be made. Without the right
    to load BPF the drop reasons are not compared, and a note says so.
    """
    why = unavailable()
    if why:
        raise CannotVerify(why)
    report = Report()
    probe: DropProbe | None = None
    try:
        probe = DropProbe()
    except NoProbe as error:
        report.notes.append(f"drop reasons are not compared: {error}")
    try:
        for number in range(random):
            kind = kinds[number % len(kinds)]
            result = attempt(generate(seed + number, kind), probe)
            _add(report, result)
            for disagreement in result.disagreements:
                report.scenarios.append(_scenario(result.topology, disagreement, probe, shrinking))
            if progress:
                progress(number + 1, report)
    finally:
        if probe:
            probe.close()
    return report


def _add(report: Report, result: Result) -> None:
    report.topologies += 1
    report.packets += result.packets
    report.unknown += result.unknown
    report.disagreements += len(result.disagreements)
    report.covered.update(result.covered)
    report.unknowns.update(result.unknowns)
    report.notes += result.problems


def _scenario(
    topology: Topology, disagreement: Disagreement, probe: DropProbe | None, shrinking: bool
) -> str:
    """The disagreement as text: the smallest topology, the packet, both ends and the model's steps."""
    small = msgspec.structs.replace(topology, flows=[disagreement.flow])
    found = disagreement
    if shrinking:

        def fails(candidate: Topology) -> bool:
            return any(d.what == disagreement.what for d in attempt(candidate, probe).disagreements)

        if fails(small):
            small = shrink(small, fails)
            again = attempt(small, probe).disagreements
            found = again[0] if again else disagreement
        else:
            small = topology
    steps = [f"  {step.function}: {step.decided_by}: {step.text}" for step in found.answer.steps]
    return "\n".join(
        [
            small.scenario(),
            f"=> {found.what}",
            f"kernel: {msgspec.json.encode(found.truth).decode()}",
            f"model: {found.answer.disposition} {found.answer.reason} {found.answer.out} {found.answer.icmp}",
            *steps,
        ]
    )
