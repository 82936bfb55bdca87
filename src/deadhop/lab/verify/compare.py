"""One topology tried: the kernel's truth beside the model's answer, and where they differ."""

from __future__ import annotations

import ipaddress
from collections import Counter

import msgspec

from deadhop.evidence.namespace import load
from deadhop.hops.linux.walk import walk_packet
from deadhop.lab.verify.drops import DropProbe
from deadhop.lab.verify.router import Router, neighbour_mac
from deadhop.lab.verify.topology import Topology
from deadhop.lab.verify.truth import PATIENT, SETTLE, Observer, Truth
from deadhop.model.packet import PacketAnswer, PacketFlow
from deadhop.model.trace import Disposition


class Disagreement(msgspec.Struct, kw_only=True):
    """A packet that the kernel and the model see differently."""

    flow: PacketFlow
    truth: Truth
    answer: PacketAnswer
    what: str


class Result(msgspec.Struct, kw_only=True):
    """A topology's packets: how many, how many the model left open, and the disagreements."""

    topology: Topology
    packets: int = 0
    unknown: int = 0
    disagreements: list[Disagreement] = msgspec.field(default_factory=list)
    covered: Counter[str] = msgspec.field(default_factory=Counter)
    unknowns: list[str] = msgspec.field(default_factory=list)
    problems: list[str] = msgspec.field(default_factory=list)


def differs(truth: Truth, answer: PacketAnswer) -> str:
    """What the answer gets wrong, empty where it agrees."""
    if answer.reason == "NEIGH_FAILED" and truth.disposition == "dropped" and not truth.reasons:
        return ""  # the kernel gives up three seconds later, when nobody listens any more
    if str(answer.disposition) != truth.disposition:
        return f"{answer.disposition} instead of {truth.disposition}"
    if answer.disposition is Disposition.FORWARDED:
        stray = [pair for pair in truth.out if pair not in answer.out]
        return f"{answer.out} instead of {truth.out}" if stray else ""
    if answer.disposition is Disposition.DELIVERED:
        return ""
    if answer.reason not in truth.reasons and (answer.reason or truth.reasons):
        return f"reason {answer.reason or 'none'} instead of {', '.join(truth.reasons) or 'none'}"
    told = (answer.icmp.type, answer.icmp.code, answer.icmp.mtu) if answer.icmp else None
    if told != truth.icmp and not truth.errno:
        return f"ICMP {told} instead of {truth.icmp}"
    if answer.tcp_reset != truth.reset and not truth.errno:
        return f"TCP reset {answer.tcp_reset} instead of {truth.reset}"
    if bool(answer.errno) != bool(truth.errno):
        return f"errno {answer.errno or 'none'} instead of {truth.errno or 'none'}"
    return ""


def attempt(topology: Topology, probe: DropProbe | None) -> Result:
    """Builds, sends, reads the evidence, walks, compares. Nothing of it outlives the call.

    What differs is tried once more with patience: on a busy machine an event may come too late to be seen. What still
    differs is sent alone: the model speaks of one packet, and a rate limit may have been used up by one before it (a
    redirect starts the limit of ip_error too, ip_rt_send_redirect).
    """
    result = _attempt(topology, probe, SETTLE)
    if not result.disagreements:
        return result
    result = _attempt(topology, probe, PATIENT)
    if len(topology.flows) > 1:
        result.disagreements = [
            found
            for found in result.disagreements
            if _attempt(msgspec.structs.replace(topology, flows=[found.flow]), probe, PATIENT).disagreements
        ]
    return result


def _attempt(topology: Topology, probe: DropProbe | None, settle: float) -> Result:
    result = Result(topology=topology)
    router = Router(topology)
    try:
        ns, problems = load(router.evidence(), "r")
        result.problems = [f"{problem.source}: {problem.text}" for problem in problems]
        observer = Observer(router, probe, settle)
        try:
            macs = {neighbour_mac(address): address for address in _addresses(topology)}
            truths = observer.run(macs)
        finally:
            observer.close()
    finally:
        router.close()
    for flow, truth in zip(topology.flows, truths, strict=True):
        if not truth.sent:
            continue
        answer = walk_packet(ns, flow)
        result.packets += 1
        result.covered[f"{truth.disposition} {' '.join(truth.reasons)}".strip()] += 1
        if answer.disposition is Disposition.UNKNOWN:
            result.unknown += 1
            result.unknowns.append(answer.unknown)
            continue
        if flow.src.endswith(".255") and not truth.icmp:
            # An error to such an address may be a broadcast's loopback copy, so the observer does not count it.
            answer = msgspec.structs.replace(answer, icmp=None, disposition=_untold(answer.disposition))
        what = differs(truth, answer)
        if what:
            result.disagreements.append(Disagreement(flow=flow, truth=truth, answer=answer, what=what))
    return result


def _untold(disposition: Disposition) -> Disposition:
    return Disposition.DROPPED if disposition is Disposition.REJECTED else disposition


def _addresses(topology: Topology) -> set[str]:
    found = set()
    for line in topology.neighbours:
        found.add(str(ipaddress.ip_address(line.split()[2])))
    return found
