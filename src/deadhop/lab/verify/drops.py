"""The kernel's own word on every dropped packet: ``skb:kfree_skb`` through a small assembled BPF program.

The program reads the reason, the namespace and the first bytes of the network header from the skb and puts them
into a ring buffer. Nothing but bpf(2) is needed: no compiler, no tracefs (specification "Linux forwarding" §6).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
from collections.abc import Iterator

from deadhop.lab.verify.btf import Btf, BtfError, running

_SYSCALL = {"x86_64": 321, "aarch64": 280}
_MAP_CREATE, _PROG_LOAD, _RAW_TRACEPOINT_OPEN = 0, 5, 17
_PROG_TYPE_RAW_TRACEPOINT, _MAP_TYPE_RINGBUF = 17, 27
_PROBE_READ_KERNEL, _RINGBUF_OUTPUT = 113, 130

#: Bytes of the packet that an event holds, from the network header.
SNAP = 112
_EVENT = struct.Struct(f"<QII{SNAP}s")
_RING = 1 << 20


class NoProbe(Exception):
    """This kernel or this user may not load the probe; the message says why."""


class Drop:
    """One dropped packet: the reason's name, the namespace's inode number and the packet's first bytes."""

    __slots__ = ("location", "netns", "packet", "reason")

    def __init__(self, location: int, netns: int, reason: str, packet: bytes) -> None:
        self.location = location
        self.netns = netns
        self.reason = reason
        self.packet = packet


def _bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes, max(len(attributes), 128))
    result = libc.syscall(_SYSCALL[platform.machine()], command, buffer, len(buffer))
    if result < 0:
        raise NoProbe(os.strerror(ctypes.get_errno()))
    return int(result)


def _insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    return struct.pack("<BBhi", code, src << 4 | dst, off, imm)


_MOV64_REG, _MOV64_IMM, _ADD64_IMM, _ADD64_REG = 0xBF, 0xB7, 0x07, 0x0F
_LDX_DW, _LDX_W, _LDX_H, _STX_DW, _STX_W, _ST_DW = 0x79, 0x61, 0x69, 0x7B, 0x63, 0x7A
_JEQ_IMM, _CALL, _EXIT, _LD_IMM64 = 0x15, 0x85, 0x95, 0x18


def _read(dst_off: int, size: int, src_reg: int, src_off: int) -> bytes:
    """probe_read_kernel(fp + dst_off, size, src_reg + src_off)."""
    return (
        _insn(_MOV64_REG, 1, 10)
        + _insn(_ADD64_IMM, 1, imm=dst_off)
        + _insn(_MOV64_IMM, 2, imm=size)
        + _insn(_MOV64_REG, 3, src_reg)
        + _insn(_ADD64_IMM, 3, imm=src_off)
        + _insn(_CALL, imm=_PROBE_READ_KERNEL)
    )


