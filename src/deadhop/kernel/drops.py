"""The drop watch: every packet that the kernel gives up, by the ``skb:kfree_skb`` tracepoint.

The tracepoint hands over the skb, the code address and, since Linux 5.17, the reason, whose numbers move between
kernels: names come from this kernel's BTF. One program is loaded, filter included; only what passes it reaches the
ring buffer, and what a full ring did not take is counted.
"""

from __future__ import annotations

from deadhop.kernel import syscalls
from deadhop.kernel.assembler import FP, R1, R6, R7, R8, Assembler
from deadhop.kernel.btf import Btf, BtfError
from deadhop.kernel.capture import Offsets, at, clear, fill, report
from deadhop.kernel.event import DROPPED, Event
from deadhop.kernel.filter import EVERYTHING, Node, compile_filter
from deadhop.kernel.probe import Probe, types
from deadhop.kernel.syscalls import NoProbe

__all__ = ["DropProbe", "DropReasons", "Event", "NoProbe", "program", "types"]

PREFIX = "SKB_DROP_REASON_"


class DropReasons:
    """This kernel's drop reasons: names without prefix by number, and back. Empty before Linux 5.17."""

    def __init__(self, btf: Btf) -> None:
        try:
            found = btf.enum("skb_drop_reason")
        except BtfError:
            found = {}
        self.names = {value: name.removeprefix(PREFIX) for value, name in found.items()}
        self.numbers = {name: value for value, name in self.names.items()}
        try:
            self._subsystems = btf.enum("skb_drop_reason_subsys")
        except BtfError:
            self._subsystems = {}

    def name(self, number: int) -> str:
        """The reason's name. Those of a subsystem (mac80211, Open vSwitch) have its number in the upper 16 bits:
        ``OPENVSWITCH:3``."""
        if number in self.names:
            return self.names[number]
        subsystem = self._subsystems.get(number >> 16, "") if number >> 16 else ""
        if subsystem:
            return f"{subsystem.removeprefix('SKB_DROP_REASON_SUBSYS_')}:{number & 0xFFFF}"
        return str(number)


def program(btf: Btf, ring: int, counters: int, filter_: Node = EVERYTHING, *, reasons: bool = True) -> bytes:
    """The instructions on raw_tp/kfree_skb. Raises :class:`~deadhop.kernel.btf.BtfError`."""
    asm = Assembler()
    asm.mov(R6, R1)
    asm.load(8, R7, R6, 0)
    clear(asm)
    asm.load(8, R8, R6, 8)
    asm.store(8, FP, at("location"), R8)
    if reasons:  # a context read past the tracepoint's arguments is refused
        asm.load(8, R8, R6, 16)
        asm.store(4, FP, at("reason"), R8)
    asm.store_imm(1, FP, at("kind"), DROPPED)
    fill(asm, Offsets(btf))
    report(asm, ring, counters, lambda a, yes, no: compile_filter(a, filter_, yes, no))
    return asm.code()


class DropProbe(Probe):
    """Attached while it lives. Without a filter the drops of the whole host pass by, whatever their namespace.

    Raises :class:`NoProbe` with what refused and what would help.
    """

    def __init__(self, filter_: Node = EVERYTHING, btf: Btf | None = None, ring_size: int = 1 << 24) -> None:
        btf = btf or types()
        self.reasons = DropReasons(btf)
        super().__init__(ring_size)
        with self._loading("loading the drop probe"):
            code = program(btf, self.ring.fd, self._counters, filter_, reasons=bool(self.reasons.names))
            loaded = syscalls.load(syscalls.PROG_RAW_TRACEPOINT, code)
            self._open.append(loaded)
            self._open.append(syscalls.raw_tracepoint("kfree_skb", loaded))
