"""Answers and files of a node that are not state: ``ip route get``, sysctl.d files, udev rules, ping."""

from __future__ import annotations

from deadhop.model.record import Record


class RouteGet(Record, frozen=True, kw_only=True):
    """The kernel's own answer to ``ip route get DST``; ``mtu`` in bytes with ``expires`` for a learned exception."""

    dst: str
    type: str = "unicast"
    dev: str = ""
    gateway: str = ""
    src: str = ""
    table: str = ""
    from_: str = ""
    iif: str = ""
    mtu: int | None = None
    expires: bool = False


class SysctlSetting(Record, frozen=True, kw_only=True):
    """One line of a sysctl.d file or ``sysctl.conf``. ``exclude`` is ``-key`` without a value; ``path`` the file on
    the node where the transcript shows it."""

    key: str
    value: str = ""
    path: str = ""
    ignore_errors: bool = False
    exclude: bool = False


class UdevRule(Record, frozen=True, kw_only=True):
    """One udev rule: ``match`` and ``assign`` as ``(key, operator, value)``."""

    match: tuple[tuple[str, str, str], ...]
    assign: tuple[tuple[str, str, str], ...]
    path: str = ""
    text: str = ""


class Ping(Record, frozen=True, kw_only=True):
    """A ping run or a note of one. ``name`` is the name that was resolved to ``target``. ``size`` is the ICMP payload in bytes; ``ok`` None where not said.

    ``error`` is ``too-long`` (the local stack refused it), ``no-buffer`` (it had no room, ENOBUFS), ``unreachable``,
    ``unresolved``, ``lost`` or empty."""

    target: str = ""
    name: str = ""
    size: int | None = None
    df: bool = False
    ok: bool | None = None
    error: str = ""
    text: str = ""


class Offload(Record, frozen=True, kw_only=True):
    """An offload feature of a device. ``changed``: somebody set it; ``note``: it labels the run that follows."""

    dev: str = ""
    feature: str
    on: bool
    changed: bool = False
    note: bool = False


class Throughput(Record, frozen=True, kw_only=True):
    """One line of a throughput test, in bits per second."""

    bits: float
    retransmits: int | None = None


class PortRange(Record, frozen=True, kw_only=True):
    """One entry of a security group or a cloud firewall. ``protocol`` is tcp, udp, icmp or ``all``."""

    group: str = ""
    protocol: str
    first: int | None = None
    last: int | None = None
    ingress: bool = True
    peer: str = ""


class CloudFlow(Record, frozen=True, kw_only=True):
    """A flow as a cloud network's filters logged it. ``protocol`` is the IP protocol's number, ``size`` bytes of all
    packets together."""

    device: str = ""
    src: str
    dst: str
    sport: int | None = None
    dport: int | None = None
    protocol: int | None = None
    packets: int | None = None
    size: int | None = None
    accepted: bool

    @property
    def refused_error(self) -> bool:
        """Whether it is ICMP that was discarded and no echo: an error quotes the packet that it is about (RFC 792)."""
        each = self.size / self.packets if self.size and self.packets else 0
        return not self.accepted and self.protocol in (1, 58) and (each == 56 or each > 100)


class Frontend(Record, frozen=True, kw_only=True):
    """A service address and port for which a node's proxy holds backends (``ip:port``)."""

    address: str
    port: int
    protocol: str = ""
    backends: tuple[str, ...] = ()