def program(btf: Btf, ring: int) -> bytes:
    """The instructions: event at fp-128 = location, reason, netns, packet; scratch at fp-136 and fp-144."""
    dev = btf.offset("sk_buff", "dev")
    sk = btf.offset("sk_buff", "sk")
    head = btf.offset("sk_buff", "head")
    network = btf.offset("sk_buff", "network_header")
    dev_net = btf.offset("net_device", "nd_net", "net")
    sk_net = btf.offset("sock", "__sk_common", "skc_net", "net")
    inum = btf.offset("net", "ns", "inum")
    event, scratch = -_EVENT.size, -_EVENT.size - 8
    code = _insn(_MOV64_REG, 6, 1) + _insn(_LDX_DW, 7, 6, 0)
    for place in range(event, 0, 8):
        code += _insn(_ST_DW, 10, off=place)
    code += _insn(_ST_DW, 10, off=scratch)
    code += _insn(_LDX_DW, 8, 6, 8) + _insn(_STX_DW, 10, 8, event)
    code += _insn(_LDX_DW, 8, 6, 16) + _insn(_STX_W, 10, 8, event + 8)

    def netns(pointer_off: int, net_off: int, skip: bytes) -> bytes:
        inner = _read(scratch, 8, 8, net_off) + _insn(_LDX_DW, 8, 10, scratch)
        inner += _read(event + 12, 4, 8, inum) + skip
        load = _read(scratch, 8, 7, pointer_off) + _insn(_LDX_DW, 8, 10, scratch)
        return load + _insn(_JEQ_IMM, 8, off=len(inner) // 8, imm=0) + inner

    by_socket = netns(sk, sk_net, b"")
    by_device = netns(dev, dev_net, _insn(0x05, off=len(by_socket) // 8))
    code += by_device + by_socket
    code += _read(scratch, 8, 7, head) + _insn(_LDX_DW, 8, 10, scratch)
    code += _insn(_ST_DW, 10, off=scratch)
    code += _read(scratch, 2, 7, network) + _insn(_LDX_H, 9, 10, scratch)
    code += _insn(_ADD64_REG, 8, 9)
    code += _read(event + 16, SNAP, 8, 0)
    code += struct.pack("<BBhi", _LD_IMM64, 1 << 4 | 1, 0, ring) + struct.pack("<BBhi", 0, 0, 0, 0)
    code += _insn(_MOV64_REG, 2, 10) + _insn(_ADD64_IMM, 2, imm=event)
    code += _insn(_MOV64_IMM, 3, imm=_EVENT.size) + _insn(_MOV64_IMM, 4)
    code += _insn(_CALL, imm=_RINGBUF_OUTPUT)
    return code + _insn(_MOV64_IMM, 0) + _insn(_EXIT)


class DropProbe:
    """Attached while it lives. Events of the whole host pass by: filter by ``netns``."""

    def __init__(self) -> None:
        try:
            btf = running()
            self.names = {
                value: name.removeprefix("SKB_DROP_REASON_")
                for value, name in btf.enum("skb_drop_reason").items()
            }
            self._ring = _bpf(_MAP_CREATE, struct.pack("<IIII", _MAP_TYPE_RINGBUF, 0, 0, _RING))
            code = program(btf, self._ring)
        except (BtfError, KeyError) as error:
            raise NoProbe(str(error)) from None
        self._code = ctypes.create_string_buffer(code, len(code))
        licence = ctypes.create_string_buffer(b"GPL")
        log = ctypes.create_string_buffer(1 << 16)
        attributes = struct.pack(
            "<IIQQIIQ",
            _PROG_TYPE_RAW_TRACEPOINT,
            len(code) // 8,
            ctypes.addressof(self._code),
            ctypes.addressof(licence),
            1,
            len(log),
            ctypes.addressof(log),
        )
        try:
            self._program = _bpf(_PROG_LOAD, attributes)
        except NoProbe as error:
            last = log.value.decode("utf-8", "replace").strip().splitlines()[-3:]
            raise NoProbe(f"{error}: {' / '.join(last)}") from None
        name = ctypes.create_string_buffer(b"kfree_skb")
        self._link = _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QI", ctypes.addressof(name), self._program))
        page = mmap.PAGESIZE
        self._consumer = mmap.mmap(self._ring, page)
        self._producer = mmap.mmap(self._ring, page + 2 * _RING, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._position = 0

    def drain(self) -> Iterator[Drop]:
        """The drops since the last call."""
        end = struct.unpack_from("<Q", self._producer, 0)[0]
        while self._position < end:
            base = mmap.PAGESIZE + (self._position & (_RING - 1))
            header = struct.unpack_from("<I", self._producer, base)[0]
            if header >> 31:
                break  # still being written
            size = header & 0x3FFFFFFF
            if not header >> 30 & 1:
                location, reason, netns, packet = _EVENT.unpack_from(self._producer, base + 8)
                yield Drop(location, netns, self.names.get(reason, str(reason)), packet)
            self._position += (size + 8 + 7) & ~7
        struct.pack_into("<Q", self._consumer, 0, self._position)

    def close(self) -> None:
        self._consumer.close()
        self._producer.close()
        for descriptor in (self._link, self._program, self._ring):
            os.close(descriptor)
