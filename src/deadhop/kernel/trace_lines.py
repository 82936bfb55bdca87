"""A trace's event as pwru prints it: the columns of its releases since 1.0.7, or its JSON.

So that a listing of either tool is evidence for deadhop, and ``ktrace diff`` compares one with the other.
"""

from __future__ import annotations

from typing import Any

from deadhop.kernel.describe import protocol
from deadhop.kernel.drops import PREFIX, DropReasons
from deadhop.kernel.event import CONSUMED, DROPPED, Event
from deadhop.kernel.symbols import Symbols

HEADER = f"{'SKB':<18} {'CPU':<3} {'PROCESS':<16} {'NETNS':<10} {'MARK/x':<8} {'IFACE':^16} {'PROTO':<6} {'MTU':<5} {'LEN':<5} TUPLE FUNC"


class Lines:
    """Events to lines."""

    def __init__(self, reasons: DropReasons, symbols: Symbols | None = None) -> None:
        self.reasons = reasons
        self.symbols = symbols or Symbols()

    def function(self, event: Event) -> str:
        if event.kind == CONSUMED:
            return "consume_skb"
        if event.kind == DROPPED:
            if not self.reasons.names:
                return "kfree_skb"
            name = self.reasons.name(event.reason)
            return f"kfree_skb_reason({name if ':' in name else PREFIX + name})"
        return self.symbols.at(event.location)[0] or f"{event.location:#x}"

    def text(self, event: Event) -> str:
        process = f"{event.comm}:{event.pid}" if event.pid else f"<empty>:{event.pid}"
        iface = f"{event.dev}:{event.ifindex}" if event.ifindex else "0"
        process = process.replace(" ", "_")
        return (
            f"{event.skb:#018x} {event.cpu:<3} {process[-16:]:<16} {event.netns:<10} {event.mark:<8x} {iface:^16} "
            f"{event.ethertype:#06x} {event.mtu:<5} {event.len:<5} {_tuple(event)} {self.function(event)}"
        )

    def object(self, event: Event) -> dict[str, Any]:
        found: dict[str, Any] = {
            "skb": f"{event.skb:#x}",
            "cpu": event.cpu,
            "process": f"{event.comm}:{event.pid}",
            "func": self.function(event),
            "time": event.time,
            "netns": event.netns,
            "mark": event.mark,
            "iface": f"{event.dev}:{event.ifindex}" if event.ifindex else "0",
            "proto": event.ethertype,
            "mtu": event.mtu,
            "len": event.len,
        }
        if event.kind == DROPPED:
            found["caller_func"] = self.symbols.at(event.location)[0]
        if event.version:
            found["tuple"] = {
                "saddr": str(event.src),
                "daddr": str(event.dst),
                "sport": event.sport,
                "dport": event.dport,
                "proto": event.proto,
            }
        return found


def _tuple(event: Event) -> str:
    if not event.version:
        return ":0->:0(none)"
    src, dst = (f"[{address}]" if event.version == 6 else str(address) for address in (event.src, event.dst))
    return f"{src}:{event.sport}->{dst}:{event.dport}({protocol(event)})"
