"""Tree to instructions: jumps to ``yes`` or ``no`` by the event's fields on the stack.

Uses r0 to r2. Constants of the packet are compared as the machine loads them, so that nothing is swapped at run time
but ports, whose order matters for ranges.
"""

from __future__ import annotations

import sys

from deadhop.kernel.assembler import FP, R0, R1, R2, Assembler
from deadhop.kernel.capture import at
from deadhop.kernel.filter import nodes as n


def compile_filter(asm: Assembler, node: n.Node, yes: str, no: str) -> None:
    """Appends the test of ``node``; control leaves by ``yes`` or ``no`` and never falls through."""
    match node:
        case n.Everything():
            asm.jump(yes)
        case n.Not(inner):
            compile_filter(asm, inner, no, yes)
        case n.And(left, right):
            more = asm.fresh()
            compile_filter(asm, left, more, no)
            asm.label(more)
            compile_filter(asm, right, yes, no)
        case n.Or(left, right):
            more = asm.fresh()
            compile_filter(asm, left, yes, more)
            asm.label(more)
            compile_filter(asm, right, yes, no)
        case n.Version(number):
            _equal(asm, "version", 1, number, yes, no)
        case n.EtherType(number):
            _equal(asm, "ethertype", 2, _loaded(number.to_bytes(2, "big")), yes, no)
        case n.Protocol(number, version):
            asm.load(1, R0, FP, at("version"))
            asm.jump_if32("ne" if version else "eq", R0, version, no)
            _equal(asm, "proto", 1, number, yes, no)
        case n.Address(side, net):
            asm.load(1, R0, FP, at("version"))
            if net.prefixlen == 0:  # and nothing behind it that the verifier would call unreachable
                asm.jump_if32("eq", R0, net.version, yes)
                asm.jump(no)
                return
            asm.jump_if32("ne", R0, net.version, no)
            for field in (side,) if side else ("src", "dst"):
                other = asm.fresh()
                _inside(asm, field, net, yes, other)
                asm.label(other)
            asm.jump(no)
        case n.Port(side, low, high):
            _ports(asm, side, low, high, yes, no)
        case n.Device(name):
            whole = name.encode().ljust(16, b"\0")
            for half in (0, 8):
                asm.load(8, R0, FP, at("dev") + half)
                asm.imm64(R1, _loaded(whole[half : half + 8]))
                asm.jump_reg("ne", R0, R1, no)
            asm.jump(yes)
        case n.Namespace(inode):
            _equal(asm, "netns", 4, inode, yes, no)
        case n.Reason(number):
            _equal(asm, "reason", 4, number, yes, no)
        case n.Mark(value, mask):
            asm.load(4, R0, FP, at("mark"))
            asm.and32_imm(R0, mask)
            asm.jump_if32("eq", R0, value & mask, yes)
            asm.jump(no)
        case n.Length(low, high):
            asm.load(4, R0, FP, at("len"))
            asm.jump_if32("lt", R0, low, no)
            asm.jump_if32("le", R0, high, yes)
            asm.jump(no)


def _loaded(data: bytes) -> int:
    """The number that a load of these bytes gives on this machine."""
    return int.from_bytes(data, sys.byteorder)


def _equal(asm: Assembler, field: str, size: int, value: int, yes: str, no: str) -> None:
    asm.load(size, R0, FP, at(field))
    asm.jump_if32("eq", R0, value, yes)
    asm.jump(no)


def _inside(asm: Assembler, field: str, net: n.Network, yes: str, no: str) -> None:
    address, mask = net.network_address.packed, net.netmask.packed
    if net.version == 4:
        asm.load(4, R0, FP, at(field))
        asm.and32_imm(R0, _loaded(mask))
        asm.jump_if32("eq", R0, _loaded(address), yes)
        asm.jump(no)
        return
    for half in (0, 8):
        bits = _loaded(mask[half : half + 8])
        if bits == 0:
            break
        asm.load(8, R0, FP, at(field) + half)
        asm.imm64(R1, bits)
        asm.and_reg(R0, R1)
        asm.imm64(R2, _loaded(address[half : half + 8]))
        asm.jump_reg("ne", R0, R2, no)
    asm.jump(yes)


def _ports(asm: Assembler, side: str, low: int, high: int, yes: str, no: str) -> None:
    asm.load(1, R0, FP, at("has_ports"))
    asm.jump_if32("eq", R0, 0, no)
    for field in {"src": ("sport",), "dst": ("dport",)}.get(side, ("sport", "dport")):
        other = asm.fresh()
        asm.load(2, R0, FP, at(field))
        asm.network16(R0)
        asm.jump_if32("lt", R0, low, other)
        asm.jump_if32("le", R0, high, yes)
        asm.label(other)
    asm.jump(no)
