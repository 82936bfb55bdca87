"""After an agent restart the address map and the endpoints' policy disagree on an identity for a while.

What happens
------------
Node-local identities are numbered anew. Until every endpoint has been regenerated, the address map may hand out the new
number while an endpoint's policy map still allows the old one, and allowed traffic is dropped.

How to tell it from its neighbours
----------------------------------
Two local identities exist for one prefix at the same time, and drops end by themselves. A loss that stays points to a
removed entry, a number of the cluster's range to a stale global identity.

Fix
---
Use a release that restores local identities consistently; let clients try again.

References
----------
Cilium pkg/identity/cache/local.go, pkg/endpoint/bpf.go syncPolicyMap; identity range of bit 24.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.message import Message
from deadhop.model.observed.policy import CiliumIdentity, Flow
from deadhop.snapshot.clock import within_year
from deadhop.snapshot.entities import LOCAL, denied_to, number, prefixes
from deadhop.snapshot.said import said

SLUG = "transient-identity-mismatch-on-agent-restart"


def check(view: View) -> Iterator[Hypothesis]:
    flows = view.of(Flow)
    yield from _changing(view)
    yield from _renumbered(view)
    yield from _window(view)
    for prefix, found in prefixes(view.of(CiliumIdentity)).items():
        local = {number(i.identity): i for i in found if number(i.identity) >= LOCAL}
        if len(local) < 2:
            continue
        address = prefix.partition("/")[0]
        denied = denied_to(flows, address)
        again = [f for f in flows if not f.denied and f.dst.ip == address]
        ended = bool(denied and again and flows.index(again[-1]) > flows.index(denied[-1]))
        numbers = sorted(local)
        yield Hypothesis(
            subject=prefix,
            title=f"{prefix} has the local identities {numbers[0]} and {numbers[-1]} at once: address map and endpoint policy disagree.",
            checks=(
                shown("two local identities exist for one prefix", local.values(), weight=1.9, required=True),
                shown("connections to it are denied", denied[:3], weight=0.7, decide=f"hubble observe --verdict DROPPED --to-ip {address}"),
                judged("drops end by themselves", True if ended else (False if denied and again else None), again[-2:], weight=0.7),
            ),
            explains=("allowed traffic is dropped until all endpoints have been regenerated",),
            fixes=(Fix(title="Regenerate the endpoints, and use a release that keeps local identities", artifact="kubectl -n kube-system exec ds/cilium -- cilium-dbg endpoint list\nkubectl -n kube-system exec ds/cilium -- cilium-dbg endpoint regenerate ENDPOINT\n", conditional=True),),
            prior=-1.2,
        )  # fmt: skip


def _changing(view: View) -> Iterator[Hypothesis]:
    """A pod that is seen with a local (CIDR) identity and denied, and soon with its own and let through."""
    flows = view.of(Flow)
    for flow in flows:
        if not flow.denied or "/" not in flow.src.name or number(flow.src.identity) < LOCAL:
            continue
        later = [
            f for f in flows[flows.index(flow) + 1 :]
            if not f.denied and f.src.name == flow.src.name and (f.dst.name, f.dst.port) == (flow.dst.name, flow.dst.port)
            and 100 <= number(f.src.identity) < LOCAL
        ]  # fmt: skip
        if later:
            yield Hypothesis(
                subject=flow.src.name,
                title=f"{flow.src.name} had the local identity {flow.src.identity} while it was denied, and has its own again.",
                checks=(
                    shown("a pod is denied under a local identity", [flow], weight=1.6, required=True),
                    shown(
                        "the same connection passes under the pod's own identity",
                        later[:2],
                        weight=1.2,
                        required=True,
                    ),
                ),
                explains=("allowed traffic is dropped until all endpoints have been regenerated",),
                prior=-1.2,
            )
            return


def _renumbered(view: View) -> Iterator[Hypothesis]:
    """An address that passes under one local identity, is denied under another, and passes again under that one."""
    by: dict[tuple[str, int | None], list[Flow]] = {}
    for flow in view.of(Flow):
        if flow.dst.ip and number(flow.dst.identity) >= LOCAL and not flow.reply:
            by.setdefault((flow.dst.ip, flow.dst.port), []).append(flow)
    for (address, _port), flows in by.items():
        denied = [f for f in flows if f.denied]
        if not denied:
            continue
        fresh = denied[0].dst.identity
        before = [f for f in flows[: flows.index(denied[0])] if not f.denied and f.dst.identity != fresh]
        after = [f for f in flows[flows.index(denied[-1]) + 1 :] if not f.denied and f.dst.identity == fresh]
        if before and after:
            yield Hypothesis(
                subject=address,
                title=f"{address} changed from the local identity {before[-1].dst.identity} to {fresh} and was denied until the endpoint's policy followed.",
                checks=(
                    shown("the address passed under another local identity before", before[-2:], weight=1.2, required=True),
                    shown("it is denied under the new one", denied[:3], weight=1.0, required=True),
                    shown("the same identity passes later: drops end by themselves", after[:2], weight=1.2, required=True),
                    shown("the agent regenerates restored endpoints", _regenerating(view), weight=0.6, decide="kubectl -n kube-system logs ds/cilium | grep -i regenerat"),
                ),
                explains=("allowed traffic is dropped until all endpoints have been regenerated",),
                prior=-1.4,
            )  # fmt: skip
            return


def _window(view: View) -> Iterator[Hypothesis]:
    """Connections to an outside address that are denied only while a restarted agent regenerates its endpoints."""
    told = _regenerating(view)
    times = [t for m in told if (t := within_year(m.time)) is not None]
    flows = [f for f in view.of(Flow) if not f.reply and f.dst.ip and f.dst.port]
    denied = [f for f in flows if f.denied and number(f.dst.identity) >= LOCAL]
    if len(times) < 2 or not denied:
        return
    inside = [
        f for f in denied if (t := within_year(f.time)) is not None and min(times) - 30 <= t <= max(times) + 5
    ]
    target = (denied[0].dst.ip, denied[0].dst.port)
    after = [
        f for f in flows[flows.index(denied[-1]) + 1 :] if not f.denied and (f.dst.ip, f.dst.port) == target
    ]
    if len(inside) == len(denied) and after:
        yield Hypothesis(
            subject=target[0],
            title=f"{target[0]} is denied only while the agent regenerates its restored endpoints.",
            checks=(
                shown("the agent regenerates restored endpoints", told[:4], weight=1.0, required=True),
                shown("every denial falls into that time", inside[:3], weight=1.3, required=True),
                shown("the same connection passes later", after[:2], weight=1.1, required=True),
            ),
            explains=("allowed traffic is dropped until all endpoints have been regenerated",),
            prior=-1.6,
        )  # fmt: skip


def _regenerating(view: View) -> list[Message]:
    return said(view.of(Message), "agent-regeneration")


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="After an agent restart the address map and an endpoint's policy disagree on an identity.",
    inputs=(CiliumIdentity, Flow, Message),
    needs=(CiliumIdentity, Flow),
    rivals=("ipcache-entry-lost-after-agent-restart", "stale-global-cidr-identity-leaves-ipcache-empty"),
    check=check,
)
