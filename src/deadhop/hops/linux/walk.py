"""One packet through one namespace: :func:`walk_packet`.

The order of what happens to a packet stands here and in the modules it calls, each named for the kernel's own
stage: :mod:`input` (ip_rcv to the routing decision), :mod:`forward` (ip_forward), :mod:`output` (local senders and
the way out), :mod:`icmp` (errors and their own way back), :mod:`netfilter` (the hooks between the stages).
"""

from __future__ import annotations

from typing import NoReturn

import msgspec

from deadhop.hops.linux import input as receive
from deadhop.hops.linux import output
from deadhop.hops.linux.choices import LIMIT, Choices, enumerate_choices
from deadhop.hops.linux.context import Walk
from deadhop.hops.linux.errors import Ended, Unknown
from deadhop.hops.linux.packet import Packet, from_flow
from deadhop.hops.linux.world import World, world_of
from deadhop.model.netns import NetNamespace
from deadhop.model.packet import PacketAnswer, PacketFlow
from deadhop.model.trace import Disposition


def walk_packet(ns: NetNamespace, flow: PacketFlow) -> PacketAnswer:
    """The end of ``flow``'s packet in ``ns``, from its receipt on ``in_dev`` or from a local socket.

    Pure: equal arguments give equal answers. Never raises on a flow or a namespace of the declared types: what
    cannot be said is an answer of disposition ``unknown``.
    """
    try:
        world = world_of(ns)
    except ValueError as error:  # records that no reader of ours would yield
        return PacketAnswer(
            disposition=Disposition.UNKNOWN, unknown=f"a record that cannot be compiled: {error}"
        )
    first = Choices()
    answer = _once(world, flow, first)
    if first.following() is None:
        return answer
    questions: list[str] = []
    answers = list(enumerate_choices(lambda choices: _once(world, flow, choices, questions)))
    return _combined(answers, questions)


def run(walk: Walk, packet: Packet) -> NoReturn:
    """A packet from where it stands to its end: locally made ones go out first, and come back if ``lo`` is the way."""
    if packet.iif is None:
        if packet.route is None:
            output.send(walk, packet)
        output.emit(walk, packet)
        packet.iif = packet.oif
    receive.receive(walk, packet)


def _once(
    world: World, flow: PacketFlow, choices: Choices, questions: list[str] | None = None
) -> PacketAnswer:
    walk = Walk(world, choices, run)
    if questions is not None:
        walk.open_questions = questions
    try:
        packet = from_flow(flow)
        walk.start(packet, flow)
        run(walk, packet)
    except Ended as ended:
        answer = ended.answer
    except Unknown as unknown:
        answer = PacketAnswer(disposition=Disposition.UNKNOWN, unknown=str(unknown))
    return msgspec.structs.replace(answer, steps=tuple(walk.steps), assumed=walk.assumptions())


def _combined(answers: list[PacketAnswer], questions: list[str]) -> PacketAnswer:
    """One answer of several possible ones: equal ends share their next hops, different ones stay open."""
    best = answers[0]
    same = all(
        (a.disposition, a.reason, a.icmp, a.tcp_reset, a.errno)
        == (best.disposition, best.reason, best.icmp, best.tcp_reset, best.errno)
        for a in answers
    )
    if same and len(answers) < LIMIT:
        pairs = sorted({pair for answer in answers for pair in answer.out})
        return msgspec.structs.replace(best, out=tuple(pairs))
    ends = sorted({f"{a.disposition} {a.reason}".strip() for a in answers})
    by = ", ".join(dict.fromkeys(questions)) or "the multipath hash"
    return PacketAnswer(
        disposition=Disposition.UNKNOWN,
        unknown=f"decided by {by}: {' or '.join(ends)}",
        steps=best.steps,
        alternatives=tuple(answers),
        assumed=best.assumed,
    )
