"""systemd-networkd removes routing rules that it does not own when it restarts or reconfigures a link, and the CNI does not put them back.

What happens
------------
networkd takes rules and routes that are not in its files for leftovers. On a restart, a link flap or a new
interface it deletes them; the CNI wrote them once, when the pod was made.

How to tell it from its neighbours
----------------------------------
The tables are intact, only the rules are gone: the local lookup rule is absent, or a pod has its route and no rule while
the pods beside it, or made after the restart, have theirs. A foreign rule that
is present and wrong is the opposite case. A restart of networkd or a change of a link precedes it.

Fix
---
Tell networkd to leave foreign rules and routes alone, then recreate the pods or restart the CNI.

References
----------
networkd.conf(5) ManageForeignRoutingPolicyRules, ManageForeignRoutes; Cilium installation notes on systemd.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.cni import device
from deadhop.model.net import Route, Rule
from deadhop.model.observed.kube import Pod
from deadhop.model.observed.message import Message
from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "networkd-deletes-foreign-ip-rules"


def check(view: View) -> Iterator[Hypothesis]:
    messages = view.of(Message)
    removed = said(messages, "networkd-rule", "rule-deleted")
    settings = [m for m in said(messages, "networkd-setting") if m.field("value") in ("yes", "true", "1")]
    restarts = [
        *said(messages, "networkd-restart", "networkd-link"),
        *view.where(
            CommandRun,
            lambda c: bool(
                re.search(
                    r"(?:restart|reload)\S* .*systemd-networkd|networkctl (?:reload|reconfigure)|netplan apply|apt\S* .*upgrade.*systemd|ip link set (?:dev )?(?:bond|eth|en)\S* (?:down|up)",
                    c.line,
                )
            ),
        ),
    ]
    listed = view.of(Rule)
    places: dict[str, list[Rule]] = {}
    for rule in listed:
        places.setdefault(rule.where + rule.source.file, []).append(rule)
    local_gone = [
        r
        for rows in places.values()
        if len(rows) >= 2 and not any(x.table == "local" for x in rows)
        for r in rows
    ]
    tables = {str(r.table) for r in view.of(Route)} - {"main", "local", "default"}
    orphaned = [
        r for r in view.of(Route) if listed and str(r.table) in tables - {str(x.table) for x in listed}
    ]
    lost: list[Record] = [*_lost(listed), *_bare(view)]
    if not (removed or local_gone or orphaned or lost or (settings and restarts)):
        return
    gone: list[Record] = [*removed, *local_gone, *lost, *orphaned]
    yield Hypothesis(
        subject="ip rules",
        title="Routing rules that the CNI had added are gone, after systemd-networkd touched the links.",
        checks=(
            shown("rules are gone: deleted, the local lookup is missing, or a table has no rule", gone or (settings and restarts), weight=1.2, required=True, decide="ip rule; ip monitor rule"),
            shown("systemd-networkd restarted or reconfigured a link, or manages foreign rules", [*restarts, *settings, *said(messages, "networkd-rule")], weight=1.5, required=True, decide="journalctl -u systemd-networkd; grep -rs ManageForeign /etc/systemd"),
            shown("the tables are still there", orphaned, weight=0.4),
        ),
        explains=("all of the node's or some pods' traffic stops at once, while the routes look right",),
        fixes=(Fix(title="Leave foreign rules and routes alone", artifact="# /etc/systemd/networkd.conf.d/10-foreign.conf\n[Network]\nManageForeignRoutingPolicyRules=no\nManageForeignRoutes=no\n"),),
        prior=-1.3,
    )  # fmt: skip


def _bare(view: View) -> list[Record]:
    """Pods of the node that no rule names, although the CNI logged that it added theirs, or the pods beside them have
    theirs: the pod's route in the main table, and the log's line."""
    logged = said(view.of(Message), "cni-rule-added")
    # A listing that grep cut down shows what it was asked for, and not what is absent.
    cut = {r.source.file for r in view.of(CommandRun) if "rule" in r.argv and r.filters}
    rules = [r for r in view.of(Rule) if r.source.file not in cut]
    if not any(r.table == "main" and r.src == r.dst == "all" for r in rules):
        return []
    named = {_host(a) for r in rules for a in (r.src, r.dst)}
    pods = [r for r in view.of(Route) if str(r.table) == "main" and _pod(r)]
    ours = [r for r in pods if "/" not in _host(r.dst)]
    ruled = [r for r in ours if _host(r.dst) in named]
    bare = [r for r in ours if _host(r.dst) not in named]
    told = [m for m in logged if _host(m.field("pod")) in {_host(r.dst) for r in bare}]
    alive = {p.ip for p in view.of(Pod) if p.ip}
    told += [m for m in logged if _host(m.field("pod")) in alive - named and m not in told]
    return [*(bare if ruled or told else []), *told]


def _host(prefix: str) -> str:
    """One host's address without a length, which iproute2 leaves out and the CNIs' logs do not."""
    return prefix.removesuffix("/32").removesuffix("/128")


def _pod(route: Route) -> bool:
    return any(leg.dev and (dev := device(leg.dev)) and dev.role == "pod" for leg in route.legs)


def _lost(listed: list[Rule]) -> list[Rule]:
    """Rules of a first listing that a second one of the same file no longer has."""
    last = [i for i, r in enumerate(listed) if r.priority in (0, 9, 100) and r.table == "local"]
    if len(last) < 2:
        return []
    before, after = listed[: last[1]], listed[last[1] :]
    kept = {(r.priority, r.src, r.dst, r.table) for r in after}
    return [r for r in before if (r.priority, r.src, r.dst, r.table) not in kept]


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="systemd-networkd removed routing rules that the CNI had added.",
    inputs=(
        Message,
        CommandRun,
        Rule,
        Route,
        Pod,
    ),
    needs=(
        Message,
        CommandRun,
        Rule,
    ),
    rivals=(
        "foreign-ip-rule-table-lacks-pod-routes",
        "networkmanager-manages-cni-interfaces",
        "connmark-routes-pod-traffic-via-wrong-interface",
    ),
    check=check,
)
