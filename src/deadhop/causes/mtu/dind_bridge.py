"""A container runtime nested in a pod gives its default bridge a larger MTU than the pod's own interface.

What happens
------------
The nested daemon sets its bridge to 1500 whatever the pod has. Nested containers announce an MSS of 1460 and receive
segments (or send packets) that do not fit the pod's overlay; the first large record stalls.

How to tell it from its neighbours
----------------------------------
The inner bridge's MTU is above that of the pod's interface in the same namespace; the pod itself works. If the daemon
was told the right MTU and only networks made by a job fail, the option does not reach those networks.

Fix
---
Start the nested runtime with an MTU not above that of the pod's interface.

References
----------
dockerd(8) --mtu; net/bridge br_mtu.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged
from deadhop.model.net import Link
from deadhop.model.observed.message import Message
from deadhop.snapshot.sizes import devices

SLUG = "dind-bridge-mtu-exceeds-pod-mtu"


def check(view: View) -> Iterator[Hypothesis]:
    sized = devices(view.of(Link))
    told = [m for m in view.of(Message) if m.kind == "daemon-mtu" and m.field("mtu")]
    # Where the default bridge fits, the daemon knows the size: only networks made beside it are too large.
    fits = {d.where: d for d in sized if d.name == "docker0" and d.mtu < 1500}
    for bridge in (d for d in sized if d.name.startswith(("docker", "podman", "br-"))):
        for pod in (
            d for d in sized if d.where == bridge.where and d.role in ("nic", "pod") and d.mtu < 1500
        ):
            right = [m for m in told if int(m.field("mtu")) <= pod.mtu]
            yield Hypothesis(
                subject=f"{bridge.name} and {pod.name}",
                title=f"{bridge.name} has MTU {bridge.mtu}, the pod's {pod.name} only {pod.mtu}: nested containers send and announce too much.",
                checks=(
                    judged(f"the nested bridge's MTU {bridge.mtu} is above the pod's {pod.mtu}", bridge.mtu > pod.mtu, [bridge.record, pod.record], weight=2.3, required=True),
                    judged("it is the daemon's default bridge", bridge.name.startswith(("docker", "podman")), [], weight=0.4),
                    judged("the daemon was not told a smaller MTU", False if right else None, right, weight=1.6),
                    judged("the daemon's default bridge is not smaller", False if bridge.where in fits and fits[bridge.where].mtu <= pod.mtu else None, [fits[bridge.where].record] if bridge.where in fits else [], weight=0.4, required=bridge.where in fits and fits[bridge.where].mtu <= pod.mtu),
                ),
                explains=("the pod itself works, containers inside it stall on the first large record",),
                fixes=(
                    Fix(title=f"Start the nested daemon with MTU {pod.mtu}", artifact=f"dockerd --mtu={pod.mtu} --default-network-opt=bridge=com.docker.network.driver.mtu={pod.mtu}\n"),
                ),
                prior=-1.2,
            )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="A nested container runtime's bridge has a larger MTU than the pod's interface.",
    inputs=(Link, Message),
    needs=(Link,),
    rivals=("docker-user-network-ignores-daemon-mtu", "tunnel-mtu-exceeds-underlay"),
    check=check,
)
