"""Topology files: text to a checked :class:`~deadhop.model.topology.Topology`, every error with its line.

What a type cannot say (a device of a namespace that does not exist, a step that does two things) is checked behind the
conversion.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from deadhop.evidence import checked_yaml
from deadhop.model.topology import LinkSpec, Step, Topology

#: An interface name is at most 15 bytes (include/uapi/linux/if.h IFNAMSIZ) without ``/`` and blanks.
_DEV = re.compile(r"^(?P<ns>[A-Za-z0-9][\w-]{0,30})/(?P<dev>[^\s/:]{1,15})$")
_NAME = re.compile(r"^[A-Za-z0-9][\w-]{0,30}$")
_ACTIONS = ("run", "udp", "http", "fault", "fix", "capture", "collect")
#: Which words a kind of link takes beyond ``dev``, ``mtu``, ``mac``, ``up`` and ``options``.
_FIELDS: dict[str, frozenset[str]] = {
    "veth": frozenset({"peer", "peer_mtu", "peer_mac", "arp"}),
    "bridge": frozenset({"ports"}),
    "vxlan": frozenset({"over", "id", "local", "remote", "port"}),
    "macvlan": frozenset({"over", "mode"}),
    "vlan": frozenset({"over", "id"}),
    "vrf": frozenset({"id", "ports"}),
    "ipip": frozenset({"local", "remote"}),
}


class TopologyError(ValueError):
    """A topology file that cannot be used: ``FILE:LINE: what is wrong``, one line per error."""


def loads(text: str, file: str) -> Topology:
    """The topology of ``text``. Raises :class:`TopologyError`, whose lines name ``file``."""
    try:
        topology = checked_yaml.loads(text, file, Topology)
    except checked_yaml.ShapeError as error:
        raise TopologyError(str(error)) from None
    wrong = [f"{file}:{checked_yaml.line_of(text, place)}: {message}" for place, message in check(topology)]
    if wrong:
        raise TopologyError("\n".join(wrong))
    return topology


def check(topology: Topology) -> Iterator[tuple[str, str]]:
    """``(place, message)`` for what does not fit together."""
    devices: set[str] = set()
    names = topology.namespaces
    if not _NAME.match(topology.name):
        yield ".name", f"{topology.name!r}: a name is letters, digits, - and _"
    if topology.machine and not topology.guest:
        yield ".machine", "settings of the machine itself are for a guest: this one would change the host"
    for name in names:
        if not _NAME.match(name):
            yield f".namespaces.{name}", f"{name!r}: a name is letters, digits, - and _, at most 31"
    for index, link in enumerate(topology.links):
        place = f".links[{index}]"
        yield from _link(link, place, names, devices)
    for name, spec in names.items():
        place = f".namespaces.{name}"
        for dev, addresses in spec.addresses.items():
            if dev != "lo" and f"{name}/{dev}" not in devices:
                yield f"{place}.addresses.{dev}", f"no link makes a device {dev} in {name}"
            for number, address in enumerate(addresses):
                try:
                    ipaddress.ip_interface(address)
                except ValueError as error:
                    yield f"{place}.addresses.{dev}[{number}]", str(error)
        yield from _sysctls(spec.sysctls, f"{place}.sysctls")
        for path in spec.files:
            if not path.startswith("/") or ".." in path.split("/"):
                yield f"{place}.files", f"{path!r}: a file's path begins with / and has no .."
    for index, service in enumerate(topology.services):
        if service.in_ not in names:
            yield f".services[{index}].in", f"no namespace {service.in_!r}"
        if service.kind == "command" and not service.command:
            yield f".services[{index}]", "a service of kind command needs a command"
        if service.kind != "command" and not re.match(r"^.+:\d+$", service.listen):
            yield f".services[{index}]", "listen is ADDRESS:PORT"
    for index, step in enumerate(topology.steps):
        yield from _step(step, f".steps[{index}]", names)


def _link(link: LinkSpec, place: str, names: Any, devices: set[str]) -> Iterator[tuple[str, str]]:
    ends = [(".dev", link.dev)] + ([(".peer", link.peer)] if link.kind == "veth" else [])
    for field, end in ends:
        match = _DEV.match(end)
        if not match:
            yield place + field, f"{end!r}: a device is NAMESPACE/DEVICE, the device of at most 15 characters"
        elif match["ns"] not in names:
            yield place + field, f"no namespace {match['ns']!r}"
        elif end in devices:
            yield place + field, f"{end} is made twice"
        devices.add(end)
    allowed = _FIELDS.get(link.kind, frozenset())
    for field in ("peer", "peer_mtu", "peer_mac", "over", "id", "local", "remote", "ports"):
        if getattr(link, field) and field not in allowed:
            yield f"{place}.{field}", f"a {link.kind} has no {field}"
    if link.over:
        # A macvlan may lie over a device of another namespace, as a pod's does over its node's card.
        away = "/" in link.over and link.kind == "macvlan"
        if (link.over if away else f"{link.dev.partition('/')[0]}/{link.over}") not in devices:
            yield (
                f"{place}.over",
                f"no link before this makes {link.over}" + ("" if away else " in the same namespace"),
            )
    for low in link.ports:
        if f"{link.dev.partition('/')[0]}/{low}" not in devices:
            yield f"{place}.ports", f"no link before this makes {low} in the same namespace"


def _sysctls(values: dict[str, str | int], place: str) -> Iterator[tuple[str, str]]:
    """Only the settings below ``net.`` belong to a namespace; any other would change the machine."""
    for key in values:
        if not re.match(r"^net\.[\w./-]+$", key) or ".." in key:
            yield f"{place}.{key}", f"{key}: only settings below net. belong to a namespace"


def _step(step: Step, place: str, names: Any) -> Iterator[tuple[str, str]]:
    done = [action for action in _ACTIONS if getattr(step, action)]
    if len(done) != 1:
        yield (
            place,
            f"a step does one of {', '.join(_ACTIONS)}; this one {'does ' + ' and '.join(done) if done else 'does none'}",
        )
        return
    if done[0] in ("run", "udp", "http") and step.in_ not in names:
        yield place, f"a step that sends something says in which namespace; there is no {step.in_!r}"
    changes = {**step.fault, **step.fix}
    for name in [*changes, *step.capture, *step.expect.counters, *step.expect.drops]:
        if name not in names:
            yield place, f"no namespace {name!r}"
    for name, change in changes.items():
        yield from _sysctls(change.sysctls, f"{place}.{done[0]}.{name}.sysctls")
    try:
        re.compile(step.expect.output)
    except re.error as error:
        yield f"{place}.expect.output", f"not a pattern: {error}"
