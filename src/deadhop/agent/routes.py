"""The policy route that delivers marked packets to the proxy's sockets, whatever address they are for."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

from deadhop.agent.ruleset import MARK, MASK

TABLE = 2004
"""Cilium's table for packets to a proxy (``RouteTableToProxy``)."""
PRIORITY = 9
RT_SCOPE_HOST = 254
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def install() -> list[str]:
    """Set the rule and the route; what stands already is left. Returns which families could not be served."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    missing: list[str] = []
    with IPRoute() as ipr:
        (lo,) = ipr.link_lookup(ifname="lo")
        for family in _FAMILIES:
            name = "IPv4" if family == socket.AF_INET else "IPv6"
            if family == socket.AF_INET6 and not Path("/proc/net/if_inet6").exists():
                missing.append(name)
                continue
            try:
                ipr.link("set", index=lo, state="up")
                ipr.route(
                    "replace",
                    dst="0.0.0.0/0" if family == socket.AF_INET else "::/0",
                    family=family,
                    oif=lo,
                    table=TABLE,
                    type="local",
                    scope=RT_SCOPE_HOST if family == socket.AF_INET else 0,
                )
                try:
                    ipr.rule("add", family=family, table=TABLE, fwmark=MARK, fwmask=MASK, priority=PRIORITY)
                except NetlinkError as error:
                    if error.code != 17:  # EEXIST
                        raise
            except NetlinkError as error:
                missing.append(f"{name} ({error.args[-1]})")
    return missing


def remove() -> None:
    """Take rule and routes away; what is not there is passed over."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as ipr:
        for family in _FAMILIES:
            with suppress(NetlinkError):
                ipr.rule("del", family=family, table=TABLE, fwmark=MARK, fwmask=MASK, priority=PRIORITY)
            with suppress(NetlinkError):
                ipr.flush_routes(family=family, table=TABLE)
