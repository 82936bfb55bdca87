"""The node-wide rp_filter is on and overrides the zeros that the CNI needs on its interfaces.

What happens
------------
The kernel takes the larger of ``conf.all.rp_filter`` and the interface's own value. A node-wide 1 or 2 therefore
filters on the CNI's devices although each of them says 0, and drops what comes in on a device that the reverse route
does not name.

How to tell it from its neighbours
----------------------------------
``conf.all`` is non-zero while the CNI's interfaces are zero. If ``conf.all`` is zero and single interfaces are not,
something overwrote the interfaces instead. No CNI counter moves; the loss is in the IP stack.

Fix
---
Keep ``conf.all`` at 0 with a sysctl file that sorts behind the one that sets it.

References
----------
net/ipv4/fib_frontend.c, IN_DEV_RPFILTER (max of all and device); Documentation/networking/ip-sysctl.rst rp_filter.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.artifacts import rp_filter as artifact
from deadhop.model import cni
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Sysctl
from deadhop.model.observed.kernel import Counter, MartianSource
from deadhop.model.observed.kube import Pod
from deadhop.model.observed.node import SysctlSetting
from deadhop.model.observed.policy import CiliumEvent
from deadhop.snapshot.entities import NODE

SLUG = "rp-filter-enabled-globally-on-node"
ALL = "net.ipv4.conf.all.rp_filter"


def check(view: View) -> Iterator[Hypothesis]:
    values = {
        s.key.split(".")[3]: s
        for s in view.of(Sysctl)
        if s.key.startswith("net.ipv4.conf.") and s.key.endswith(".rp_filter")
    }
    files = [s for s in view.of(SysctlSetting) if s.key == ALL and not s.exclude]
    live = values.get("all")
    own = {dev: s for dev, s in values.items() if (row := cni.device(dev)) and row.rp_filter == 0}
    martians = [m for m in view.of(MartianSource) if m.ethertype in (0x0800, None)]
    passed = _unanswered(view)
    counted = [c for c in view.of(Counter) if c.name.endswith("IPReversePathFilter") and c.value > 0]
    if live is None and not files and passed:
        yield Hypothesis(
            subject=ALL,
            title=f"Packets of pods pass the CNI towards the host's stack and nothing comes back: {ALL} is likely non-zero.",
            checks=(
                shown("the CNI passes new connections to the stack, and no answer reaches the pod", passed[0], weight=1.0, required=True, decide=f"sysctl {ALL}"),
                shown("the pod that asks does not become ready", passed[1], weight=0.5, required=True),
            ),
            prior=-1.3,
        )  # fmt: skip
        return
    if live is None and not (files and own) and not (martians and own):
        return
    overwritten = [s for s in own.values() if s.value in ("1", "2")]
    zero = [s for s in own.values() if s.value == "0"]
    on = live.value in ("1", "2") if live else (any(f.value in ("1", "2") for f in files) or None)
    yield Hypothesis(
        subject=ALL,
        title=f"{ALL} is {live.value if live else 'set'} and overrides the zeros of the CNI's interfaces.",
        checks=(
            judged(f"{ALL} is non-zero", on, [live] if live else files, weight=1.4, required=True, decide=f"sysctl {ALL}"),
            judged("the CNI's interfaces are zero, so nothing overwrote them", False if overwritten else (True if zero else None), overwritten or zero, weight=1.2, required=bool(overwritten) or not ((passed or counted) and on), decide="sysctl -a | grep '\\.rp_filter'"),
            shown("the kernel drops IPv4 packets as martian", martians, weight=1.0, decide="journalctl -k | grep martian"),
            shown("the kernel counts packets that failed the filter", counted, weight=0.8),
            shown("the CNI passes packets to the stack, and no answer comes back", passed[0] if passed else (), weight=0.9),
            shown("a file sets it", files, weight=0.4, decide="grep -rs rp_filter /etc/sysctl.conf /etc/sysctl.d /usr/lib/sysctl.d"),
        ),
        explains=("paths that cross the CNI's devices lose their answers on every pod of the node",),
        fixes=(
            Fix(title="Keep conf.all at 0", artifact=artifact.drop_in("lxc*" if not own else f"{cni.device(next(iter(own))).prefix}*", [f.path for f in files if f.path])),  # type: ignore[union-attr]
        ),
        prior=-1.2,
    )  # fmt: skip


def _unanswered(view: View) -> tuple[list[CiliumEvent], list[Pod]] | None:
    """New connections that the datapath passed to the stack, and the pods that opened them and are not ready."""
    events = view.of(CiliumEvent)
    denied = [e for e in events if e.verdict == "DROPPED"]
    out = [e for e in events if e.endpoint == "stack" and e.state == "new" and e.dst_identity in NODE]
    back = {(e.dst, e.src) for e in events if e.state == "reply"}
    out = [e for e in out if (e.src, e.dst) not in back]
    pods = [p for p in view.of(Pod) if p.ip in {e.src for e in out} and p.ready and p.ready[0] < p.ready[1]]
    return None if denied or not out else (out, pods)


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="The node-wide rp_filter overrides the zeros that the CNI needs.",
    inputs=(Sysctl, Counter, SysctlSetting, MartianSource, CiliumEvent, Pod),
    needs=(Sysctl, CiliumEvent),
    rivals=(
        "rp-filter-overwritten-by-systemd-sysctl",
        "rp-filter-drops-asymmetric-pod-reply",
        "benign-rp-filter-disabled-as-intended",
    ),
    check=check,
)
