"""What proxies answered in a server's place, whatever showed it: a body, an access-log line, a client's session."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from deadhop.model.observed.http import HttpExchange, LocalReply
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.record import Record

#: The flag that Envoy logs for each reset reason of a local reply body (router/reset reasons; spec of both tables:
#: source/common/http/utility.cc and source/common/stream_info/utility.cc).
FLAG_OF_REASON: dict[str, str] = {
    "local reset": "LR",
    "local refused stream reset": "LR",
    "remote reset": "UR",
    "remote refused stream reset": "UR",
    "local connection failure": "UF",
    "remote connection failure": "UF",
    "connection failure": "UF",
    "connection timeout": "UF",
    "connection termination": "UC",
    "overflow": "UO",
    "protocol error": "UPE",
}
#: Lengths of bodies without their text: a session that prints only headers still tells which body it was.
BODY_OF_LENGTH: dict[int, tuple[str, str]] = {
    19: ("UH", "no healthy upstream"),
    57: ("UF", "upstream connect error or disconnect/reset before headers (up to 1.9)"),
    81: ("UO", "reset reason: overflow"),
    91: ("UF", "reset reason: connection failure"),
    95: ("UC", "reset reason: connection termination"),
}


class Reply(NamedTuple):
    """One answer of a proxy. ``flags`` are response flags, read or implied by the body."""

    flags: frozenset[str]
    reason: str
    cluster: str
    retried: bool
    record: Record


def replies(
    bodies: Iterable[LocalReply] = (),
    access: Iterable[EnvoyAccess] = (),
    sessions: Iterable[HttpExchange] = (),
) -> list[Reply]:
    """Every generated answer in the records, in their order by kind."""
    found: list[Reply] = []
    for body in bodies:
        flag = FLAG_OF_REASON.get(body.reset_reason) or ("UH" if body.text == "no healthy upstream" else "")
        found.append(Reply(frozenset({flag} - {""}), body.reset_reason or body.text, "", body.retried, body))
    for line in access:
        if line.flags:
            found.append(Reply(line.flags, line.details, line.cluster, "URX" in line.flags, line))
    for session in sessions:
        length = session.header("content-length")
        if (
            "envoy" in session.header("server").lower()
            and (session.status or 0) >= 500
            and not session.body
            and length.isdigit()
        ):
            flag, text = BODY_OF_LENGTH.get(int(length), ("", ""))
            if flag:
                found.append(Reply(frozenset({flag}), text, "", False, session))
    return found


def with_flag(found: Iterable[Reply], *flags: str) -> list[Record]:
    """The records of the replies that carry one of ``flags``."""
    return [r.record for r in found if r.flags & set(flags)]


def without_flag(found: Iterable[Reply], *flags: str) -> list[Record]:
    """The records of the replies whose flags are known and hold none of ``flags``."""
    return [r.record for r in found if r.flags and not r.flags & set(flags)]
