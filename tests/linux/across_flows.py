"""The datagrams that a topology's steps send, as flows for the model: there, and the echo's answer back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from deadhop.hops.linux.across import Wiring, walk_across
from deadhop.model.packet import PacketFlow
from deadhop.model.topology import Service, Topology
from deadhop.model.trace import Disposition

HEADERS = 28


class Asked(NamedTuple):
    """One step of datagrams: what it says, from where, the flow, and whether the kernel lets them be answered."""

    say: str
    netns: str
    flow: PacketFlow
    reply: PacketFlow
    answered: bool
    drops: dict[str, list[str]]


def asked(topology: Topology) -> Iterator[Asked]:
    """The datagram steps before the first fault, fix or collection."""
    for step in topology.steps:
        if step.collect or step.fix or step.fault:
            return
        if step.udp is None or step.expect.answered is None:
            continue
        device = topology.namespaces[step.in_]
        source = step.udp.source or next(iter(device.addresses.values()))[0].partition("/")[0]
        host, _, port = step.udp.to.rpartition(":")
        echo = next(
            (s for s in topology.services if s.listen == step.udp.to), Service(in_="", kind="udp-echo")
        )
        flow = PacketFlow(
            src=source, dst=host.strip("[]"), proto="udp", sport=40000, dport=int(port),
            length=step.udp.size + HEADERS, pmtudisc=step.udp.pmtudisc,
        )  # fmt: skip
        reply = PacketFlow(
            src=flow.dst, dst=flow.src, proto="udp", sport=flow.dport, dport=flow.sport, ct_state="established",
            length=(echo.size or step.udp.size) + HEADERS, pmtudisc=echo.pmtudisc,
        )  # fmt: skip
        every = step.expect.answered == step.udp.count
        yield Asked(step.say, step.in_, flow, reply, every, step.expect.drops)


def answered(wiring: Wiring, step: Asked) -> tuple[bool | None, str]:
    """Whether the datagram arrives and its echo comes back, by the model; None where it does not know. And how."""
    there = walk_across(wiring, step.netns, step.flow)
    if there.answer.disposition is not Disposition.DELIVERED:
        known = there.answer.disposition is not Disposition.UNKNOWN
        return (
            False if known else None
        ), f"{there.answer.disposition} {there.answer.reason} {there.answer.unknown} in {there.netns}"
    end = walk_across(wiring, there.netns, step.reply)
    told = end.answer.disposition
    says = f"answer {told} {end.answer.reason} {end.answer.unknown} in {end.netns}"
    return (
        None if told is Disposition.UNKNOWN else told is Disposition.DELIVERED and end.netns == step.netns
    ), says
