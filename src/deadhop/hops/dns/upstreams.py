"""Where a Corefile sends what it does not answer: every ``forward`` and ``proxy`` line with its place and targets.

A fragment without its server block (one plugin, as people paste it) is read as the block of the root zone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from deadhop.evidence.fields import fqdn, host_port, is_ip
from deadhop.evidence.formats.corefile import PLUGINS
from deadhop.hops.dns.corefile import Directive, ServerBlock, parse_corefile
from deadhop.model.observed.dns import CorefileText, ResolvConf

#: Resolvers that serve the public tree alone and are known by an address that is not global.
NODE_RESOLVERS = {
    "169.254.169.253": "Amazon VPC", "169.254.169.254": "Google Cloud", "168.63.129.16": "Azure", "100.100.2.136": "Alibaba Cloud",
    "100.100.2.138": "Alibaba Cloud", "169.254.116.108": "Talos host DNS",
}  # fmt: skip


class Forward(NamedTuple):
    """One forward line. ``zone`` is its FROM, ``block`` the zones of its server block; ``place`` counts within it."""

    block: tuple[str, ...]
    number: int
    place: int
    zone: str
    targets: tuple[str, ...]
    directive: Directive
    record: CorefileText

    @property
    def addresses(self) -> tuple[str, ...]:
        """The targets that are addresses, without scheme and port."""
        return tuple(a for t in self.targets if is_ip(a := host_port(t.rpartition("//")[2])[0]))

    @property
    def reads_file(self) -> bool:
        return any(t.startswith("/") for t in self.targets)


def blocks(text: str) -> tuple[ServerBlock, ...]:
    """The server blocks of a Corefile or of a piece of one."""
    first = next((w for w in text.split() if w), "")
    if first in PLUGINS:
        text = f".:53 {{\n{text}\n}}\n"
    return parse_corefile(text).servers


def forwards(corefiles: Iterable[CorefileText]) -> list[Forward]:
    """Every forward in the order of the text."""
    found: list[Forward] = []
    for record in corefiles:
        for number, block in enumerate(blocks(record.text)):
            zones = tuple(z.name for z in block.zones)
            for place, directive in enumerate(block.directives):
                if directive.name in ("forward", "proxy") and len(directive.args) > 1:
                    zone = "." if directive.args[0] == "." else fqdn(directive.args[0])
                    found.append(Forward(zones, number, place, zone, directive.args[1:], directive, record))
    return found


def kind(address: str) -> str:
    """``loopback``, ``link-local``, ``private`` or ``public``; empty for anything but an address."""
    host = host_port(address)[0]
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    if ip.is_loopback:
        return "loopback"
    if ip.is_link_local:
        return "link-local"
    return "public" if ip.is_global and host not in NODE_RESOLVERS else "private"


def serves(address: str) -> str:
    """What data a resolver can serve by its address: ``public`` (everyone's), ``provider`` (a cloud's), ``site``."""
    host = host_port(address)[0]
    return "provider" if host in NODE_RESOLVERS else "public" if kind(host) == "public" else "site"


def upstreams(
    found: Iterable[Forward], resolv: Iterable[ResolvConf]
) -> list[tuple[Forward, tuple[str, ...]]]:
    """Each forward with its addresses, those of the resolv.conf that it reads included."""
    resolv = [r for r in resolv if r.nameservers]
    return [
        (f, (*f.addresses, *(a for r in resolv for a in r.nameservers)) if f.reads_file else f.addresses)
        for f in found
    ]
