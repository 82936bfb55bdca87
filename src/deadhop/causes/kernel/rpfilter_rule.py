"""The distribution's firewall does reverse-path filtering with a netfilter rule, which drops traffic that the CNI routes.

What happens
------------
A rule with an rpfilter or fib match drops packets whose reverse route names another device. CNIs with endpoint
routes, tunnels or policy routing have such paths on purpose.

How to tell it from its neighbours
----------------------------------
The rule is there and counts packets; the rp_filter sysctls are zero. With a non-zero sysctl the kernel's own check
is at fault. Deleting the rule restores traffic at once.

Fix
---
Switch the firewall's check off or to loose, or exempt the CNI's interfaces.

References
----------
iptables-extensions(8) rpfilter; nft(8) fib; NixOS networking.firewall.checkReversePath; firewalld.conf(5)
IPv6_rpfilter.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Sysctl
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.firewall import FirewallRule
from deadhop.model.observed.kernel import NetfilterLog
from deadhop.model.observed.message import Message
from deadhop.snapshot.firewall import rules

SLUG = "netfilter-rpfilter-rule-drops-pod-traffic"


def check(view: View) -> Iterator[Hypothesis]:
    found = [
        r
        for r in rules(view.of(IptablesTable), view.of(FirewallRule))
        if (_reverse(r.text) or "rpfilter" in r.chain.lower())
        and (r.drops or "rpfilter" in r.chain.lower() or r.target in ("nixos-fw-rpfilter", "RETURN"))
    ]
    dropping = [r for r in found if r.drops or "rpfilter" in r.chain.lower()]
    logged = [
        log
        for log in view.of(NetfilterLog)
        if "rpfilter" in log.prefix.lower() or "rpfilter" in log.rule.lower()
    ]
    switched = [
        m
        for m in view.of(Message)
        if (m.kind == "firewalld-rpfilter" and m.field("value") in ("yes", "strict"))
        or (m.kind == "nixos-rpfilter" and m.field("value") in ("true", '"strict"'))
    ]
    if not dropping and not logged and not switched:
        return
    counted = [r for r in dropping if r.packets]
    idle = [r for r in dropping if r.packets == 0]
    zero = [s for s in view.of(Sysctl) if s.key.endswith(".rp_filter") and s.value == "0"]
    strict = [s for s in view.of(Sysctl) if s.key.endswith(".rp_filter") and s.value == "1"]
    named = dropping[0].chain if dropping else "the firewall"
    yield Hypothesis(
        subject=named,
        title=f"{named} drops packets that fail a reverse-path match, as paths through the CNI do.",
        checks=(
            shown("a rule with a reverse-path match drops", [*(r.record for r in dropping), *logged, *switched], weight=1.9, required=True, decide="iptables-save -t mangle; iptables-save -t raw; nft list ruleset | grep -B2 -A2 fib"),
            judged("it counts packets", False if idle and not counted and not logged else (True if counted or logged else None), [*(r.record for r in counted), *logged], weight=1.0, required=bool(idle and not counted and not logged)),
            judged("the rp_filter sysctls are off", False if strict else (True if zero else None), strict or zero, weight=0.6, decide="sysctl -a | grep '\\.rp_filter'"),
        ),
        explains=("packets are on the device and never reach the pod or the socket", "the kernel logs no martian"),
        fixes=(Fix(title="Make the check loose", artifact="# NixOS: networking.firewall.checkReversePath = \"loose\";\n# firewalld: IPv6_rpfilter=loose in /etc/firewalld/firewalld.conf\niptables -t mangle -I PREROUTING -i lxc+ -j ACCEPT\n"),),
        prior=-1.3,
    )  # fmt: skip


def _reverse(text: str) -> bool:
    return "rpfilter" in text or ("fib saddr" in text and "oif" in text)


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="A firewall rule does reverse-path filtering and drops what the CNI routes.",
    inputs=(
        IptablesTable,
        FirewallRule,
        NetfilterLog,
        Message,
        Sysctl,
    ),
    needs=(
        IptablesTable,
        FirewallRule,
        Message,
        NetfilterLog,
    ),
    rivals=(
        "rp-filter-enabled-globally-on-node",
        "rp-filter-drops-asymmetric-pod-reply",
        "node-firewall-rejects-pod-traffic",
    ),
    check=check,
)
