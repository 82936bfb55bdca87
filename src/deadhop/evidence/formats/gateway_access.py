"""The access log of ``deadhop gateway``: each line says what was dialled and the fields that were sent there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deadhop.evidence.format import Context, Locate, ValueFormat
from deadhop.model.observed.http import HttpRequestDump
from deadhop.model.record import Record


def _match(value: Any) -> bool:
    outgoing = value.get("outgoing") if isinstance(value, dict) else None
    return (
        isinstance(outgoing, dict)
        and isinstance(outgoing.get("dial_host"), str)
        and isinstance(outgoing.get("headers"), list)
    )


def _read(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    outgoing = value["outgoing"]
    port, tls = outgoing.get("dial_port"), outgoing.get("tls")
    yield HttpRequestDump(
        source=locate(),
        where=context.where,
        dial_host=outgoing["dial_host"],
        dial_port=port if isinstance(port, int) else None,
        tls=tls if isinstance(tls, bool) else None,
        method=str(value.get("method") or ""),
        path=str(outgoing.get("target") or ""),
        headers=tuple(
            (str(pair[0]), str(pair[1]))
            for pair in outgoing["headers"]
            if isinstance(pair, list) and len(pair) == 2
        ),
    )


FORMAT = ValueFormat("gateway-access", _match, _read, priority=10)
