"""Judges one connection: egress rules at its source, ingress rules at its destination."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

import msgspec

from deadhop.hops.policy import cilium, kubernetes
from deadhop.hops.policy.peers import Peer
from deadhop.model.observed.kube import KubeObject
from deadhop.model.trace import Step


class PolicyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``allowed`` is None where the evidence lacks labels or a verdict depends on a name (toFQDNs)."""

    allowed: bool | None
    direction: str = ""
    steps: tuple[Step, ...] = ()
    because: str = ""


def _hop(policy: KubeObject) -> ModuleType:
    return kubernetes if policy.kind == "NetworkPolicy" else cilium


def judge(
    policies: Iterable[KubeObject], direction: str, subject: Peer, other: Peer, port: int, protocol: str
) -> PolicyAnswer:
    """One direction: ``subject`` is the end whose policies count, ``port`` that of the receiving end."""
    governing: list[KubeObject] = []
    unknown: list[KubeObject] = []
    for policy in policies:
        hop = _hop(policy)
        if direction not in hop.directions(policy):
            continue
        selected = hop.selects(policy, subject)
        if selected is None:
            unknown.append(policy)
        elif selected:
            governing.append(policy)
    if not governing and not unknown:
        text = f"no policy governs {direction} of {subject.name or subject.ip}"
        return PolicyAnswer(
            allowed=True,
            direction=direction,
            because=text,
            steps=(Step(decided_by="default allow", text=text),),
        )
    for policy in governing:
        if policy.kind != "NetworkPolicy" and cilium.denies(policy, direction, other, port, protocol):
            text = f"{policy.ref} denies {other.name or other.ip}:{port}/{protocol}"
            return PolicyAnswer(
                allowed=False,
                direction=direction,
                because=text,
                steps=(Step(decided_by=policy.ref, text=text, ok=False, sources=(policy.source,)),),
            )
    answers = [
        (policy, _hop(policy).allows(policy, direction, other, port, protocol)) for policy in governing
    ]
    for policy, answer in answers:
        if answer:
            text = f"{policy.ref} allows {other.name or other.ip}:{port}/{protocol} ({direction})"
            return PolicyAnswer(
                allowed=True,
                direction=direction,
                because=text,
                steps=(Step(decided_by=policy.ref, text=text, sources=(policy.source,)),),
            )
    if unknown or any(answer is None for _policy, answer in answers):
        text = f"labels or named ports that decide {direction} of {subject.name or subject.ip} are not in the evidence"
        return PolicyAnswer(
            allowed=None,
            direction=direction,
            because=text,
            steps=(Step(decided_by="policy", text=text, ok=None),),
        )
    names = ", ".join(p.ref for p in governing)
    text = f"{names}: no {direction} rule allows {other.name or other.ip or other.entity}:{port}/{protocol}"
    step = Step(decided_by=names, text=text, ok=False, sources=tuple(p.source for p in governing))
    return PolicyAnswer(allowed=False, direction=direction, because=text, steps=(step,))


def decide(
    policies: Iterable[KubeObject], source: Peer, destination: Peer, port: int, protocol: str = "TCP"
) -> PolicyAnswer:
    """Egress at the source, then ingress at the destination; the first denial ends it."""
    every = list(policies)
    egress = judge(every, "egress", source, destination, port, protocol)
    if egress.allowed is False:
        return egress
    ingress = judge(every, "ingress", destination, source, port, protocol)
    allowed = ingress.allowed if egress.allowed else (False if ingress.allowed is False else None)
    because = ingress.because if ingress.allowed is not True else egress.because
    return PolicyAnswer(
        allowed=allowed, direction="both", because=because, steps=(*egress.steps, *ingress.steps)
    )
