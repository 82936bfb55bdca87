"""The nested daemon runs with a reduced MTU, but that option covers only the default bridge.

What happens
------------
``dockerd --mtu`` sets the MTU of docker0. Networks that a job or compose creates get the driver's default of 1500
unless the driver option says otherwise, so containers on them still send packets that do not fit the pod.

How to tell it from its neighbours
----------------------------------
The daemon's command line carries the right MTU, which excludes a missing setting. Containers on the default bridge
work; only those on networks made by the job fail.

Fix
---
Set the driver's MTU option on every created network, or as the daemon's default network option.

References
----------
Docker bridge driver, com.docker.network.driver.mtu; moby issue 34981.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.net import Link
from deadhop.model.observed.message import Message
from deadhop.model.observed.shell import CommandRun
from deadhop.snapshot.sizes import devices

SLUG = "docker-user-network-ignores-daemon-mtu"


def check(view: View) -> Iterator[Hypothesis]:
    sized = devices(view.of(Link))
    told = [(int(m.field("mtu")), m) for m in view.of(Message) if m.kind == "daemon-mtu" and m.field("mtu")]
    # A default bridge below 1500 was given its size: Docker's own default is 1500.
    given = [(d.mtu, d.record) for d in sized if d.name == "docker0" and d.mtu < 1500]
    if not (told or given):
        return
    mtu = (told or given)[0][0]
    bridges = [d for d in sized if d.name.startswith("br-") and d.mtu > mtu]
    created = [
        m for m in view.of(Message) if m.kind == "user-network" and "driver.mtu" not in m.field("args")
    ]
    made = [
        c
        for c in view.of(CommandRun)
        if (c.argv[:3] == ("docker", "network", "create") and "driver.mtu" not in c.line)
        or c.argv[:1] == ("docker-compose",)
        or c.argv[:2] == ("docker", "compose")
    ]
    option = [m for m in view.of(Message) if m.kind == "network-mtu-option"]
    yield Hypothesis(
        subject=f"networks beside the default bridge (daemon MTU {mtu})",
        title=f"The daemon runs with MTU {mtu}, but networks that a job creates keep the full size.",
        checks=(
            Check(text=f"the daemon is told MTU {mtu}", holds=True, weight=0.8, required=True, records=tuple(r for _mtu, r in (*told, *given))),
            shown("a network of its own is used, with a larger MTU or without the option", [*(b.record for b in bridges), *created, *made], weight=1.8, required=True, decide="docker network ls; docker network inspect NETWORK; ip link"),
            judged("no network option sets the MTU", False if option else None, option, weight=1.2, required=bool(option)),
            shown("a created bridge is larger than the daemon's MTU", [b.record for b in bridges], weight=0.8),
        ),
        explains=("containers on the default bridge work",),
        fixes=(Fix(title="Set the driver's MTU on created networks", artifact=f"networks:\n  default:\n    driver: bridge\n    driver_opts:\n      com.docker.network.driver.mtu: {mtu}\n"),),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="The nested daemon's MTU option does not reach networks that a job creates.",
    inputs=(Message, Link, CommandRun),
    needs=(Message, Link),
    rivals=("dind-bridge-mtu-exceeds-pod-mtu",),
    check=check,
)
