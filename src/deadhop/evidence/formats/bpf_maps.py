"""BPF maps by number: ``bpftool map show`` (with the programs that hold each, and the path it is pinned at), and what a
process holds open by ``/proc/PID/fdinfo`` (bpftool-map(8); kernel/bpf/syscall.c bpf_map_show_fdinfo)."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

_MAP = re.compile(
    r"^\s*(?P<id>\d+): (?P<type>(?:lpm_trie|\w*hash\w*|\w*array\w*|\w*map\w*|ringbuf|queue|stack\w*|\w*storage))\s+name (?P<name>\S+)\s+flags 0x"
)
_BELOW = re.compile(r"^\s+(?:key \d+B|pinned (?P<path>\S+)|pids (?P<pids>.*)|btf_id \d+|memlock )")
_HELD = re.compile(r"^\s*(?:/proc/(?P<pid>\d+)/fdinfo/\d+:)?\s*map_id:\s+(?P<id>\d+)\s*$")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = context.command.line if context.command else ""
    if held := _HELD.match(lines.text[i]):
        program = "envoy" if "envoy" in line else ""
        fields = {"id": held["id"], "pid": held["pid"] or "", "program": program}
        return i + 1, [_message(lines, i, i, context, "bpf-map-held", fields)]
    match = _MAP.match(lines.text[i])
    if match is None:
        return i, []
    start, i = i, i + 1
    asked = re.search(r"\bpinned (/sys/fs/bpf/\S+)", line)
    fields = {"id": match["id"], "name": match["name"], "path": asked[1] if asked else "", "programs": ""}
    while i < len(lines.text) and (below := _BELOW.match(lines.text[i])):
        fields["path"] = below["path"] or fields["path"]
        fields["programs"] = below["pids"] or fields["programs"]
        i += 1
    return i, [_message(lines, start, i - 1, context, "bpf-map", fields)]


def _message(
    lines: Lines, first: int, last: int, context: Context, kind: str, fields: dict[str, str]
) -> Message:
    told = tuple((k, v) for k, v in fields.items() if v)
    return Message(source=lines.source(first, last), where=context.where, emitter="bpftool", kind=kind, fields=told, text=lines.text[first].strip()[:300])  # fmt: skip


FORMAT = LineFormat(
    "bpf-maps", re.compile(r"^\s*\d+: \w+\s+name \S+\s+flags 0x|\bmap_id:\s+\d+\s*$"), _read, priority=16
)
