"""The part of every program that fills an event from an skb and, where the filter says so, reports it.

r6 holds the context and r7 the skb when it begins; the event lies on the stack, because the verifier lets no program
write past what it reserved and a filter that says no should cost no ring space. IPv6 extension headers are followed up
to :data:`EXTENSIONS` deep.
"""

from __future__ import annotations

from collections.abc import Callable

from deadhop.kernel import assembler as bpf
from deadhop.kernel.assembler import FP, R0, R1, R2, R3, R4, R7, R8, R9, Assembler
from deadhop.kernel.btf import Btf
from deadhop.kernel.event import OFFSETS, SIZE, SNAP

#: IPv6 extension headers that are followed: hop-by-hop, routing, destination options, fragment.
_LENGTHENED, _FRAGMENT = (0, 43, 60), 44
EXTENSIONS = 4
#: Protocols that begin with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
WITH_PORTS = (6, 17, 33, 132, 136)

#: The event's place on the stack, and eight spare bytes below it.
EVENT, SCRATCH = -SIZE, -SIZE - 8
#: Counters in the array map: events that passed the filter, and those that the full ring did not take.
SEEN, LOST = 0, 8
COUNTERS = 16


def at(field: str) -> int:
    """Where a field of the event lies, from the frame pointer."""
    return EVENT + OFFSETS[field]


class Offsets:
    """Where this kernel keeps what is read. Raises :class:`~deadhop.kernel.btf.BtfError`."""

    def __init__(self, btf: Btf) -> None:
        self.dev = btf.offset("sk_buff", "dev")
        self.sk = btf.offset("sk_buff", "sk")
        self.dst = btf.offset("sk_buff", "_skb_refdst")
        self.head = btf.offset("sk_buff", "head")
        self.network_header = btf.offset("sk_buff", "network_header")
        self.protocol = btf.offset("sk_buff", "protocol")
        self.len = btf.offset("sk_buff", "len")
        self.mark = btf.offset("sk_buff", "mark")
        self.skb_iif = btf.offset("sk_buff", "skb_iif")
        self.dev_net = btf.offset("net_device", "nd_net", "net")
        self.dev_name = btf.offset("net_device", "name")
        self.dev_ifindex = btf.offset("net_device", "ifindex")
        self.dev_mtu = btf.offset("net_device", "mtu")
        self.sk_net = btf.offset("sock", "__sk_common", "skc_net", "net")
        self.inum = btf.offset("net", "ns", "inum")
        self.dst_dev = btf.offset("dst_entry", "dev")


def clear(asm: Assembler) -> None:
    """Zeroes the event: the verifier lets nothing unwritten leave the stack."""
    for place in range(SCRATCH, 0, 8):
        asm.store_imm(8, FP, place, 0)


def fill(asm: Assembler, offsets: Offsets) -> None:
    """Everything but ``location``, ``reason`` and ``kind``, which only the attachment knows. Keeps r6 and r7."""
    asm.store(8, FP, at("skb"), R7)
    _clock(asm)
    _device(asm, offsets)
    for field, size in (("mark", 4), ("len", 4)):
        asm.read(at(field), size, R7, getattr(offsets, field))
    asm.read(at("iif"), 4, R7, offsets.skb_iif)
    asm.read(at("ethertype"), 2, R7, offsets.protocol)
    _network(asm, offsets)


def _clock(asm: Assembler) -> None:
    asm.call(bpf.KTIME)
    asm.store(8, FP, at("time"), R0)
    asm.call(bpf.CPU)
    asm.store(4, FP, at("cpu"), R0)
    asm.call(bpf.PID)
    asm.shift_right(R0, 32)
    asm.store(4, FP, at("pid"), R0)
    asm.mov(R1, FP)
    asm.add_imm(R1, at("comm"))
    asm.mov_imm(R2, 16)
    asm.call(bpf.COMM)


def _pointer(asm: Assembler, base: int, off: int) -> None:
    """r8 = the pointer at base + off."""
    asm.read(SCRATCH, 8, base, off)
    asm.load(8, R8, FP, SCRATCH)


def _device(asm: Assembler, offsets: Offsets) -> None:
    """The device's facts, and the namespace: the device's, else the socket's, else that of the route's device."""
    done, by_socket, by_route, inode = (asm.fresh() for _ in range(4))
    _pointer(asm, R7, offsets.dev)
    asm.jump_if("eq", R8, 0, by_socket)
    asm.read(at("dev"), 16, R8, offsets.dev_name)
    asm.read(at("ifindex"), 4, R8, offsets.dev_ifindex)
    asm.read(at("mtu"), 4, R8, offsets.dev_mtu)
    _pointer(asm, R8, offsets.dev_net)
    asm.jump_if("ne", R8, 0, inode)  # a device of its own making: skb->dev may be reused for other things
    asm.label(by_socket)
    _pointer(asm, R7, offsets.sk)
    asm.jump_if("eq", R8, 0, by_route)
    _pointer(asm, R8, offsets.sk_net)
    asm.jump_if("ne", R8, 0, inode)
    asm.label(by_route)
    _pointer(asm, R7, offsets.dst)
    asm.and_imm(R8, -2)  # SKB_DST_NOREF
    asm.jump_if("eq", R8, 0, done)
    _pointer(asm, R8, offsets.dst_dev)
    asm.jump_if("eq", R8, 0, done)
    _pointer(asm, R8, offsets.dev_net)
    asm.jump_if("eq", R8, 0, done)
    asm.label(inode)
    asm.read(at("netns"), 4, R8, offsets.inum)
    asm.label(done)


