"""What the kernel writes to its log and counts."""

from __future__ import annotations

from deadhop.model.record import Record


class MartianSource(Record, frozen=True, kw_only=True):
    """``IPv4: martian source DST from SRC, on dev DEV`` and its ``ll header`` (net/ipv4/route.c).

    ``dst`` comes first in the kernel's text. ``ethertype`` is 0x0800 for IPv4 and 0x0806 for ARP; ``None`` where
    the link-layer header is not in the evidence.
    """

    dst: str
    src: str
    dev: str
    ll_dst: str = ""
    ll_src: str = ""
    ethertype: int | None = None


class NetfilterLog(Record, frozen=True, kw_only=True):
    """A ``LOG`` or ``TRACE`` target's line. For a trace ``rule`` is ``table:chain:kind:number``."""

    prefix: str = ""
    rule: str = ""
    in_dev: str = ""
    out_dev: str = ""
    src: str = ""
    dst: str = ""
    proto: str = ""
    sport: int | None = None
    dport: int | None = None


class Counter(Record, frozen=True, kw_only=True):
    """A counter's value (``nstat``, ``/proc/net/snmp``, ``conntrack -S``, ethtool, Prometheus)."""

    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()
