"""What the oracle's Envoys say that they run: their ``config_dump``, read as evidence is read, by workload."""

from __future__ import annotations

import re

from deadhop.evidence import read_bytes
from deadhop.hops.mesh.proxy.config import Proxies, ProxyConfig
from deadhop.lab.mesh.client_config import TCP_SUFFIX
from deadhop.lab.mesh.config_common import SLOT
from deadhop.lab.mesh.rig import Rig
from deadhop.model.observed.proxy import ProxyDump, ProxyResource

PATH = "/config_dump?include_eds"
_MAPPED = re.compile(rb"\b127\.(\d+)\.(\d+)\.(\d+)\b")


def _original(match: re.Match[bytes]) -> bytes:
    """The world's address for one of the oracle's (the inverse of ``config_common.loopback``); 127.0.0.1 stays."""
    second, third, fourth = map(int, match.groups())
    if second == 0:
        return match[0]
    return f"10.{second}.{(third - 16 * SLOT) % 256}.{fourth}".encode()


def dump_of(rig: Rig, side: str) -> bytes:
    """The ``config_dump`` of the ``client`` or ``server`` Envoy, in the world's addresses."""
    data = _MAPPED.sub(_original, rig.envoys[side].admin(PATH))
    return data.replace(TCP_SUFFIX.encode(), b"")


def proxies_of(rig: Rig) -> Proxies:
    """The configuration of every sidecar that the rig runs: one process serves for all server sidecars."""
    out: dict[str, ProxyConfig] = {}
    for side in rig.envoys:
        evidence = read_bytes(f"{side}.json", dump_of(rig, side))
        resources = [r for r in evidence.records if isinstance(r, ProxyResource)]
        whole = next((r.whole for r in evidence.records if isinstance(r, ProxyDump)), ())
        owners = [rig.client.key] if side == "client" else [k for k in rig.mesh.pods if k != rig.client.key]
        for owner in owners:
            out[owner] = ProxyConfig(owner, resources, whole, "sidecar")
    return out
