"""What a walk carries along: the compiled namespace, the steps so far, the choices, and the ways to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from deadhop.hops.linux.choices import Choices
from deadhop.hops.linux.errors import ERRNO, Ended
from deadhop.hops.linux.packet import Packet
from deadhop.hops.linux.world import World
from deadhop.model.packet import IcmpError, PacketAnswer, PacketFlow
from deadhop.model.record import Source
from deadhop.model.trace import Disposition, Step


class Walk:
    """One packet's walk. ``run`` takes a locally made packet from the LOCAL_OUT hook to its end."""

    def __init__(self, world: World, choices: Choices, run: Callable[[Walk, Packet], NoReturn]) -> None:
        self.world = world
        self.choices = choices
        self.run = run
        self.steps: list[Step] = []
        self.local = False
        self.given_ct: str | None = None
        self.open_questions: list[str] = []
        #: ICMP errors that left the namespace, each with how: whoever walks on carries them further.
        self.errors: list[tuple[Packet, PacketAnswer]] = []
        self._assumed: list[str] = []

    def start(self, packet: Packet, flow: PacketFlow) -> None:
        self.local = flow.in_dev is None
        self.given_ct = flow.ct_state
        if packet.version == 4 and self.world.assumed4:
            self.assume(self.world.assumed4)
        if packet.version == 6 and self.world.assumed6:
            self.assume(self.world.assumed6)

    def side(self) -> Walk:
        """A walk for a packet that the kernel makes on the way: same choices, its own steps."""
        other = Walk(self.world, self.choices, self.run)
        other.open_questions = self.open_questions
        other.errors = self.errors
        other._assumed = self._assumed
        return other

    def assume(self, text: str) -> None:
        if text not in self._assumed:
            self._assumed.append(text)

    def uncertain(self, what: str) -> bool:
        """Whether an undeterminable test holds: both ways are walked, and matter only where they end differently."""
        self.open_questions.append(what)
        return bool(self.choices.pick(2))

    def assumptions(self) -> tuple[str, ...]:
        return (*self.world.ns.assumed, *self._assumed)

    def step(
        self,
        decided_by: str,
        text: str,
        function: str,
        sources: tuple[Source, ...] = (),
        *,
        ok: bool | None = True,
        **detail: Any,
    ) -> None:
        self.steps.append(
            Step(decided_by=decided_by, text=text, ok=ok, function=function, sources=sources, detail=detail)
        )

    # -- ends --------------------------------------------------------------------------------------------------

    def drop(
        self,
        reason: str,
        function: str,
        counters: tuple[str, ...] = (),
        icmp: IcmpError | None = None,
        *,
        tcp_reset: bool = False,
        errno: int = 0,
    ) -> NoReturn:
        """The packet dies in ``function``. With ``icmp`` or a reset the sender was told; ``errno`` is a local one's."""
        told = icmp is not None or tcp_reset
        raise Ended(
            PacketAnswer(
                disposition=Disposition.REJECTED if told else Disposition.DROPPED,
                reason=reason,
                icmp=icmp,
                tcp_reset=tcp_reset,
                errno=ERRNO.get(errno, str(errno)) if errno else "",
                function=function,
                counters=counters,
            )
        )

    def refuse(self, errno: int, function: str, counters: tuple[str, ...] = ()) -> NoReturn:
        """A local send fails before a packet exists: the caller gets ``errno``."""
        raise Ended(
            PacketAnswer(
                disposition=Disposition.DROPPED,
                errno=ERRNO.get(errno, str(errno)),
                function=function,
                counters=counters,
            )
        )

    def deliver(self, function: str) -> NoReturn:
        raise Ended(PacketAnswer(disposition=Disposition.DELIVERED, function=function))

    def transmit(self, dev: str, next_hop: str, function: str) -> NoReturn:
        raise Ended(
            PacketAnswer(disposition=Disposition.FORWARDED, out=((dev, next_hop),), function=function)
        )
