"""Calls that traffic shows: lines of clients' sidecars, and hubble flows. Who dialled which address, under which Host."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from deadhop.evidence.fields import is_ip
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.policy import Flow
from deadhop.model.record import Record, Source


class SeenCall(msgspec.Struct, frozen=True, kw_only=True):
    """``client`` is an address or ``namespace/pod``; ``host`` None where the traffic does not show it. ``worked`` is False
    where it ended in an error, None where that is not shown."""

    client: str
    ip: str
    port: int
    host: str | None
    tls: bool
    worked: bool | None
    source: Source


def seen_calls(records: Iterable[Record]) -> list[SeenCall]:
    """Every call, once; of several the first source, and ``worked`` where one did."""
    found: dict[tuple[str, str, int, str | None, bool], SeenCall] = {}
    for record in records:
        call = (
            _of_access(record)
            if isinstance(record, EnvoyAccess)
            else _of_flow(record)
            if isinstance(record, Flow)
            else None
        )
        if call is None:
            continue
        key = (call.client, call.ip, call.port, call.host, call.tls)
        if key not in found or (call.worked and not found[key].worked):
            found[key] = call
    return list(found.values())


def _split(text: str) -> tuple[str, int]:
    ip, _, port = text.rpartition(":")
    ip = ip.strip("[]")
    return (ip, int(port)) if is_ip(ip) and port.isdigit() else ("", 0)


def _of_access(line: EnvoyAccess) -> SeenCall | None:
    """A line of the caller's side: the address dialled is the local one of the downstream connection."""
    if line.inbound or not line.cluster:
        return None
    ip, port = _split(line.downstream_local)
    # Behind an X-Forwarded-For the downstream's address is the browser's; the upstream connection is the pod's own.
    client = _split(line.upstream_local)[0] or _split(line.downstream_remote)[0]
    if not ip or not port or not client:
        return None
    http = bool(line.method) and line.method != "-"
    return SeenCall(
        client=client,
        ip=ip,
        port=port,
        host=line.authority or None if http else None,
        tls=bool(line.sni),
        worked=line.status < 400 and not line.flags & {"UF", "UC", "UH", "NR"},
        source=line.source,
    )


def _of_flow(flow: Flow) -> SeenCall | None:
    """A flow towards a TCP port; its answers and what was denied are none."""
    if flow.reply or flow.denied or flow.proto.upper() not in ("TCP", "HTTP") or not flow.dst.port:
        return None
    client = flow.src.name if "/" in flow.src.name else flow.src.ip
    if not client or not flow.dst.ip or (flow.reply is None and (flow.src.port or 65536) < flow.dst.port):
        return None
    return SeenCall(
        client=client,
        ip=flow.dst.ip,
        port=flow.dst.port,
        host=None,
        tls=False,
        worked=None,
        source=flow.source,
    )
