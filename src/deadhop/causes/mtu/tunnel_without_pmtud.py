"""A tunnel interface was created with path MTU discovery off.

What happens
------------
With ``nopmtudisc`` the tunnel neither copies DF to the outer packet nor turns an ICMP error for it into one for the
inner sender. When the path becomes narrower, the host learns the smaller MTU and the pods never do.

How to tell it from its neighbours
----------------------------------
The tunnel's parameters say so. The host's route cache has a smaller MTU for the tunnel peer, so the ICMP error did
arrive and is not filtered; the pod's route has none.

Fix
---
Enable path MTU discovery on the tunnel, or set its MTU below the smallest path.

References
----------
net/ipv4/ip_tunnel.c tnl_update_pmtu; ip-tunnel(8) nopmtudisc.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Link
from deadhop.model.observed.node import RouteGet

SLUG = "tunnel-without-pmtu-discovery"


def check(view: View) -> Iterator[Hypothesis]:
    for link in view.of(Link):
        if not link.info or "pmtudisc" not in link.info or not link.up:
            continue  # the module's own tunl0 is there, and down, in every namespace
        off = link.info.get("pmtudisc") is False
        # ``ip tunnel show`` has no flags; another listing of the device has.
        seen = any(other.ifname == link.ifname and other.flags and other.up for other in view.of(Link))
        learned = [r for r in view.of(RouteGet) if r.mtu and r.expires]
        yield Hypothesis(
            subject=link.ifname,
            title=f"{link.ifname} was created without path MTU discovery, so pods never learn of a narrower path.",
            checks=(
                judged("the tunnel has path MTU discovery off", off, [link], weight=1.9, required=True),
                shown(
                    "the host has learned a smaller MTU for the way",
                    learned,
                    weight=1.6,
                    required=not seen,  # the module's own tunl0 has it off as well, and may be down
                    decide="ip route get PEER-NODE-IP   # cache expires … mtu …",
                ),
            ),
            explains=("the ICMP error arrives at the host and is not passed on to the inner sender",),
            fixes=(
                Fix(
                    title="Switch path MTU discovery on",
                    artifact=f"ip tunnel change {link.ifname} mode ipip pmtudisc\n",
                ),
            ),
            prior=-1.2,
        )


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="A tunnel was created with path MTU discovery off.",
    inputs=(Link, RouteGet),
    needs=(Link,),
    rivals=("tunnel-mtu-exceeds-underlay", "icmp-frag-needed-dropped-by-node-firewall"),
    check=check,
)
