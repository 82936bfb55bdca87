"""bpf(2) and perf_event_open(2) by number: maps, programs, links, each a file descriptor.

Attribute layouts: union bpf_attr in include/uapi/linux/bpf.h. Every refusal is :class:`Refused` with the errno and,
where the kernel's verifier spoke, its last lines.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

#: bpf, perf_event_open by machine (asm/unistd.h).
_NUMBERS = {"x86_64": (321, 298), "aarch64": (280, 241)}

_MAP_CREATE, _MAP_LOOKUP, _PROG_LOAD, _PROG_TEST_RUN, _RAW_TRACEPOINT_OPEN, _LINK_CREATE = 0, 1, 5, 10, 17, 28
MAP_HASH, MAP_ARRAY, MAP_LRU_HASH, MAP_RINGBUF = 1, 2, 9, 27
PROG_KPROBE, PROG_SCHED_CLS, PROG_RAW_TRACEPOINT, PROG_TRACING = 2, 3, 17, 26
ATTACH_FENTRY, ATTACH_KPROBE_MULTI = 24, 42

_IOC_ENABLE, _IOC_SET_BPF = 0x2400, 0x40042408


class NoProbe(Exception):
    """This kernel or this user may not load the probe; the message says why."""


class Refused(NoProbe):
    """A system call said no. ``number`` is the errno."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number


def _call(number: int, *arguments: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise Refused(code, os.strerror(code))
    return int(result)


def _numbers() -> tuple[int, int]:
    machine = platform.machine()
    if machine not in _NUMBERS:
        raise NoProbe(f"the probes know x86_64 and aarch64, this machine is {machine}")
    return _NUMBERS[machine]


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, max(len(attributes), 128))
    return _call(_numbers()[0], command, ctypes.addressof(buffer), len(buffer))


def explained(error: Refused, what: str) -> NoProbe:
    """What to tell a person about a refused ``what``."""
    if error.number in (errno.EPERM, errno.EACCES) and os.geteuid() != 0:
        return NoProbe(f"{what}: {error}: needs root (CAP_BPF and CAP_PERFMON)")
    if error.number == errno.EPERM:
        return NoProbe(f"{what}: {error}: the kernel refuses it even to this root (lockdown, a container without "
                       "CAP_BPF, or a policy)")  # fmt: skip
    if error.number == errno.ENOSYS:
        return NoProbe(f"{what}: this kernel has no bpf(2) (CONFIG_BPF_SYSCALL)")
    return NoProbe(f"{what}: {error}")


def create_map(kind: int, key: int, value: int, entries: int) -> int:
    """A map's descriptor; sizes in bytes, for a ring buffer ``entries`` is its size."""
    return _bpf(_MAP_CREATE, struct.pack("<IIII", kind, key, value, entries))


def lookup(descriptor: int, key: bytes, size: int) -> bytes | None:
    """The value of ``key``, ``size`` bytes, None where there is none."""
    wanted, value = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(size)
    attributes = struct.pack("<IIQQQ", descriptor, 0, ctypes.addressof(wanted), ctypes.addressof(value), 0)
    try:
        _bpf(_MAP_LOOKUP, attributes)
    except Refused as error:
        if error.number == errno.ENOENT:
            return None
        raise
    return value.raw


def load(kind: int, code: bytes, *, attach: int = 0, function: int = 0, btf: int = 0) -> int:
    """Verifies and loads a program. ``function`` is the BTF number of what a tracing program attaches to, ``btf``
    the descriptor of the module's types where it is not in vmlinux."""
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")  # the helpers that read kernel memory ask for it
    for size in (0, 1 << 20):  # the log costs time: only for a program that was refused
        log = ctypes.create_string_buffer(size or 1)
        attributes = struct.pack(
            "<IIQQIIQII16sIIIIQIIQIII",
            kind,
            len(code) // 8,
            ctypes.addressof(instructions),
            ctypes.addressof(licence),
            1 if size else 0,
            size,
            ctypes.addressof(log) if size else 0,
            0,
            0,
            b"deadhop",
            0,
            attach,
            *(0, 0, 0, 0, 0, 0, 0),  # types and lines of the program itself
            function,
            btf,
        )
        try:
            return _bpf(_PROG_LOAD, attributes)
        except Refused as error:
            if size or error.number in (errno.EPERM, errno.ENOSYS):
                said = log.value.decode("utf-8", "replace").strip().splitlines()[-3:]
                raise Refused(error.number, " / ".join([str(error), *said])) from None
    raise AssertionError("unreachable")


def test_run(program: int, data: bytes) -> int:
    """Runs a program on ``data`` as its packet and gives what it returns (BPF_PROG_TEST_RUN)."""
    packet = ctypes.create_string_buffer(data, len(data))
    attributes = bytearray(
        struct.pack("<IIIIQQII", program, 0, len(data), 0, ctypes.addressof(packet), 0, 1, 0)
    )
    buffer = (ctypes.c_char * 128).from_buffer_copy(bytes(attributes).ljust(128, b"\0"))
    _call(_numbers()[0], _PROG_TEST_RUN, ctypes.addressof(buffer), 80)
    return int(struct.unpack_from("<I", bytes(buffer), 4)[0])


def raw_tracepoint(name: str, program: int) -> int:
    """Attaches to a raw tracepoint; with an empty name, a tracing program to what it was loaded for."""
    text = ctypes.create_string_buffer(name.encode())
    return _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QI", ctypes.addressof(text) if name else 0, program))


def kprobe(function: str, program: int, kind: int) -> int:
    """Attaches to a function's entry through perf_event_open(2); ``kind`` is the kprobe PMU's type."""
    text = ctypes.create_string_buffer(function.encode())
    attributes = struct.pack("<IIQQQQQIIQQ", kind, 120, 0, 1, 0, 0, 0, 1, 0, ctypes.addressof(text), 0)
    buffer = ctypes.create_string_buffer(attributes, 120)
    descriptor = _call(_numbers()[1], ctypes.addressof(buffer), -1, 0, -1, 8)  # PERF_FLAG_FD_CLOEXEC
    libc = ctypes.CDLL(None, use_errno=True)
    for request, argument in ((_IOC_SET_BPF, program), (_IOC_ENABLE, 0)):
        if libc.ioctl(descriptor, ctypes.c_ulong(request), ctypes.c_long(argument)) < 0:
            code = ctypes.get_errno()
            os.close(descriptor)
            raise Refused(code, os.strerror(code))
    return descriptor


def kprobe_multi(functions: list[str], program: int) -> int:
    """Attaches to many functions at once (since Linux 5.18 with CONFIG_FPROBE)."""
    texts = [ctypes.create_string_buffer(name.encode()) for name in functions]
    pointers = (ctypes.c_uint64 * len(texts))(*(ctypes.addressof(text) for text in texts))
    attributes = struct.pack(
        "<IIIIIIQQQ", program, 0, ATTACH_KPROBE_MULTI, 0, 0, len(texts), ctypes.addressof(pointers), 0, 0
    )
    return _bpf(_LINK_CREATE, attributes)
