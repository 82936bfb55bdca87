"""Two nodes with pods as Cilium wires them, names outside the cluster, and the policy agent on a node.

A pod's device on the node has no address, its route is a host route, its gateway a link-local address that answers
with the device's link-layer address. The outside has a DNS server and web servers on addresses of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec

from deadhop.lab.topology.made import Lab, LabError
from deadhop.model.dns import RR, Message, type_number
from deadhop.wire.build import build_query
from deadhop.wire.dns import read_message
from deadhop.wire.framing import Framer, frame

DNS = "10.70.9.53"
DNS6 = "2001:db8:9::53"
DNS_NAMESPACE, DNS_POD = "kube-system", "coredns"
WEB_PORT = 8080
PATIENCE = 5.0
"""Seconds that a lost packet is waited for; an answer comes in milliseconds."""


def missing() -> str:
    """Why the lab cannot run here, empty where it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it needs Linux and root"
    for module in ("pyroute2", "prometheus_client"):
        if find_spec(module) is None:
            return f"it needs {module} (pip install 'deadhop[agent]')"
    if not shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin"):
        return "it needs nftables"
    return ""


def coredns() -> str:
    """A CoreDNS binary (``DEADHOP_COREDNS``, the path, or where ``go install`` puts it), empty where there is none."""
    named = os.environ.get("DEADHOP_COREDNS") or shutil.which("coredns")
    if named:
        return named
    places = (
        os.environ.get("GOBIN"),
        os.path.join(os.environ.get("GOPATH") or os.path.expanduser("~/go"), "bin"),
    )
    candidates = (os.path.join(place, "coredns") for place in places if place)
    return next((path for path in candidates if os.access(path, os.X_OK)), "")


