"""The ways to get into a function's entry: kprobe.multi, kprobe, fentry. What works is found by trying.

kprobe.multi (Linux 5.18, CONFIG_FPROBE) attaches one program to a list; kprobe (CONFIG_KPROBES) one perf event a
function; fentry (BPF trampolines, Linux 5.5) loads one program a function and needs the function in vmlinux' types.
A feature probe says less than an attempt: distributions switch each of them off.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from deadhop.kernel import syscalls
from deadhop.kernel.assembler import R6, R7, Assembler
from deadhop.kernel.btf import Btf
from deadhop.kernel.syscalls import NoProbe, Refused

#: Where struct pt_regs keeps the first five arguments, in bytes (arch/x86/include/asm/ptrace.h, arch/arm64/…).
_ARGUMENTS = {"x86_64": (112, 104, 96, 88, 72), "aarch64": (0, 8, 16, 24, 32)}
_KPROBE_TYPE = Path("/sys/bus/event_source/devices/kprobe/type")
_FILTERABLE = tuple(
    Path(folder) / "available_filter_functions"
    for folder in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
)

#: Writes a program whose skb is in r7; it is given what loads it there.
Body = Callable[[Callable[[Assembler], None]], bytes]


class Attached:
    """Descriptors that keep programs attached, and the functions that could not be."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []
        self.functions: list[str] = []
        self.refused: dict[str, str] = {}

    def close(self) -> None:
        for descriptor in reversed(self.descriptors):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self.descriptors = []


def _from_registers(position: int) -> Callable[[Assembler], None]:
    offset = _ARGUMENTS[platform.machine()][position]
    return lambda asm: asm.load(8, R7, R6, offset)


def _from_arguments(position: int) -> Callable[[Assembler], None]:
    return lambda asm: asm.load(8, R7, R6, 8 * position)


def kprobe_multi(targets: dict[str, int], body: Body, btf: Btf, into: Attached) -> None:  # noqa: ARG001 - one signature
    """All functions of one argument position at once; one that the tracer does not know spoils the call, so they are
    asked of tracefs first."""
    known = next((set(p.read_text().split()) for p in _FILTERABLE if os.access(p, os.R_OK)), None)
    groups: dict[int, list[str]] = defaultdict(list)
    for name, position in targets.items():
        if known is None or name in known:
            groups[position].append(name)
        else:
            into.refused[name] = "not traceable here"
    for position, names in groups.items():
        program = syscalls.load(
            syscalls.PROG_KPROBE, body(_from_registers(position)), attach=syscalls.ATTACH_KPROBE_MULTI
        )
        into.descriptors.append(program)
        into.descriptors.append(syscalls.kprobe_multi(names, program))
        into.functions += names


def kprobe(targets: dict[str, int], body: Body, btf: Btf, into: Attached) -> None:  # noqa: ARG001 - one signature
    """One program per argument position, one perf event per function."""
    try:
        kind = int(_KPROBE_TYPE.read_text())
    except OSError:
        raise NoProbe("no kprobe events (CONFIG_KPROBES, or /sys is not mounted)") from None
    programs: dict[int, int] = {}
    for name, position in targets.items():
        if position not in programs:
            programs[position] = syscalls.load(syscalls.PROG_KPROBE, body(_from_registers(position)))
            into.descriptors.append(programs[position])
        try:
            into.descriptors.append(syscalls.kprobe(name, programs[position], kind))
        except Refused as error:
            into.refused[name] = str(error)
        else:
            into.functions.append(name)


def fentry(targets: dict[str, int], body: Body, btf: Btf, into: Attached) -> None:
    """One program per function, bound to it by its number in the types."""
    for name, position in targets.items():
        number = btf.function(name)
        if number is None:
            into.refused[name] = "not in vmlinux' types"
            continue
        try:
            program = syscalls.load(
                syscalls.PROG_TRACING,
                body(_from_arguments(position)),
                attach=syscalls.ATTACH_FENTRY,
                function=number,
            )
            into.descriptors.append(program)
            into.descriptors.append(syscalls.raw_tracepoint("", program))
        except Refused as error:
            if not into.functions and len(into.refused) >= 3:
                raise
            into.refused[name] = str(error)
        else:
            into.functions.append(name)


#: Cheapest first.
WAYS = {"kprobe.multi": kprobe_multi, "kprobe": kprobe, "fentry": fentry}


def attach(
    targets: dict[str, int], body: Body, btf: Btf, ways: tuple[str, ...] = tuple(WAYS)
) -> tuple[str, Attached]:
    """Attaches to ``targets`` (function to the position of its skb) the first way that works.

    Raises :class:`NoProbe` naming each way and what refused it.
    """
    if platform.machine() not in _ARGUMENTS:
        raise NoProbe(f"the probes know x86_64 and aarch64, this machine is {platform.machine()}")
    said = []
    for way in ways:
        into = Attached()
        try:
            WAYS[way](targets, body, btf, into)
        except NoProbe as error:
            into.close()
            said.append(f"{way}: {error}")
            continue
        except BaseException:
            into.close()
            raise
        if into.functions:
            return way, into
        into.close()
        said.append(f"{way}: {next(iter(into.refused.values()), 'no function to attach to')}")
    raise NoProbe("this kernel lets nobody into its functions; tried " + "; ".join(said))
