"""Reading the kernel's types: offsets that a compiler gives, functions by what they take, and damaged data."""

from __future__ import annotations

import contextlib
import ctypes
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadhop.kernel.btf import FOLDER, Btf, BtfError, modules, running


def build(types: bytes, strings: bytes) -> bytes:
    return (
        struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings
    )


def small() -> bytes:
    """``struct outer { int a; struct { union { int b; char c; }; int d; }; };`` and ``enum e { ONE = 1, LAST = -1 }``,
    and ``void f(int, const struct outer *)``."""
    names = ("", "int", "outer", "a", "b", "c", "d", "e", "ONE", "LAST", "f", "char")
    strings, at = b"", {}
    for name in names:
        at[name] = len(strings)
        strings += name.encode() + b"\0"

    def header(name: str, kind: int, vlen: int, size: int) -> bytes:
        return struct.pack("<III", at[name], kind << 24 | vlen, size)

    def member(name: str, type_: int, bits: int) -> bytes:
        return struct.pack("<III", at[name], type_, bits)

    types = header("int", 1, 0, 4) + struct.pack("<I", 32)  # 1
    types += header("char", 1, 0, 1) + struct.pack("<I", 8)  # 2
    types += header("", 5, 2, 4) + member("b", 1, 0) + member("c", 2, 0)  # 3: the union
    types += header("", 4, 2, 8) + member("", 3, 0) + member("d", 1, 32)  # 4: the inner struct
    types += header("outer", 4, 2, 12) + member("a", 1, 0) + member("", 4, 32)  # 5
    types += header("e", 6, 2, 4) + struct.pack("<IiIi", at["ONE"], 1, at["LAST"], -1)  # 6
    types += header("", 10, 0, 5)  # 7: const outer
    types += header("", 2, 0, 7)  # 8: pointer to it
    types += header("", 13, 2, 0) + struct.pack("<IIII", 0, 1, 0, 8)  # 9: the prototype
    types += header("f", 12, 0, 9)  # 10
    return build(types, strings)


def test_members_through_unnamed_unions_and_structs() -> None:
    btf = Btf(small())
    assert [btf.offset("outer", name) for name in "abcd"] == [0, 4, 4, 8]
    with pytest.raises(BtfError, match="no member x on the way x in outer"):
        btf.offset("outer", "x")
    with pytest.raises(BtfError, match="no struct inner"):
        btf.offset("inner", "a")


def test_enum_values_are_unsigned() -> None:
    assert Btf(small()).enum("e") == {1: "ONE", 0xFFFFFFFF: "LAST"}


def test_functions_by_what_they_take() -> None:
    btf = Btf(small())
    assert list(btf.functions_taking("outer")) == [("f", 1)]
    assert btf.function("f") == 10
    assert btf.function("g") is None


def test_a_module_goes_on_where_vmlinux_ends() -> None:
    base = Btf(small())
    strings = b"g\0"
    types = struct.pack("<III", 0, 13 << 24 | 1, 0) + struct.pack(
        "<II", 0, 8
    )  # 11: prototype with vmlinux' pointer
    types += struct.pack("<III", base.strings_end, 12 << 24, 11)  # 12: g
    module = Btf(build(types, strings), base)
    assert list(module.functions_taking("outer")) == [("g", 0)]
    assert module.function("g") == 12
    assert module.offset("outer", "d") == 8


def test_the_running_kernel_is_consistent() -> None:
    try:
        btf = running()
    except BtfError as error:
        pytest.skip(str(error))
    pointer = ctypes.sizeof(ctypes.c_void_p)
    assert btf.offset("list_head", "prev") == pointer
    assert btf.offset("sk_buff", "len") < btf.offset("sk_buff", "head")
    assert btf.enum("skb_drop_reason")[0] == "SKB_NOT_DROPPED_YET"
    takes = dict(btf.functions_taking("sk_buff"))
    assert takes["ip_forward"] == 0
    assert takes["ip_output"] == 2
    for _name, module in modules(btf):
        assert len(module) > len(btf)
    assert (FOLDER / "vmlinux").exists()


@given(
    st.integers(0, 400),
    st.binary(max_size=8),
    st.dictionaries(st.integers(24, 330), st.integers(0, 255), max_size=4),
)
def test_damaged_types_are_an_error_and_no_traceback(cut: int, more: bytes, bytes_: dict[int, int]) -> None:
    data = bytearray(small()[:cut] + more)
    for place, value in bytes_.items():
        if place < len(data):
            data[place] = value
    with contextlib.suppress(BtfError):
        btf = Btf(bytes(data))
        btf.offset("outer", "d")
        btf.enum("e")
        list(btf.functions_taking("outer"))
