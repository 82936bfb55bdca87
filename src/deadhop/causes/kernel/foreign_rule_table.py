"""A routing policy rule of another agent sends node traffic to a table that holds no pod routes.

What happens
------------
An agent (a cloud's guest agent, a VPN, a multi-homing script) adds a rule for the node's address or device before
the main table. Its table has a default route and no pod routes, so answers to local pods leave through the wrong
device or fail the reverse-path check.

How to tell it from its neighbours
----------------------------------
The main table has the right pod routes, so a plain route listing looks healthy. The rule stands before main and
names a table of its own that no CNI uses. The table must answer for the pod's address, by a default route or a network:
a lookup that finds nothing in a table goes on to the next rule (fib_rules_lookup). A rule for a pod's own packets is the
CNI's, and an earlier rule that sends the pods' addresses to main leaves nothing to the later one. Where rules are
missing instead, something deleted them.

Fix
---
Disable the agent's rule, or add the pod routes to its table.

References
----------
ip-rule(8); net/core/fib_rules.c fib_rules_lookup (-EAGAIN); ec2-net-utils and amazon-ec2-net-utils; google-guest-agent; cloud-init.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.cni import device
from deadhop.model.net import Listing, Route, Rule
from deadhop.model.observed.kernel import MartianSource
from deadhop.model.observed.node import RouteGet
from deadhop.snapshot.firewall import within

SLUG = "foreign-ip-rule-table-lacks-pod-routes"

#: The kernel's tables, and those of Cilium's proxy.
OWN = ("local", "main", "default", "2004", "2005")
KNOWN = ("local", "main", "default", "2004", "2005", "200", "201", "202")


def check(view: View) -> Iterator[Hypothesis]:
    # A number that a CNI uses too counts where a lookup went that way although the main table knows the pod.
    known = [r for r in view.of(Route) if str(r.table) == "main" and _pod(r)]
    taken = {
        str(g.table) for g in view.of(RouteGet) if _dst(g.dst, known) and not (g.dev and device(g.dev))
    } - {*OWN}
    foreign = [
        r
        for r in view.of(Rule)
        if 0 < r.priority < 32766 and (str(r.table) not in KNOWN or str(r.table) in taken) and r.action in ("", None, "to_tbl", "lookup")
    ]  # fmt: skip
    foreign = [r for r in foreign if not (r.fwmark and not (r.src or r.iif))]
    if not foreign:
        return
    tables: dict[str, list[Route]] = {}
    for route in view.of(Route):
        tables.setdefault(str(route.table), []).append(route)
    for rule in foreign:
        own = tables.get(str(rule.table), [])
        pods = [r for r in tables.get("main", []) if _pod(r)]
        before = _sent_to_main(view.of(Rule), rule)
        if _of_a_pod(rule, pods, before):
            continue
        left = [r for r in pods if not within(_first(r), *before)]
        holds = [r for r in own if _pod(r)]
        wrong = [
            g
            for g in view.of(RouteGet)
            if str(g.table) == str(rule.table) or (g.dev and not device(g.dev) and _dst(g.dst, pods))
        ]
        if not wrong and not (_answers(own, pods) and (left or not pods)):
            continue
        if not pods and not wrong and any(what.what == f"routes{rule.family}" for what in view.of(Listing)):
            continue  # a node whose main table is known whole and has no pod routes has none to lack elsewhere
        src = rule.src if rule.src not in (None, "", "all", "0.0.0.0/0", "default") else ""
        yield Hypothesis(
            subject=f"rule {rule.priority} to table {rule.table}",
            title=f"Rule {rule.priority} sends traffic {('from ' + str(src)) if src else ''} to table {rule.table}, which has no pod routes.",
            checks=(
                shown("a rule before the main table points to a table of its own", [rule], weight=0.9, required=True, decide="ip rule"),
                judged("that table holds no pod routes", not holds, [*holds, *([] if holds else own), *wrong], weight=0.7, required=True, decide=f"ip route show table {rule.table}"),
                shown("the main table has the pod routes", pods, weight=0.6, decide="ip route"),
                shown("a lookup leaves through that table", wrong, weight=1.0, decide="ip route get POD-IP from NODE-IP"),
                shown("answers are dropped as martian or seen on the wrong device", view.of(MartianSource), weight=0.4),
            ),
            explains=("the node and its local pods cannot reach each other", "ip route looks healthy"),
            fixes=(Fix(title="Remove the rule", artifact=f"ip rule del priority {rule.priority}\n"),),
            prior=-1.2,
        )  # fmt: skip


def _pod(route: Route) -> bool:
    return any(leg.dev and device(leg.dev) for leg in route.legs)


def _first(route: Route) -> str:
    return route.dst.partition("/")[0]


def _sent_to_main(rules: Iterable[Rule], later: Rule) -> list[str]:
    """The destinations that rules before ``later`` look up in the main table, whoever sends (``to POD lookup main``)."""
    return [
        r.dst
        for r in rules
        if r.priority < later.priority
        and (r.where, r.family, r.table) == (later.where, later.family, "main")
        and r.src == "all"
        and r.dst != "all"
        and not (r.iif or r.oif or r.fwmark or r.inverted or r.suppress_prefixlength is not None)
    ]


def _of_a_pod(rule: Rule, pods: list[Route], to_main: list[str]) -> bool:
    """Whether a rule selects what a pod sends: it comes from the pod's device, or has the address of one pod."""
    if rule.iif and (dev := device(rule.iif)) is not None and dev.role == "pod":
        return True
    src = rule.src.removesuffix("/32").removesuffix("/128")
    return src in {r.removesuffix("/32").removesuffix("/128") for r in (*to_main, *(p.dst for p in pods))}


def _answers(table: Iterable[Route], pods: list[Route]) -> bool:
    """Whether a table has a route for a pod's address: otherwise the lookup goes on to the main table."""
    for route in table:
        if route.dst in ("default", "0.0.0.0/0", "::/0"):
            return True
        if "/" in route.dst and (any(within(_first(p), route.dst) for p in pods) or not pods):
            return True
    return any(_pod(r) for r in table)


def _dst(address: str, pods: list[Route]) -> bool:
    return within(address, *(r.dst for r in pods if r.dst != "default"))


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="Another agent's routing rule sends node traffic to a table without pod routes.",
    inputs=(
        Rule,
        Listing,
        Route,
        RouteGet,
        MartianSource,
    ),
    needs=(
        Rule,
        RouteGet,
    ),
    rivals=(
        "rp-filter-drops-asymmetric-pod-reply",
        "networkd-deletes-foreign-ip-rules",
        "cni-selected-wrong-node-interface",
    ),
    check=check,
)
