"""BPF instructions with labels: a program is written down, then :meth:`Assembler.code` resolves its jumps.

Encoding: Documentation/bpf/standardization/instruction-set.rst. Only what the probes use is here. Registers are
numbers: r0 the answer of a call, r1 to r5 its arguments (lost by it), r6 to r9 kept, r10 the frame.
"""

from __future__ import annotations

import struct

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FP = range(11)

#: Helper functions (include/uapi/linux/bpf.h, enum bpf_func_id).
MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, KTIME, CPU, PID, COMM = 1, 2, 3, 5, 8, 14, 16
SKB_LOAD_BYTES, PROBE_READ, RINGBUF_OUTPUT, FUNC_IP = 26, 113, 130, 173

_SIZE = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
_LDX, _ST, _STX = 0x61, 0x62, 0x63  # with BPF_MEM and size W; other sizes replace bits 3 and 4
_JUMPS = {"eq": 0x10, "gt": 0x20, "ge": 0x30, "set": 0x40, "ne": 0x50, "lt": 0xA0, "le": 0xB0}
_MAP_FD, _MAP_VALUE = 1, 2


class Assembler:
    """The program so far. Every method appends; jumps name labels that may be placed later."""

    def __init__(self) -> None:
        self._insns: list[tuple[int, int, int, int, int, str]] = []
        self._labels: dict[str, int] = {}
        self._fresh = 0

    def label(self, name: str) -> None:
        """Places ``name`` here."""
        assert name not in self._labels, name
        self._labels[name] = len(self._insns)

    def fresh(self) -> str:
        """A label name that nobody else has."""
        self._fresh += 1
        return f".{self._fresh}"

    def _add(self, code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0, to: str = "") -> None:
        self._insns.append((code, dst, src, off, imm, to))

    # -- moves and arithmetic ----------------------------------------------------------------------------------

    def mov(self, dst: int, src: int) -> None:
        self._add(0xBF, dst, src)

    def mov_imm(self, dst: int, value: int) -> None:
        self._add(0xB7, dst, imm=value)

    def imm64(self, dst: int, value: int) -> None:
        """A full 64-bit constant."""
        self._wide(dst, 0, value & 0xFFFFFFFF, value >> 32)

    def add(self, dst: int, src: int) -> None:
        self._add(0x0F, dst, src)

    def add_imm(self, dst: int, value: int) -> None:
        self._add(0x07, dst, imm=value)

    def and_reg(self, dst: int, src: int) -> None:
        self._add(0x5F, dst, src)

    def and32_imm(self, dst: int, value: int) -> None:
        """The low 32 bits and ``value``; the rest becomes 0."""
        self._add(0x54, dst, imm=value)

    def and_imm(self, dst: int, value: int) -> None:
        """64 bits and ``value``, which is sign-extended: -2 clears the lowest bit."""
        self._add(0x57, dst, imm=value)

    def shift_right(self, dst: int, bits: int) -> None:
        self._add(0x77, dst, imm=bits)

    def shift_left(self, dst: int, bits: int) -> None:
        self._add(0x67, dst, imm=bits)

    def network16(self, dst: int) -> None:
        """Turns 16 bits read from a packet into the host's order, and back."""
        self._add(0xDC, dst, imm=16)

    # -- memory ------------------------------------------------------------------------------------------------

    def load(self, size: int, dst: int, base: int, off: int) -> None:
        self._add(_LDX | _SIZE[size], dst, base, off)

    def store(self, size: int, base: int, off: int, src: int) -> None:
        self._add(_STX | _SIZE[size], base, src, off)

    def store_imm(self, size: int, base: int, off: int, value: int) -> None:
        self._add(_ST | _SIZE[size], base, 0, off, value)

    def atomic_add(self, base: int, off: int, src: int) -> None:
        """Adds 64 bits without a race (BPF_ATOMIC | BPF_ADD)."""
        self._add(0xDB, base, src, off, 0)

    def _wide(self, dst: int, kind: int, low: int, high: int) -> None:
        self._add(0x18, dst, kind, 0, low)
        self._add(0, imm=high)

    def map_fd(self, dst: int, descriptor: int) -> None:
        self._wide(dst, _MAP_FD, descriptor, 0)

    def map_value(self, dst: int, descriptor: int, off: int) -> None:
        """The address inside an array map's first value."""
        self._wide(dst, _MAP_VALUE, descriptor, off)

    # -- control -----------------------------------------------------------------------------------------------

    def jump(self, to: str) -> None:
        self._add(0x05, to=to)

    def jump_if(self, test: str, reg: int, value: int, to: str) -> None:
        """64-bit comparison with a sign-extended constant."""
        self._add(0x05 | _JUMPS[test], reg, imm=value, to=to)

    def jump_if32(self, test: str, reg: int, value: int, to: str) -> None:
        """Unsigned comparison of the low 32 bits (since Linux 5.1)."""
        self._add(0x06 | _JUMPS[test], reg, imm=value, to=to)

    def jump_reg(self, test: str, reg: int, other: int, to: str) -> None:
        self._add(0x0D | _JUMPS[test], reg, other, to=to)

    def call(self, helper: int) -> None:
        self._add(0x85, imm=helper)

    def exit(self) -> None:
        self._add(0x95)

    # -- what several programs share ---------------------------------------------------------------------------

    def read(self, frame_off: int, size: int, base: int, off: int) -> None:
        """bpf_probe_read_kernel(frame + frame_off, size, base + off): a bad address leaves zeroes."""
        self.mov(R1, FP)
        self.add_imm(R1, frame_off)
        self.mov_imm(R2, size)
        self.mov(R3, base)
        if off:
            self.add_imm(R3, off)
        self.call(PROBE_READ)

    def code(self) -> bytes:
        """The instructions as the kernel takes them, eight bytes each."""
        out = bytearray()
        for place, (code, dst, src, off, imm, to) in enumerate(self._insns):
            if to:
                off = self._labels[to] - place - 1
            out += struct.pack("<BBhI", code, src << 4 | dst, off, imm & 0xFFFFFFFF)
        return bytes(out)

    def __len__(self) -> int:
        return len(self._insns)
