"""The running kernel's types: member offsets, enum names and functions from ``/sys/kernel/btf``.

Only what a probe needs: structs with their members' bit offsets, enums, and which functions take a given struct. The
format is that of Documentation/bpf/btf.rst; reading 5.5 MB takes about 0.1 s. A module's types
(``/sys/kernel/btf/<module>``) continue the numbering and the strings of vmlinux.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path("/sys/kernel/btf")
MAGIC = 0xEB9F
#: No type of a kernel is nested or renamed deeper.
DEEPEST = 64

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(1, 12)
FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(12, 20)


class BtfError(Exception):
    """The kernel's type information is absent or not as documented."""


class Btf:
    """Struct members, enums and functions, found by name. ``base`` is vmlinux where ``data`` is a module's."""

    #: Where a module's strings begin.
    strings_end: int

    def __init__(self, data: bytes, base: Btf | None = None) -> None:
        try:
            self._read(data, base)
        except (struct.error, IndexError) as error:
            raise BtfError(f"cut short: {error}") from None

    def _read(self, data: bytes, base: Btf | None) -> None:
        magic, _version, _flags, header, type_off, type_len, str_off, str_len = struct.unpack_from(
            "<HBBIIIII", data
        )
        if magic != MAGIC:
            raise BtfError("not BTF")
        self._data = data
        self._base = base
        self._strings = header + str_off
        self._first_string = base.strings_end if base else 0
        self.strings_end = self._first_string + str_len
        #: kind, vlen, size or type, place; a module's first type follows the last of vmlinux.
        self._types: list[tuple[int, int, int, int]] = [] if base else [(0, 0, 0, 0)]
        self.first_type = len(base) if base else 0
        self._names: dict[tuple[int, str], int] = {}
        place, end = header + type_off, header + type_off + type_len
        unpack = struct.Struct("<III").unpack_from
        if end > len(data):
            raise BtfError("cut short")
        while place < end:
            name, info, size = unpack(data, place)
            kind, vlen = info >> 24 & 0x1F, info & 0xFFFF
            place += 12
            self._types.append((kind, vlen, size, place))
            if name and kind in (STRUCT, UNION, ENUM, ENUM64, FUNC):
                self._names.setdefault((kind, self._text(name)), self.first_type + len(self._types) - 1)
            place += _extra(kind, vlen)
        if place > end:
            raise BtfError("cut short")

    def __len__(self) -> int:
        """The number that the next type would have."""
        return self.first_type + len(self._types)

    def _text(self, offset: int) -> str:
        if self._base and offset < self._first_string:
            return self._base._text(offset)
        start = self._strings + offset - self._first_string
        end = self._data.find(b"\0", start)
        if end < 0:
            raise BtfError("a name runs past the end")
        return self._data[start:end].decode("utf-8", "replace")

    def _type(self, index: int) -> tuple[int, int, int, int]:
        if self._base and index < self.first_type:
            return self._base._type(index)
        try:
            return self._types[index - self.first_type]
        except IndexError:
            raise BtfError(f"no type {index}") from None

    def _home(self, index: int) -> Btf:
        return self._base if self._base and index < self.first_type else self

    def _named(self, kind: int, name: str) -> int | None:
        found = self._names.get((kind, name))
        return self._base._named(kind, name) if found is None and self._base else found

    def offset(self, type_name: str, *path: str) -> int:
        """The byte offset of ``type_name``'s member at ``path``, through embedded structs and unnamed unions."""
        index = self._named(STRUCT, type_name)
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

    def _member(self, index: int, wanted: str, depth: int = 0) -> tuple[int, int] | None:
        if depth > DEEPEST:
            raise BtfError(f"a type that holds itself: {index}")
        index = self._plain(index)
        home = self._home(index)
        kind, vlen, _size, place = self._type(index)
        if kind not in (STRUCT, UNION):
            return None
        flagged = struct.unpack_from("<I", home._data, place - 8)[0] >> 31
        for position in range(vlen):
            name, type_id, bits = struct.unpack_from("<III", home._data, place + 12 * position)
            bits = bits & 0xFFFFFF if flagged else bits
            text = self._text(name)
            if text == wanted:
                return bits, type_id
            if not text:
                inner = self._member(type_id, wanted, depth + 1)
                if inner is not None:
                    return bits + inner[0], inner[1]
        return None

    def _plain(self, index: int) -> int:
        for _ in range(DEEPEST):
            kind, _vlen, target, _place = self._type(index)
            if kind not in (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG):
                return index
            index = target
        raise BtfError(f"a type that names itself: {index}")

    def enum(self, name: str) -> dict[int, str]:
        """The names of an enum's values; negative values as the kernel's unsigned ones."""
        index = self._named(ENUM, name)
        if index is None:
            raise BtfError(f"no enum {name}")
        home = self._home(index)
        _kind, vlen, _size, place = self._type(index)
        pairs = (struct.unpack_from("<II", home._data, place + 8 * position) for position in range(vlen))
        return {value: self._text(text) for text, value in pairs}

    def function(self, name: str) -> int | None:
        """The type number of a function, None where there is none of that name."""
        return self._names.get((FUNC, name))

    def functions_taking(self, struct_name: str, most: int = 5) -> Iterator[tuple[str, int]]:
        """(function, position) for every function of this BTF with a pointer to ``struct_name`` among its first
        ``most`` parameters; position counts from 0."""
        wanted = self._named(STRUCT, struct_name)
        if wanted is None:
            raise BtfError(f"no struct {struct_name}")
        for (kind, name), index in self._names.items():
            if kind != FUNC:
                continue
            position = self._parameter(self._type(index)[2], wanted, most)
            if position is not None:
                yield name, position

    def _parameter(self, prototype: int, wanted: int, most: int) -> int | None:
        kind, vlen, _returns, place = self._type(prototype)
        if kind != FUNC_PROTO:
            return None
        home = self._home(prototype)
        for position in range(min(vlen, most)):
            type_id = struct.unpack_from("<I", home._data, place + 8 * position + 4)[0]
            index = self._plain(type_id)
            kind, _vlen, target, _place = self._type(index)
            if kind == PTR and self._plain(target) == wanted:
                return position
        return None


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
        return Btf((FOLDER / "vmlinux").read_bytes())
    except OSError as error:
        raise BtfError(
            f"{FOLDER}/vmlinux: {error.strerror}: the kernel shows no types (CONFIG_DEBUG_INFO_BTF)"
        ) from None


def modules(base: Btf) -> Iterator[tuple[str, Btf]]:
    """(name, types) of every loaded module that shows its types."""
    try:
        names = sorted(path.name for path in FOLDER.iterdir() if path.name != "vmlinux")
    except OSError:
        return
    for name in names:
        try:
            yield name, Btf((FOLDER / name).read_bytes(), base)
        except (OSError, BtfError):
            continue
