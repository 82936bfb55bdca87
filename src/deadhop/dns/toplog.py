"""DNS logs of any size to counts: CoreDNS ``log`` and ``errors`` lines, and hubble flow JSON, a line each.

One regular expression takes a block of megabytes apart at once and ``Counter`` counts the tuples, so that no Python
code runs for a line. Large files are cut at line ends into ranges that several processes count. Memory is bounded:
above :data:`MOST_NAMES` distinct questions the rarest are folded into their last two labels, and said to be.
"""

from __future__ import annotations

import gc
import gzip
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from deadhop.dns.tophubble import hubble_rows

BLOCK = 256 << 10
"""Octets at once: what a core's second-level cache holds."""
RANGE = 16 << 20
"""Octets of a file that one task counts at least: merging the counts of a task costs as much as some megabytes of lines."""
TASKS = 3
"""Tasks for each worker and file."""
MOST_NAMES = 200_000
SLOW = 1.0
"""Seconds from which an answer is slow: a fifth of the timeout of glibc and of musl."""
_LINE = re.compile(
    rb' ([^ ]+):[0-9]+ - [0-9]+ "(([A-Z0-9]+) [A-Z]+ [^" \n]+ [a-z]+ [^"\n]+" ([A-Z-]+)) [^ ]+ [0-9]+ ([0-9]+\.[0-9]{0,4})'
)
"""Client, everything from type to rcode as one key, type, rcode, seconds to a tenth of a millisecond."""
_LOOSE = re.compile(
    rb' ([^ ]+):[^ ]++ - [^ ]++ "(([^ ]++) [^ ]++ [^ ]++ [^ ]++ [^"]++" ([^ ]++)) [^ ]++ [0-9]++ ([^.]++\.[0-9]{0,4})'
)
"""The same in half the time, because every repeat ends at one octet; what it finds has to be looked at."""
_WORD = re.compile(rb"[A-Z0-9-]+")
_SECONDS = re.compile(rb"[0-9]+\.[0-9]{0,4}")
_ERROR = re.compile(rb"plugin/errors: \d+ ([^ \n]+) [A-Z0-9]+: ([^\n]*)")
_UPSTREAM = re.compile(rb"(?:->|dial (?:udp|tcp) )(\S+?): ")
Row = tuple[bytes, bytes, bytes, bytes, bytes, bytes]
"""From hubble: client, type, name, transport, rcode, seconds."""


