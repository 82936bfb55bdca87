"""The control plane was upgraded while older proxies remain.

What happens
------------
Proxies that were not restarted since the upgrade get configuration made for a newer release: routes to clusters that
their names do not match, fields and filters that they do not know.

How to tell it from its neighbours
----------------------------------
It starts right after the upgrade, for pods not restarted since; versions of control plane and proxies differ; unknown
fields or clusters are named. A rejected update with equal versions has its reason in the configuration itself.

Fix
---
Restart or upgrade the proxies within the supported version skew.

References
----------
Istio, Supported Releases (version skew); istioctl version, proxy-status.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.kube import Pod, Workload
from deadhop.model.observed.mesh import EnvoyAccess, MeshVersion, ProxySync
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "control-plane-data-plane-skew"


def check(view: View) -> Iterator[Hypothesis]:
    controls = {_minor(v.version): v for v in view.of(MeshVersion) if v.role == "control-plane"}
    proxies: dict[str, Record] = {
        _minor(v.version): v for v in view.of(MeshVersion) if v.role == "data-plane"
    }
    proxies |= {_minor(s.version): s for s in view.of(ProxySync) if s.version}
    images = [
        (m[1], _minor(m[2]), k)
        for k in (*view.of(Pod), *view.of(Workload))
        for m in IMAGE.finditer(str(k.raw))
    ]
    for kind, minor, record in images:
        if minor:
            (controls if kind == "pilot" else proxies).setdefault(minor, record)  # type: ignore[arg-type]
    controls.pop("", None)
    proxies.pop("", None)
    differ = bool(controls and set(proxies) - set(controls)) or len(proxies) > 1
    same = bool(controls and proxies) and not differ
    unknown = said(view.of(Message), "xds-unknown-field")
    lost: list[Record] = [a for a in view.of(EnvoyAccess) if "NC" in a.flags]
    lost += said(view.of(Message), "route-unknown-cluster", "xds-rejected")
    versions: list[Record] = [*controls.values(), *proxies.values()]
    inbound = [a for a in view.of(EnvoyAccess) if "NC" in a.flags and a.inbound]
    if not (differ or unknown or inbound or (same and lost)):
        return
    yield Hypothesis(
        subject="the proxies' release",
        title="Control plane and proxies run different releases, and the configuration does not fit the older proxies.",
        checks=(
            judged("control plane and proxies run different releases", True if differ else (False if same else None), versions if differ or same else [], weight=1.5, required=same, decide="istioctl version; istioctl proxy-status"),
            shown("the proxy does not know a field, filter or cluster that it is sent", [*unknown, *inbound] or (lost if differ else []), weight=1.4, required=not differ, decide="kubectl logs POD -c istio-proxy | grep -E 'rejected|unknown'"),
        ),
        explains=("it begins with the control plane's upgrade, for pods not restarted since", "a restart of the pod cures it"),
        fixes=(Fix(title="Restart the old proxies", artifact="kubectl -n NAMESPACE rollout restart deployment   # the injector gives them the current release\nistioctl proxy-status   # versions\n"),),
        prior=-1.0,
    )  # fmt: skip


IMAGE = re.compile(r"(pilot|proxyv2):(\d+\.\d+[\w.-]*)")


def _minor(version: str) -> str:
    match = re.match(r"v?(\d+\.\d+)", version)
    return match[1] if match else ""


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="The control plane was upgraded while old proxies remain, and their configuration does not fit their release.",
    inputs=(
        MeshVersion,
        ProxySync,
        Pod,
        Workload,
        Message,
        EnvoyAccess,
    ),
    needs=(
        MeshVersion,
        ProxySync,
        Message,
        EnvoyAccess,
    ),
    rivals=(
        "proxy-config-push-stale-or-rejected",
        "route-names-undefined-subset",
    ),
    check=check,
)