class Cluster:
    """Nodes with pods; ``add_node`` and ``serve_*`` in any order after ``outside``."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.pods: dict[str, tuple[str, str, str]] = {}
        self._nodes: dict[str, int] = {}
        self.zone = lab.scratch / "zone.txt"
        lab.add("outside")
        _plain(lab, "outside")
        self.outside_address(DNS)
        self.outside_address(DNS6)

    def outside_address(self, ip: str) -> None:
        """An address of a server outside."""
        if ":" in ip:
            self.lab.ip("outside", [f"addr add {ip}/128 dev lo nodad"])
        else:
            self.lab.ip("outside", [f"addr add {ip}/32 dev lo"])

    def add_node(self, name: str) -> None:
        number = self._nodes[name] = len(self._nodes) + 1
        lab = self.lab
        lab.add(name)
        _plain(lab, name)
        up, down = f"up{number}", "eth0"
        lab.ip("outside", [f"link add {up} type veth peer name {down} netns {lab.full(name)}"])
        lab.ip(
            "outside",
            [
                f"addr add 10.70.{number}.1/24 dev {up}",
                f"addr add fd70:{number}::1/64 dev {up} nodad",
                f"link set {up} up",
            ],
        )
        lab.ip(
            name,
            [
                f"addr add 10.70.{number}.2/24 dev {down}",
                f"addr add fd70:{number}::2/64 dev {down} nodad",
                f"link set {down} up",
                f"route add default via 10.70.{number}.1",
                f"route add default via fd70:{number}::1",
            ],
        )
        lab.ip(
            "outside",
            [
                f"route add 10.71.{number}.0/24 via 10.70.{number}.2",
                f"route add fd71:{number}::/64 via fd70:{number}::2",
            ],
        )

    def add_pod(self, node: str, name: str) -> None:
        """A pod of a node, with an IPv4 and an IPv6 address."""
        number = self._nodes[node]
        host = 10 + sum(1 for n, _, _ in self.pods.values() if n == node)
        four, six = f"10.71.{number}.{host}", f"fd71:{number}::{host:x}"
        lab, device = self.lab, f"lxc{host}"
        lab.add(name)
        _plain(lab, name)
        mac = f"02:71:00:00:{number:02x}:{host:02x}"
        lab.ip(node, [f"link add {device} address {mac} type veth peer name eth0 netns {lab.full(name)}"])
        lab.ip(
            name,
            [
                "link set eth0 up",
                f"addr add {four}/32 dev eth0",
                f"addr add {six}/128 dev eth0 nodad",
                "route add 169.254.1.1 dev eth0",
                f"neigh add 169.254.1.1 lladdr {mac} dev eth0",
                "route add default via 169.254.1.1",
                f"neigh add fe80::1 lladdr {mac} dev eth0",
                "route add default via fe80::1 dev eth0",
            ],
        )
        lab.ip(
            node,
            [
                f"link set {device} up",
                f"route add {four}/32 dev {device}",
                f"route add {six}/128 dev {device}",
            ],
        )
        self.pods[name] = node, four, six

    def records(self, lines: Iterable[str]) -> None:
        """What the DNS server answers from now on (``NAME TTL TYPE DATA``)."""
        fresh = self.zone.with_suffix(".new")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.replace(self.zone)

    def serve_zone(self, ip: str = DNS) -> subprocess.Popen[bytes]:
        listen = f"[{ip}]:53" if ":" in ip else f"{ip}:53"
        command = [sys.executable, "-m", "deadhop.lab.services.zone", listen, str(self.zone)]
        return self.lab.start("outside", command, ready="^ready")

    def serve_coredns(self, binary: str, corefile: str) -> subprocess.Popen[bytes]:
        path = self.lab.scratch / "Corefile"
        path.write_text(corefile)
        return self.lab.start("outside", [binary, "-conf", str(path)], ready="CoreDNS-")

    def serve_web(self, ip: str) -> None:
        self.outside_address(ip)
        listen = f"[{ip}]:{WEB_PORT}" if ":" in ip else f"{ip}:{WEB_PORT}"
        self.lab.start("outside", [sys.executable, "-m", "deadhop.lab.services.http", listen], ready="^ready")

    # What pods do

    def ask(
        self, pod: str, name: str, rtype: str = "A", server: str = DNS, *, tcp: bool = False, port: int = 53
    ) -> Message | None:
        """One lookup of a pod; None where no answer came."""
        query = build_query(int.from_bytes(os.urandom(2), "big"), name, type_number(rtype))
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with self.lab.inside(pod):
            sock = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        with sock:
            sock.settimeout(PATIENCE)
            try:
                sock.connect((server, port))
                if not tcp:
                    sock.send(query)
                    return read_message(sock.recv(65535))
                sock.sendall(frame(query))
                framer = Framer()
                while piece := sock.recv(65535):
                    for data in framer.feed(piece):
                        return read_message(data)
            except OSError:
                return None
        return None

    def connect(
        self, pod: str, ip: str, port: int = WEB_PORT, wait: float = PATIENCE
    ) -> socket.socket | None:
        """A connection of a pod; None where it does not come about."""
        with self.lab.inside(pod):
            sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
        sock.settimeout(wait)
        try:
            sock.connect((ip, port))
        except OSError:
            sock.close()
            return None
        return sock

    def connects(self, pod: str, ip: str, port: int = WEB_PORT) -> bool:
        """Whether a new connection comes about; it is waited for, because it should."""
        sock = self.connect(pod, ip, port)
        if sock is None:
            return False
        sock.close()
        return True

    def reaches(self, pod: str, ip: str, port: int = WEB_PORT, wait: float = 0.7) -> bool:
        """Whether a new connection comes about; a dropped SYN is not waited for longer than ``wait``."""
        sock = self.connect(pod, ip, port, wait)
        if sock is None:
            return False
        sock.close()
        return True


def _plain(lab: Lab, name: str) -> None:
    """Forwarding, and IPv6 addresses that can be used at once."""
    for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        lab.sysctl(name, key, 1)
    lab.sysctl(name, "net.ipv6.conf.default.accept_dad", 0)
    lab.sysctl(name, "net.ipv6.conf.default.dad_transmits", 0)


class AgentProcess:
    """A ``deadhop fqdn agent`` in a node's namespace."""

    def __init__(
        self,
        cluster: Cluster,
        node: str,
        policy: str,
        labels: Mapping[str, str],
        *options: str,
        peers: Iterable[str] = (),
    ) -> None:
        """``labels`` of the node's pods: ``app=web`` by pod name. ``peers`` are further ``--endpoint`` values."""
        self.cluster = cluster
        self.node = node
        folder = cluster.lab.scratch / f"agent-{node}"
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.policy = folder / "policy.yaml"
        self.policy.write_text(policy)
        self.socket = folder / "agent.sock"
        self.state = folder / "state"
        self.argv = [
            sys.executable, "-m", "deadhop", "fqdn", "agent", "--policy", str(self.policy), "--state", str(self.state),
            "--socket", str(self.socket), "--metrics-port", "0", "--node-name", node,
        ]  # fmt: skip
        for pod, text in labels.items():
            self.argv += ["--endpoint", f"default/{pod}=netns:{cluster.lab.path(pod)},{text}"]
        servers = f"{DNS}+{DNS6}"
        self.argv += ["--endpoint", f"{DNS_NAMESPACE}/{DNS_POD}=ip:{servers},k8s-app=kube-dns"]
        for peer in peers:
            self.argv += ["--endpoint", peer]
        self.argv += options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        """Start it and wait until it is ready. Raises :class:`LabError` with what it said."""
        self.process = self.cluster.lab.start(self.node, [*self.argv, *more], ready="msg=.ready")

    @property
    def running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise LabError("the agent was not started")
        return self.process

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal; returns its exit status."""
        self.running.send_signal(number)
        return self.running.wait()

    def ask(self, cmd: str, **more: object) -> dict[str, object]:
        """The agent's answer to one request at its socket."""
        from deadhop.agent.api import ask

        (answer,) = ask(self.socket, {"cmd": cmd, **more})
        return answer

    def command(self, *arguments: str) -> str:
        """What ``deadhop`` prints with these arguments and the agent's socket."""
        argv = [sys.executable, "-m", "deadhop", *arguments, "--socket", str(self.socket)]
        return self.cluster.lab.must(self.node, argv)

    def drops(self) -> dict[str, int]:
        """Packets dropped by reason, from the kernel's counters."""
        import json

        out = self.cluster.lab.must(
            self.node, ["nft", "-j", "list", "counters", "table", "inet", "deadhop_fqdn"]
        )
        found = [item["counter"] for item in json.loads(out)["nftables"] if "counter" in item]
        return {c["name"]: c["packets"] for c in found}


def allow_names(
    *patterns: str, dns: Iterable[str] = ("*",), name: str = "names", app: str = "web", ports: str = ""
) -> str:
    """A policy as people write it: DNS to kube-dns through the proxy, then names."""
    rules = "\n".join(f'            - matchPattern: "{p}"' for p in dns)
    names = "\n".join(f'        - matchPattern: "{p}"' for p in patterns)
    return f"""apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: {name}
  namespace: default
spec:
  endpointSelector:
    matchLabels:
      app: {app}
  egress:
    - toEndpoints:
        - matchLabels:
            k8s:io.kubernetes.pod.namespace: kube-system
            k8s-app: kube-dns
      toPorts:
        - ports:
            - port: "53"
              protocol: ANY
          rules:
            dns:
{rules}
    - toFQDNs:
{names}
{ports}"""


def addresses(message: Message | None) -> list[str]:
    """The addresses of an answer."""
    records: tuple[RR, ...] = message.answers if message else ()
    return [rr.data for rr in records if rr.type in ("A", "AAAA")]
