"""Does a filter let an event pass? In plain Python: what the compiled filter is tested against."""

from __future__ import annotations

from deadhop.kernel.event import Event
from deadhop.kernel.filter import nodes as n


def matches(node: n.Node, event: Event) -> bool:
    """Whether ``event`` passes ``node``."""
    match node:
        case n.Everything():
            return True
        case n.Not(inner):
            return not matches(inner, event)
        case n.And(left, right):
            return matches(left, event) and matches(right, event)
        case n.Or(left, right):
            return matches(left, event) or matches(right, event)
        case n.Version(number):
            return event.version == number
        case n.EtherType(number):
            return event.ethertype == number
        case n.Protocol(number, version):
            return event.version != 0 and event.proto == number and version in (0, event.version)
        case n.Address(side, net):
            chosen = {"src": [event.src], "dst": [event.dst]}.get(side, [event.src, event.dst])
            return event.version == net.version and any(address in net for address in chosen)
        case n.Port(side, low, high):
            ports = {"src": [event.sport], "dst": [event.dport]}.get(side, [event.sport, event.dport])
            return bool(event.has_ports) and any(low <= port <= high for port in ports)
        case n.Device(name):
            return event.dev == name
        case n.Namespace(inode):
            return event.netns == inode
        case n.Reason(number):
            return event.reason == number
        case n.Mark(value, mask):
            return event.mark & mask == value & mask
        case n.Length(low, high):
            return low <= event.len <= high
    raise AssertionError(node)
