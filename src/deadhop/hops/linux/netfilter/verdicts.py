"""What an operation of a rule decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from deadhop.hops.linux.packet import Packet
from deadhop.model.packet import IcmpError

if TYPE_CHECKING:
    from deadhop.hops.linux.netfilter.state import HookState


class Verdict:
    """A verdict; ``target`` is the chain of a jump or goto."""

    __slots__ = ("kind", "target")

    def __init__(self, kind: str, target: str = "") -> None:
        self.kind = kind
        self.target = target


class Rejected(Verdict):
    """A drop of which the sender was told, if the error or the reset got away."""

    __slots__ = ("icmp", "tcp_reset")

    def __init__(self, icmp: IcmpError | None, tcp_reset: bool) -> None:
        super().__init__("drop")
        self.icmp = icmp
        self.tcp_reset = tcp_reset


#: Go on with the rule; the rule does not match; and the verdicts proper.
NEXT, STOP = Verdict("next"), Verdict("stop")
ACCEPT, DROP, RETURN = Verdict("accept"), Verdict("drop"), Verdict("return")

Operation = Callable[[Packet, "HookState"], Verdict]
