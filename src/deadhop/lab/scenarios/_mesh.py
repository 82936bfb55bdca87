"""Two pods with real sidecars: network namespaces, the rules of istio-iptables and of kube-proxy, Envoys.

``portal`` (a proxy) and ``dashboard`` (a Service's pod) hang off ``node``, which translates the ClusterIP as kube-proxy
does. In ``portal`` outbound TCP is redirected to 15001, in ``dashboard`` inbound TCP to 15006; the sidecars read
SO_ORIGINAL_DST, and the group 1337 is never captured, as on any node. Their configuration is the mesh model's own
derivation from the objects, their access log Istio's text format.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deadhop.hops.mesh.mesh import Mesh
from deadhop.lab.mesh.certs import Authority
from deadhop.lab.mesh.client_config import ClientConfig, Tls
from deadhop.lab.mesh.config_common import listener_filter
from deadhop.lab.mesh.envoy import find
from deadhop.lab.mesh.server_config import Inbound, server_bootstrap
from deadhop.lab.topology.made import Lab

#: Istio's default text format (istio pilot/pkg/model/telemetry_logging.go EnvoyTextLogFormat).
ISTIO_TEXT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% '
    '%CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" '
    "%UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
ORIGINAL_DST = listener_filter("envoy.filters.listener.original_dst", "original_dst.v3.OriginalDst")
#: Uids and gids of 1337 are left alone (istio tools/istio-iptables, ``-u 1337 -g 1337``).
PROXY = 1337
OUTBOUND, INBOUND = 15001, 15006
CAPTURE_OUT = f"""table ip istio {{
  chain output {{ type nat hook output priority -100;
    meta skgid {PROXY} return
    ip daddr 127.0.0.0/8 return
    meta l4proto tcp redirect to :{OUTBOUND}
  }}
}}"""
CAPTURE_IN = f"""table ip istio {{
  chain prerouting {{ type nat hook prerouting priority -100;
    meta l4proto tcp redirect to :{INBOUND}
  }}
}}"""


def kube_proxy(vip: str, port: int, backend: str, target: int) -> str:
    """One port of one Service as kube-proxy's nftables mode has it: other ports of the ClusterIP are refused."""
    return f"""table ip kube {{
  chain services {{ type nat hook prerouting priority -100;
    ip daddr {vip} tcp dport {port} dnat to {backend}:{target}
  }}
  chain refused {{ type filter hook forward priority 0;
    ip daddr {vip} meta l4proto tcp reject with tcp reset
  }}
}}"""


class Pair:
    """The two pods. ``objects`` is the YAML they are described by; logs grow in ``folder``."""

    def __init__(self, lab: Lab, objects: str, client: str, server: str, port: int) -> None:
        self.lab, self.objects = lab, objects
        self.mesh = Mesh.from_objects(list(yaml.safe_load_all(objects)))
        self.client, self.server = self.mesh.pods[client], self.mesh.pods[server]
        self.port = port
        self.folder = lab.scratch / "mesh"
        self.folder.mkdir()
        self.logs = {name: self.folder / f"{name}.access" for name in ("portal", "dashboard")}
        for log in self.logs.values():
            log.touch()

    def wire(self, service: str) -> None:
        """Namespaces, links, the rules of capture and of the Service."""
        lab = self.lab
        lab.add("node")
        for name, pod in (("portal", self.client), ("dashboard", self.server)):
            gateway = pod.ips[0].rpartition(".")[0] + ".1"
            lab.add(name)
            lab.ip("node", [f"link add {name} type veth peer name eth0 netns {lab.full(name)}"])
            lab.ip("node", [f"addr add {gateway}/24 dev {name}", f"link set {name} up"])
            lab.ip(
                name,
                [
                    f"addr add {pod.ips[0]}/24 dev eth0",
                    "link set eth0 up",
                    f"route add default via {gateway}",
                ],
            )
        # A node's default route: packets to a ClusterIP that nothing translates are forwarded, not unroutable.
        lab.add("outside")
        lab.ip("node", [f"link add uplink type veth peer name eth0 netns {lab.full('outside')}"])
        lab.ip("outside", ["link set eth0 up"])
        lab.ip("node", ["link set uplink up", "route add default dev uplink"])
        lab.sysctl("node", "net.ipv4.ip_forward", 1)
        found = next(s for s in self.mesh.services if s.host.startswith(service + "."))
        port = found.ports[0]
        rules = kube_proxy(found.vips[0], port.number, self.server.ips[0], self.port)
        lab.must("node", ["nft", "-f", "-"], rules)
        lab.must("portal", ["nft", "-f", "-"], CAPTURE_OUT)
        lab.must("dashboard", ["nft", "-f", "-"], CAPTURE_IN)
        lab.write("portal", "/etc/hosts", f"127.0.0.1 localhost\n{found.vips[0]} {found.host}\n")

    def start(self) -> None:
        """The application and both sidecars."""
        authority = Authority(self.folder, "mesh")

        def issued(pod: Any) -> tuple[Path, Path]:
            return authority.issue(f"spiffe://{pod.spiffe(self.mesh.config.trust_domain)}")

        cert, key = issued(self.server)
        inbound = Inbound(self.server, "0.0.0.0", self.port, (), self.port, cert, key, authority.root)
        server = server_bootstrap(self.mesh, [inbound], self.logs["dashboard"])
        listener = server["static_resources"]["listeners"][0]
        listener["address"]["socket_address"]["port_value"] = INBOUND
        listener["listener_filters"].insert(0, ORIGINAL_DST)
        tls = Tls(*issued(self.client), authority.root)
        client = ClientConfig(self.mesh, self.client, OUTBOUND, tls, self.logs["portal"]).build()
        client["static_resources"]["listeners"][0]["listener_filters"] = [ORIGINAL_DST]
        self.lab.start(
            "dashboard",
            [sys.executable, "-m", "deadhop.lab.services.echo", f"127.0.0.1:{self.port}"],
            ready="ready",
        )
        self._envoy("dashboard", server)
        self._envoy("portal", client)

    def _envoy(self, name: str, bootstrap: Mapping[str, Any]) -> None:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(istio_format(bootstrap)))
        command = [
            "setpriv", f"--regid={PROXY}", "--clear-groups", str(find()[-1]), "-c", str(path),
            "--disable-hot-restart", "--concurrency", "1", "--log-level", "info", "--file-flush-interval-msec", "1",
        ]  # fmt: skip
        self.lab.start(name, command, ready="starting main dispatch loop")

    def gateway(self, configuration: str, log: Path) -> subprocess.Popen[bytes]:
        """The real gateway in the portal's pod."""
        path = self.folder / f"{log.stem}.yaml"
        path.write_text(configuration)
        command = [sys.executable, "-m", "deadhop", "gateway", "run", str(path)]
        return self.lab.start("portal", command, ready="listening on http", log=None)

    def take(self) -> dict[str, str]:
        """What each sidecar's log gained since the last time."""
        gained = {}
        for name, path in self.logs.items():
            gained[name] = path.read_text()
            path.write_text("")  # Envoy appends
        return gained


def istio_format(value: Any) -> Any:
    """The bootstrap with every access log in Istio's text format."""
    if isinstance(value, dict):
        if "log_format" in value:
            return {**value, "log_format": {"text_format_source": {"inline_string": ISTIO_TEXT}}}
        return {k: istio_format(v) for k, v in value.items()}
    return [istio_format(v) for v in value] if isinstance(value, list) else value
