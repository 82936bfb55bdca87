"""The MTU that a cloud or a switch announces for a network, from its own tool or its metadata service.

``gcloud compute networks describe``, ``openstack network show``, instance metadata; also with one field chosen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

#: Fields beside ``mtu`` by which a network of a cloud's API is known (Compute v1 Network, Neutron Network).
_BESIDE = frozenset(
    """routingConfig subnetworks autoCreateSubnetworks peerings selfLink admin_state_up provider:network_type
    provider:physical_network router:external is_vlan_transparent port_security_enabled availability_zone_hints""".split()
)
_ASKS = re.compile(
    r"\bgcloud\b.*\bnetworks describe\b|\bopenstack\b.*\bnetwork show\b|\bneutron net-show\b|metadata\S*/network-interfaces/\d+/mtu|169\.254\.169\.254\S*/mtu"
)
_VALUE = re.compile(r"^\s*(?:[\w./-]+\s+)?(?:mtu\s*[:=]\s*)?[\"']?(?P<mtu>[1-9]\d{3,4})[\"']?\s*$")
_PORT = re.compile(
    r"^\s*(?:L2 |port |interface |system )?MTU:?\s+(?P<mtu>\d{4,5}) bytes\b.*\bBW \d|^\s*MTU (?P<mtu2>\d{4,5}) bytes, +BW \d",
    re.I,
)


def _announced(mtu: int, **place: Any) -> Message:
    return Message(emitter="network", kind="underlay-mtu", fields=(("mtu", str(mtu)),), **place)


def _match(value: Any) -> bool:
    return isinstance(value, dict) and type(value.get("mtu")) is int and bool(value.keys() & _BESIDE)


def _read(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    yield _announced(value["mtu"], source=locate("mtu"), where=context.where, text=f"mtu {value['mtu']}")


def _read_line(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    match = _VALUE.match(line) if context.command and _ASKS.search(context.command.line) else None
    mtu = match["mtu"] if match else ""
    if not mtu and (port := _PORT.match(line)):
        mtu = port["mtu"] or port["mtu2"]
    if not mtu:
        return i, []
    return i + 1, [_announced(int(mtu), source=lines.source(i), where=context.where, text=line.strip())]


FORMATS = (
    ValueFormat("network-mtu", _match, _read, priority=20),
    LineFormat(
        "network-mtu-value", re.compile(r"^\s*\S.{0,60}?\d{4,5}|^\s*\d{4,5}\s*$"), _read_line, priority=10
    ),
)
