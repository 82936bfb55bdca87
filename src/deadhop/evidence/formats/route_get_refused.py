"""``ip route get`` that the kernel refuses: ``RTNETLINK answers: …`` below the command that says what was asked.

With an input device the question is that of a received packet, its reverse-path check included: then *Invalid
cross-device link* (EXDEV, up to Linux 6.12; EINVAL since) means that the check failed (fib_validate_source).
"""

from __future__ import annotations

import re
from itertools import pairwise

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

_ANSWER = re.compile(r"^RTNETLINK answers: (?P<why>[A-Z][\w -]+?)\s*$")
_KINDS = {
    "Invalid cross-device link": "reverse-path",
    "Network is unreachable": "no-route",
    "No route to host": "no-route",
}


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _ANSWER.match(lines.text[i])
    argv = context.command.argv if context.command and context.ran("ip") else ()
    if match is None or "get" not in argv or not ({"r", "ro", "rou", "route"} & set(argv)):
        return i, []
    words = argv[argv.index("get") + 1 :]
    told = {a: b for a, b in pairwise(words) if a in ("from", "iif", "oif", "mark")}
    dst = next((w for w in words if w != "to" and re.match(r"^[0-9a-fA-F.:]+$", w)), "")
    fields = (("dst", dst), ("why", match["why"]), *told.items())
    kind = _KINDS.get(match["why"], "refused")
    return i + 1, [
        Message(
            source=lines.source(i),
            where=context.where,
            emitter="ip-route-get",
            kind=kind,
            fields=fields,
            text=lines.text[i].strip(),
        )
    ]


FORMAT = LineFormat("route-get-refused", _ANSWER, _read, priority=15)