@dataclass
class Tally:
    """Counts. ``questions`` by (name, rcode), ``clients`` by (address or pod, type, rcode), ``times`` by seconds cut to a tenth of a
    millisecond, ``slow`` by name, ``failing`` by (upstream, error), ``folded`` queries whose names were too many.
    ``raw`` are questions as they stand in lines, not yet taken apart: ``settle`` does."""

    lines: int = 0
    octets: int = 0
    raw: Counter[bytes] = field(default_factory=Counter)
    questions: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)
    clients: Counter[tuple[bytes, bytes, bytes]] = field(default_factory=Counter)
    transports: Counter[bytes] = field(default_factory=Counter)
    times: Counter[bytes] = field(default_factory=Counter)
    slow: Counter[bytes] = field(default_factory=Counter)
    failing: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)
    folded: int = 0

    def add_lines(self, block: bytes) -> None:
        """Counts the CoreDNS lines of a block."""
        rows = _LOOSE.findall(block)
        clients, spans, types, rcodes, seconds = _columns(rows)
        times = Counter(seconds)
        if not rows or not _are_lines(clients, spans, {*types, *rcodes}, times):
            rows = _LINE.findall(block)
            clients, spans, types, rcodes, seconds = _columns(rows)
            times = Counter(seconds)
        self.lines += len(rows)
        self.raw.update(spans)
        self.clients.update(zip(clients, types, rcodes, strict=True))
        self.times.update(times)
        slow = {text for text in times if not text.startswith(b"0.") and _seconds(text) >= SLOW}
        if slow:
            self.slow.update(
                span.split(b" ", 3)[2] for span, s in zip(spans, seconds, strict=True) if s in slow
            )
        if len(self.raw) > MOST_NAMES or len(self.clients) > MOST_NAMES:
            self.settle()

    def add_rows(self, rows: list[Row]) -> None:
        """Counts queries that are taken apart already."""
        for client, qtype, name, transport, rcode, seconds in rows:
            self.questions[name, rcode] += 1
            self.clients[client, qtype, rcode] += 1
            self.transports[transport] += 1
            self.times[seconds[: seconds.find(b".") + 5]] += 1
            if _seconds(seconds) >= SLOW:
                self.slow[name] += 1
        self.lines += len(rows)
        self.bound()

    def settle(self) -> None:
        """Takes the distinct raw questions apart."""
        for span, n in self.raw.items():
            asked, _, rcode = span.partition(b'" ')
            words = asked.split(b" ")
            self.questions[words[2], rcode] += n
            self.transports[words[3]] += n
        self.raw.clear()
        self.bound()

    def bound(self) -> None:
        """Fold the rarest names where there are too many, and likewise everything else that could grow."""
        if len(self.questions) > MOST_NAMES:
            kept = self.questions.most_common(MOST_NAMES // 2)
            gone = self.questions.total() - sum(n for _, n in kept)
            rest: Counter[tuple[bytes, bytes]] = Counter()
            keys = {key for key, _ in kept}
            for (name, rcode), n in self.questions.items():
                if (name, rcode) not in keys:
                    rest[b"*." + b".".join(name.split(b".")[-3:]), rcode] += n
            self.questions = Counter(dict(kept))
            self.questions.update(dict(rest.most_common(MOST_NAMES // 4)))
            self.folded += gone
        for counter in (self.clients, self.slow, self.failing):
            if len(counter) > MOST_NAMES:
                _halve(counter)

    def merge(self, other: Tally) -> None:
        self.lines += other.lines
        self.octets += other.octets
        self.folded += other.folded
        self.questions.update(other.questions)
        self.clients.update(other.clients)
        self.transports.update(other.transports)
        self.times.update(other.times)
        self.slow.update(other.slow)
        self.failing.update(other.failing)
        self.bound()


def _halve(counter: Counter[Any]) -> None:
    kept = dict(counter.most_common(MOST_NAMES // 2))
    counter.clear()
    counter.update(kept)


def _columns(rows: list[tuple[bytes, ...]]) -> tuple[tuple[bytes, ...], ...]:
    return tuple(zip(*rows, strict=True)) if rows else ((),) * 5


def _are_lines(
    clients: Iterable[bytes], spans: Iterable[bytes], words: Iterable[bytes], seconds: Iterable[bytes]
) -> bool:
    """Whether what :data:`_LOOSE` found is what :data:`_LINE` would find: within lines, with words and numbers."""
    return (
        b"\n" not in b"".join(clients)
        and b"\n" not in b"".join(spans)
        and all(map(_WORD.fullmatch, words))
        and all(map(_SECONDS.fullmatch, seconds))
    )


def _seconds(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def tally_block(tally: Tally, block: bytes) -> None:
    """Counts one block of whole lines."""
    tally.octets += len(block)
    if block[:1] == b"{" or b'\n{"' in block[:64]:
        tally.add_rows(hubble_rows(block))
        return
    tally.add_lines(block)
    if b"plugin/errors: " in block:
        for _name, text in _ERROR.findall(block):
            upstream = _UPSTREAM.search(text)
            said = text.rpartition(b": ")[2].strip()
            tally.failing[upstream[1] if upstream else b"", said[:80]] += 1


def _blocks(file: BinaryIO, left: int | None = None) -> Iterator[bytes]:
    """Whole lines, about :data:`BLOCK` at a time, of the next ``left`` octets and to the end of the line there."""
    while left is None or left > 0:
        block = file.read(BLOCK if left is None else min(BLOCK, left))
        if not block:
            return
        if left is not None:
            left -= len(block)
        if block[-1:] != b"\n":
            # A line without an end is cut at BLOCK, so that no input makes memory grow.
            tail = file.readline(BLOCK)
            block += tail
            if left is not None:
                left -= len(tail)
        yield block


def tally_range(path: str, start: int, end: int) -> Tally:
    """Counts the lines that begin in ``[start, end)``."""
    tally = Tally()
    with open(path, "rb") as file:
        if start:
            file.seek(start - 1)
            start += len(file.readline()) - 1
        for block in _blocks(file, end - start):
            tally_block(tally, block)
    tally.settle()
    return tally


def tally_stream(file: BinaryIO) -> Tally:
    """Counts what comes from a pipe or a compressed file."""
    tally = Tally()
    for block in _blocks(file):
        tally_block(tally, block)
    tally.settle()
    return tally


def tally_paths(paths: list[str], tick: Callable[[str], None] = lambda _: None, workers: int = 0) -> Tally:
    """Counts every path; ``-`` is standard input, ``.gz`` is unpacked. Raises :class:`OSError`."""
    # Millions of short-lived tuples and no cycles: the collector's passes would take half of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _tally_paths(paths, tick, workers)
    finally:
        if collecting:
            gc.enable()


def _tally_paths(paths: list[str], tick: Callable[[str], None], workers: int) -> Tally:
    total, ranges = Tally(), []
    workers = workers or _cores()
    for path in paths:
        if path == "-":
            total.merge(tally_stream(sys.stdin.buffer))
        elif _compressed(path):
            tick(path)
            try:
                with gzip.open(path) as file:
                    total.merge(tally_stream(file))  # type: ignore[arg-type]
            except EOFError:
                raise OSError(f"{path}: the compressed file is cut off") from None
        elif not Path(path).is_file():
            with open(path, "rb") as pipe:
                total.merge(tally_stream(pipe))
        else:
            size = os.stat(path).st_size
            step = max(RANGE, -(-size // (TASKS * workers)))
            ranges += [(path, at, min(at + step, size)) for at in range(0, size, step)]
    if len(ranges) == 1 or workers == 1:
        for one in ranges:
            total.merge(tally_range(*one))
        return total
    if ranges:
        _in_processes(ranges, workers, total, tick)
    return total


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _compressed(path: str) -> bool:
    if not Path(path).is_file():
        return False
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _in_processes(
    ranges: list[tuple[str, int, int]], workers: int, total: Tally, tick: Callable[[str], None]
) -> None:
    with ProcessPoolExecutor(min(workers, len(ranges)), initializer=gc.disable) as pool:
        running: set[Future[Tally]] = set()
        rest = iter(ranges)
        done_octets, all_octets = 0, sum(end - start for _, start, end in ranges)
        while True:
            while len(running) < workers + 1 and (one := next(rest, None)):
                running.add(pool.submit(tally_range, *one))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                part = future.result()
                done_octets += part.octets
                total.merge(part)
                tick(f"{done_octets * 100 // max(1, all_octets)} %")
