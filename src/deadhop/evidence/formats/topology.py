"""Topology files of the lab, read as the state that they describe: every namespace's links, routes, rules, sysctls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from deadhop.evidence.format import Context, Locate, ValueFormat
from deadhop.model.net import Listing
from deadhop.model.record import Problem, Record
from deadhop.model.topology import MARK, Topology


def _read(value: Any, locate: Locate, _context: Context) -> Iterable[Record]:
    from deadhop.evidence.topology import check
    from deadhop.evidence.topology_state import state

    source = locate()
    try:
        topology = msgspec.convert(value, Topology)
    except msgspec.ValidationError as error:
        yield Problem(source=source, kind="damaged", text=f"a topology that cannot be used: {error}")
        return
    wrong = list(check(topology))
    if wrong:
        place, message = wrong[0]
        yield Problem(source=locate(place), kind="damaged", text=f"a topology that cannot be used: {message}")
        return
    for name in topology.namespaces:
        for record in state(topology, name, locate.file):
            at = msgspec.structs.replace(source, path=record.source.path)
            yield msgspec.structs.replace(record, source=at, where=f"host {name}")
        # For causes that tell a setting that somebody asked for from one of many: these are many.
        yield Listing(source=source, what="sysctls", where=f"host {name}")


FORMAT = ValueFormat(
    "topology", lambda value: isinstance(value, dict) and value.get("deadhop") == MARK, _read, priority=5
)