def _network(asm: Assembler, offsets: Offsets) -> None:
    """The IP header where the skb is at one: EtherType and version must agree, or none is set and the version fits."""
    four, six, l4, done = (asm.fresh() for _ in range(4))
    _pointer(asm, R7, offsets.head)
    asm.store_imm(8, FP, SCRATCH, 0)
    asm.read(SCRATCH, 2, R7, offsets.network_header)
    asm.load(2, R9, FP, SCRATCH)
    asm.jump_if("eq", R9, 0, done)  # never set
    asm.jump_if("eq", R9, 0xFFFF, done)
    asm.add(R8, R9)
    asm.read(at("packet"), SNAP, R8, 0)
    asm.load(1, R9, FP, at("packet"))
    asm.mov(R2, R9)
    asm.shift_right(R2, 4)
    asm.load(2, R1, FP, at("ethertype"))
    asm.network16(R1)
    asm.jump_if("eq", R1, 0x0800, four)
    asm.jump_if("eq", R1, 0x86DD, six)
    asm.jump_if("ne", R1, 0, done)
    asm.jump_if("eq", R2, 4, four)
    asm.jump_if("ne", R2, 6, done)
    _ipv6(asm, six, l4, done)
    _ipv4(asm, four, l4, done)
    asm.label(l4)
    asm.store(2, FP, at("l4_offset"), R9)
    ports = asm.fresh()
    asm.load(1, R1, FP, at("proto"))
    for proto in WITH_PORTS:
        asm.jump_if("eq", R1, proto, ports)
    asm.jump(done)
    asm.label(ports)
    asm.store_imm(1, FP, at("has_ports"), 1)
    asm.add(R8, R9)
    asm.read(at("sport"), 4, R8, 0)
    asm.label(done)


def _ipv4(asm: Assembler, here: str, l4: str, done: str) -> None:
    """r9 is the first byte, r2 the version; leaves the header's length in r9."""
    asm.label(here)
    asm.jump_if("ne", R2, 4, done)
    asm.and32_imm(R9, 15)
    asm.jump_if("lt", R9, 5, done)
    asm.store_imm(1, FP, at("version"), 4)
    asm.shift_left(R9, 2)
    for field, place, size in (("proto", 9, 1), ("src", 12, 4), ("dst", 16, 4)):
        asm.load(size, R0, FP, at("packet") + place)
        asm.store(size, FP, at(field), R0)
    asm.load(2, R0, FP, at("packet") + 6)
    asm.network16(R0)
    asm.jump_if("set", R0, 0x1FFF, done)  # a later fragment has no ports
    asm.jump(l4)


def _ipv6(asm: Assembler, here: str, l4: str, done: str) -> None:
    asm.label(here)
    asm.jump_if("ne", R2, 6, done)
    asm.store_imm(1, FP, at("version"), 6)
    for field, place in (("src", 8), ("dst", 24)):
        for half in (0, 8):
            asm.load(8, R0, FP, at("packet") + place + half)
            asm.store(8, FP, at(field) + half, R0)
    asm.load(1, R1, FP, at("packet") + 6)
    asm.store(1, FP, at("proto"), R1)
    asm.mov_imm(R9, 40)
    for _ in range(EXTENSIONS):
        extension, fragment, onward = (asm.fresh() for _ in range(3))
        asm.load(1, R1, FP, at("proto"))
        for proto in _LENGTHENED:
            asm.jump_if("eq", R1, proto, extension)
        asm.jump_if("eq", R1, _FRAGMENT, fragment)
        asm.jump(l4)
        asm.label(extension)
        asm.mov(R3, R8)
        asm.add(R3, R9)
        asm.read(SCRATCH, 2, R3, 0)
        asm.load(1, R1, FP, SCRATCH)
        asm.store(1, FP, at("proto"), R1)
        asm.load(1, R1, FP, SCRATCH + 1)
        asm.shift_left(R1, 3)
        asm.add(R9, R1)
        asm.add_imm(R9, 8)
        asm.jump(onward)
        asm.label(fragment)
        asm.mov(R3, R8)
        asm.add(R3, R9)
        asm.read(SCRATCH, 8, R3, 0)
        asm.load(1, R1, FP, SCRATCH)
        asm.store(1, FP, at("proto"), R1)
        asm.add_imm(R9, 8)
        asm.load(2, R1, FP, SCRATCH + 2)
        asm.network16(R1)
        asm.and32_imm(R1, 0xFFF8)
        asm.jump_if("ne", R1, 0, done)
        asm.label(onward)
    asm.jump(l4)


def report(
    asm: Assembler,
    ring: int,
    counters: int,
    chosen: Callable[[Assembler, str, str], None],
    after: Callable[[Assembler], None] | None = None,
) -> None:
    """Puts the event into the ring where ``chosen`` (the compiled filter) jumps to its first label; then ends.
    ``after`` appends what is done behind a reported event."""
    yes, no, kept = (asm.fresh() for _ in range(3))
    chosen(asm, yes, no)
    asm.label(yes)
    asm.map_fd(R1, ring)
    asm.mov(R2, FP)
    asm.add_imm(R2, EVENT)
    asm.mov_imm(R3, SIZE)
    asm.mov_imm(R4, 0)
    asm.call(bpf.RINGBUF_OUTPUT)
    asm.mov_imm(R2, 1)
    asm.map_value(R1, counters, SEEN)
    asm.atomic_add(R1, 0, R2)
    asm.jump_if("eq", R0, 0, kept)
    asm.map_value(R1, counters, LOST)
    asm.atomic_add(R1, 0, R2)
    asm.label(kept)
    if after:
        after(asm)
    asm.label(no)
    asm.mov_imm(R0, 0)
    asm.exit()


__all__ = ["COUNTERS", "EVENT", "LOST", "SEEN", "Offsets", "at", "clear", "fill", "report"]
