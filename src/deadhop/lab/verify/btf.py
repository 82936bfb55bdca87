"""The running kernel's types: member offsets and enum names from ``/sys/kernel/btf/vmlinux``.

Only what a probe needs: structs with their members' bit offsets, and enums. The format is that of
Documentation/bpf/btf.rst; reading 5.5 MB takes about 0.1 s.
"""

from __future__ import annotations

import struct
from pathlib import Path

VMLINUX = Path("/sys/kernel/btf/vmlinux")
MAGIC = 0xEB9F

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(1, 12)
FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(12, 20)


class BtfError(Exception):
    """The kernel's type information is absent or not as documented."""


class Btf:
    """Struct members and enums, found by name."""

    def __init__(self, data: bytes) -> None:
        magic, _version, _flags, header, type_off, type_len, str_off, _str_len = struct.unpack_from(
            "<HBBIIIII", data
        )
        if magic != MAGIC:
            raise BtfError("not BTF")
        self._data = data
        self._strings = header + str_off
        self._types: list[tuple[int, int, int, int]] = [(0, 0, 0, 0)]  # kind, vlen, size or type, place
        self._names: dict[tuple[int, str], int] = {}
        place, end = header + type_off, header + type_off + type_len
        unpack = struct.Struct("<III").unpack_from
        while place < end:
            name, info, size = unpack(data, place)
            kind, vlen = info >> 24 & 0x1F, info & 0xFFFF
            place += 12
            self._types.append((kind, vlen, size, place))
            if name and kind in (STRUCT, UNION, ENUM, ENUM64):
                self._names[kind, self._text(name)] = len(self._types) - 1
            place += _extra(kind, vlen)

    def _text(self, offset: int) -> str:
        start = self._strings + offset
        return self._data[start : self._data.index(b"\0", start)].decode()

    def offset(self, type_name: str, *path: str) -> int:
        """The byte offset of ``type_name``'s member at ``path``, through embedded structs and unnamed unions."""
        index = self._names.get((STRUCT, type_name))
        if index is None:
            raise BtfError(f"no struct {type_name}")
        total = 0
        for member in path:
            found = self._member(index, member)
            if found is None:
                raise BtfError(f"no member {member} on the way {'.'.join(path)} in {type_name}")
            bits, index = found
            total += bits // 8
        return total

    def _member(self, index: int, wanted: str) -> tuple[int, int] | None:
        kind, vlen, _size, place = self._resolved(index)
        flagged = struct.unpack_from("<I", self._data, place - 8)[0] >> 31
        if kind not in (STRUCT, UNION):
            return None
        for position in range(vlen):
            name, type_id, bits = struct.unpack_from("<III", self._data, place + 12 * position)
            bits = bits & 0xFFFFFF if flagged else bits
            text = self._text(name)
            if text == wanted:
                return bits, type_id
            if not text:
                inner = self._member(type_id, wanted)
                if inner is not None:
                    return bits + inner[0], inner[1]
        return None

    def _resolved(self, index: int) -> tuple[int, int, int, int]:
        while self._types[index][0] in (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG):
            index = self._types[index][2]
        return self._types[index]

    def enum(self, name: str) -> dict[int, str]:
        """The names of an enum's values."""
        index = self._names.get((ENUM, name))
        if index is None:
            raise BtfError(f"no enum {name}")
        _kind, vlen, _size, place = self._types[index]
        pairs = (struct.unpack_from("<Ii", self._data, place + 8 * position) for position in range(vlen))
        return {value: self._text(text) for text, value in pairs}


def _extra(kind: int, vlen: int) -> int:
    """Bytes that follow a type's header."""
    if kind in (INT, VAR, DECL_TAG):
        return 4
    if kind == ARRAY:
        return 12
    if kind in (STRUCT, UNION, DATASEC, ENUM64):
        return 12 * vlen
    if kind in (ENUM, FUNC_PROTO):
        return 8 * vlen
    return 0


def running() -> Btf:
    """The running kernel's types. Raises :class:`BtfError` where it does not show them."""
    try:
        return Btf(VMLINUX.read_bytes())
    except OSError as error:
        raise BtfError(str(error)) from None
