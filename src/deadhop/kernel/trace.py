"""The way of single packets through the kernel's functions.

Programs at the entries of functions that take an skb report it where the filter matches, and from then on whatever its
headers say: its address stands in a map until its memory is given back, so that NAT and encapsulation do not hide it.
The kfree_skb and consume_skb tracepoints tell how it ended, the first with the reason.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Iterable

from deadhop.kernel import assembler as bpf
from deadhop.kernel import syscalls
from deadhop.kernel.assembler import FP, R0, R1, R2, R3, R4, R6, R7, R8, Assembler
from deadhop.kernel.attach import WAYS, Attached, attach
from deadhop.kernel.btf import Btf, modules
from deadhop.kernel.capture import SCRATCH, Offsets, at, clear, fill, report
from deadhop.kernel.drops import DropReasons
from deadhop.kernel.event import CONSUMED, DROPPED, FUNCTION
from deadhop.kernel.filter import EVERYTHING, Node, compile_filter
from deadhop.kernel.probe import Probe, types
from deadhop.kernel.syscalls import NoProbe
from deadhop.model.kernel_functions import FUNCTIONS

#: Packets that are followed at once; the longest unseen one gives way.
TRACKED = 4096
#: The function after which an skb's address means another packet.
RELEASE = "kfree_skbmem"
#: Functions that the tracepoints tell of, with the reason.
TOLD = ("kfree_skb", "kfree_skb_reason", "sk_skb_reason_drop", "consume_skb")


def traceable(btf: Btf, names: Iterable[str] | None = None) -> dict[str, int]:
    """Functions that take an skb, with the position of that argument, of vmlinux and the loaded modules.

    ``names`` restricts them; None means all.
    """
    wanted = None if names is None else set(names)
    found: dict[str, int] = {}
    for types_ in (btf, *(module for _name, module in modules(btf))):
        for name, position in types_.functions_taking("sk_buff"):
            if wanted is None or name in wanted:
                found.setdefault(name, position)
    return found


def more_files(wanted: int) -> None:
    """Every attachment is a file descriptor or two: raises this process's own limit as far as it may go."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = wanted + 256
    for most in (max(hard, need), hard):  # root may raise the hard limit too
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(need, most)), most))
        except (ValueError, OSError):
            continue
        return


class FunctionTrace(Probe):
    """Attached while it lives. ``way`` tells how; ``functions`` to what.

    ``everything`` attaches to every function that takes an skb, not the catalogue's alone. Raises
    :class:`~deadhop.kernel.syscalls.NoProbe`.
    """

    def __init__(
        self,
        filter_: Node = EVERYTHING,
        btf: Btf | None = None,
        *,
        everything: bool = False,
        ways: tuple[str, ...] = tuple(WAYS),
    ) -> None:
        self._btf = btf or types()
        self._filter = filter_
        self.reasons = DropReasons(self._btf)
        self._attached: Attached | None = None
        super().__init__()
        with self._loading("loading the trace"):
            self._offsets = Offsets(self._btf)
            self._attach(everything, ways)

    def _attach(self, everything: bool, ways: tuple[str, ...]) -> None:
        self._tracked = syscalls.create_map(syscalls.MAP_LRU_HASH, 8, 4, TRACKED)
        self._open.append(self._tracked)
        targets = traceable(self._btf, None if everything else FUNCTIONS)
        released = targets.pop(RELEASE, None)
        for name in TOLD:
            targets.pop(name, None)
        more_files(2 * len(targets))
        self.way, self._attached = attach(targets, self._function(FUNCTION), self._btf, ways)
        self.functions = self._attached.functions
        self.refused = self._attached.refused
        releasing = False
        if released is not None:
            with contextlib.suppress(NoProbe):
                _way, last = attach(
                    {RELEASE: released}, self._function(FUNCTION, forget=True), self._btf, (self.way,)
                )
                self._attached.descriptors += last.descriptors
                releasing = True
        self._tracepoint("kfree_skb", DROPPED, forget=not releasing)
        self._tracepoint("consume_skb", CONSUMED, forget=not releasing)

    def _function(self, kind: int, *, forget: bool = False) -> Callable[[Callable[[Assembler], None]], bytes]:
        def body(load_skb: Callable[[Assembler], None]) -> bytes:
            asm = Assembler()
            asm.mov(R6, R1)
            load_skb(asm)
            asm.jump_if("eq", R7, 0, "out")
            clear(asm)
            asm.mov(R1, R6)
            asm.call(bpf.FUNC_IP)
            asm.store(8, FP, at("location"), R0)
            return self._rest(asm, kind, forget)

        return body

    def _tracepoint(self, name: str, kind: int, *, forget: bool) -> None:
        asm = Assembler()
        asm.mov(R6, R1)
        asm.load(8, R7, R6, 0)
        asm.jump_if("eq", R7, 0, "out")
        clear(asm)
        if kind == DROPPED:
            asm.load(8, R8, R6, 8)
            asm.store(8, FP, at("location"), R8)
            if self.reasons.names:
                asm.load(8, R8, R6, 16)
                asm.store(4, FP, at("reason"), R8)
        program = syscalls.load(syscalls.PROG_RAW_TRACEPOINT, self._rest(asm, kind, forget))
        self._open.append(program)
        self._open.append(syscalls.raw_tracepoint(name, program))

    def _rest(self, asm: Assembler, kind: int, forget: bool) -> bytes:
        asm.store_imm(1, FP, at("kind"), kind)
        fill(asm, self._offsets)
        report(asm, self.ring.fd, self._counters, self._chosen, self._forget if forget else None)
        asm.label("out")
        asm.mov_imm(R0, 0)
        asm.exit()
        return asm.code()

    def _key(self, asm: Assembler) -> None:
        asm.map_fd(R1, self._tracked)
        asm.mov(R2, FP)
        asm.add_imm(R2, at("skb"))

    def _chosen(self, asm: Assembler, yes: str, no: str) -> None:
        """A tracked skb, or one that the filter takes and that is tracked from now on."""
        track = asm.fresh()
        self._key(asm)
        asm.call(bpf.MAP_LOOKUP)
        asm.jump_if("ne", R0, 0, yes)
        compile_filter(asm, self._filter, track, no)
        asm.label(track)
        asm.store_imm(8, FP, SCRATCH, 1)
        self._key(asm)
        asm.mov(R3, FP)
        asm.add_imm(R3, SCRATCH)
        asm.mov_imm(R4, 0)
        asm.call(bpf.MAP_UPDATE)
        asm.jump(yes)

    def _forget(self, asm: Assembler) -> None:
        self._key(asm)
        asm.call(bpf.MAP_DELETE)

    def close(self) -> None:
        """Detaches. A second call does nothing."""
        if self._attached and not self._closed:
            self._attached.close()
        super().close()
