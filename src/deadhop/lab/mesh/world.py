"""Random worlds: namespaces, services of every kind, policies that fit or clash, and requests that try them."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from deadhop.hops.mesh.mesh import Mesh
from deadhop.model.mesh import AppFact, MeshRequest

Doc = dict[str, Any]
NAMESPACES = ("shop", "web", "data")
PORTS = (18080, 18081, 19090)
CLIENT = "web/caller-0"
MESH = "outboundTrafficPolicy: {mode: %s}\nenableAutoMtls: %s\nconnectTimeout: 0.1s\nrootNamespace: istio-system\n"
PORT_NAMES = ("http",) * 8 + ("http-web", "tcp-raw", "tcp-raw", "web", "web", "https", "grpc")
BEHAVIOURS = ("",) * 12 + (
    "not_listening",
    "not_listening",
    "closes_without_response",
    "server_first_binary",
    "never_answers",
    "connect_refused",
)


class World(msgspec.Struct, frozen=True):
    """Objects, what is known beyond them, and the requests to try."""

    docs: tuple[Doc, ...]
    facts: tuple[AppFact, ...]
    requests: tuple[MeshRequest, ...]


def meta(name: str, namespace: str, when: int = 0, **more: Any) -> Doc:
    return {
        "name": name,
        "namespace": namespace,
        "creationTimestamp": f"2026-03-02T08:{when // 60:02d}:{when % 60:02d}Z",
        **more,
    }


def pod(
    name: str, namespace: str, ip: str, app: str, ports: list[int], sidecar: bool, extra: Doc | None = None
) -> Doc:
    """A running pod, with a sidecar or without."""
    labels = {"app": app, **({"security.istio.io/tlsMode": "istio"} if sidecar else {}), **(extra or {})}
    containers: list[Doc] = [{"name": app, "ports": [{"containerPort": p} for p in ports]}]
    if sidecar:
        containers.append({"name": "istio-proxy", "image": "proxyv2:1.32.0"})
    return {
        "kind": "Pod",
        "metadata": meta(name, namespace, labels=labels),
        "spec": {"serviceAccountName": app, "containers": containers},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    }


def service(name: str, namespace: str, vip: str, port: Doc, when: int) -> Doc:
    """A Service; ``vip`` None is headless."""
    return {
        "kind": "Service",
        "metadata": meta(name, namespace, when),
        "spec": {"clusterIP": vip, "clusterIPs": [vip], "selector": {"app": name}, "ports": [port]},
    }


def endpoint_slice(name: str, namespace: str, port: Doc, members: list[tuple[str, str, bool]]) -> Doc:
    """An EndpointSlice of ``(address, pod, ready)``."""
    return {
        "kind": "EndpointSlice",
        "metadata": meta(name, namespace, labels={"kubernetes.io/service-name": name}),
        "ports": [{"name": port["name"], "port": port["targetPort"]}],
        "endpoints": [
            {
                "addresses": [ip],
                "conditions": {"ready": ready},
                "targetRef": {"kind": "Pod", "namespace": namespace, "name": p},
            }
            for ip, p, ready in members
        ],
    }


class _Maker:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.docs: list[Doc] = []
        self.facts: list[AppFact] = []
        self.services: list[tuple[str, str, Doc, str, list[str]]] = []
        self.bound: set[tuple[str, int]] = set()

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def put(self, kind: str, name: str, namespace: str, spec: Doc) -> None:
        when = self.rng.randrange(3600)
        self.docs.append({"kind": kind, "metadata": meta(name, namespace, when), "spec": spec})

    def base(self) -> None:
        mode = "REGISTRY_ONLY" if self.chance(0.2) else "ALLOW_ANY"
        auto = "false" if self.chance(0.1) else "true"
        config = {
            "kind": "ConfigMap",
            "metadata": meta("istio", "istio-system"),
            "data": {"mesh": MESH % (mode, auto)},
        }
        self.docs += [{"kind": "Namespace", "metadata": {"name": n}} for n in (*NAMESPACES, "istio-system")]
        self.docs.append(config)
        caller = pod("caller-0", "web", "10.244.9.9", "caller", [8080], not self.chance(0.1))
        self.docs.append(caller)
        if self.chance(0.03):
            self.facts.append(AppFact(f"sidecar {CLIENT}", "certificate_other_root"))
        if self.chance(0.02):
            self.facts.append(AppFact(CLIENT, "client_sends_partial_client_hello"))

    def add_service(self, index: int) -> None:
        rng = self.rng
        name, namespace = (
            rng.choice(("orders", "cart", "users", "db", "api", "front")),
            rng.choice(NAMESPACES),
        )
        if any((name, namespace) == s[:2] for s in self.services):
            return
        number = rng.choice(PORTS)
        port: Doc = {"name": rng.choice(PORT_NAMES), "port": number, "protocol": "TCP"}
        headless = self.chance(0.2)
        port["targetPort"] = number if headless or self.chance(0.6) else 18500 + index
        vip = "None" if headless else f"10.96.{index}.10"
        members = []
        sidecar = self.chance(0.75)
        behaviour = rng.choice(BEHAVIOURS)
        for member in range(2 if headless and self.chance(0.5) else 1):
            ip, pod_name = f"10.244.{index}.{10 + member}", f"{name}-{member}"
            has = sidecar if self.chance(0.9) else not sidecar
            self.docs.append(pod(pod_name, namespace, ip, name, [port["targetPort"]], has, {"version": "v1"}))
            members.append((ip, pod_name, not self.chance(0.06)))
            self._behave(ip, port, behaviour, has, f"{namespace}/{pod_name}")
            self.bound.add((ip, port["targetPort"]))
        self.docs += [
            service(name, namespace, vip, port, rng.randrange(3600)),
            endpoint_slice(name, namespace, port, members),
        ]
        if not headless:
            self.bound.add((vip, number))
        self.services.append((name, namespace, port, vip, [m[0] for m in members]))

    def _behave(self, ip: str, port: Doc, behaviour: str, sidecar: bool, key: str) -> None:
        where = f"{ip}:{port['targetPort']}"
        self.facts.append(
            AppFact(where, "http1_only")
        )  # the lab's applications speak no HTTP/2, whatever their port declares
        if behaviour:
            self.facts.append(AppFact(where, behaviour))
        tls = "tls_hello_gets_silence" if self.chance(0.1) else "tls_hello_gets_plaintext_error"
        self.facts.append(AppFact(where, tls))
        if sidecar and self.chance(0.04):
            self.facts.append(AppFact(f"sidecar {key}", "certificate_other_root"))

    def host_of(self, s: tuple[str, str, Doc, str, list[str]]) -> str:
        return f"{s[0]}.{s[1]}.svc.cluster.local"

    def policies(self) -> None:
        rng, some = self.rng, self.rng.choice
        modes = ("STRICT", "STRICT", "PERMISSIVE", "DISABLE", "UNSET")
        if self.chance(0.5):
            self.put("PeerAuthentication", "mesh", "istio-system", {"mtls": {"mode": some(modes)}})
        for namespace in NAMESPACES:
            if self.chance(0.4):
                self.put("PeerAuthentication", "default", namespace, {"mtls": {"mode": some(modes)}})
        for s in self.services:
            if self.chance(0.25):
                spec: Doc = {"selector": {"matchLabels": {"app": s[0]}}, "mtls": {"mode": some(modes)}}
                if self.chance(0.4):
                    spec["portLevelMtls"] = {str(s[2]["targetPort"]): {"mode": some(modes)}}
                self.put("PeerAuthentication", s[0], s[1], spec)
            if self.chance(0.35):
                self._destination_rule(s)
            if self.chance(0.35):
                self._virtual_service(s)
            if self.chance(0.2):
                self._authorization(s)
        if self.chance(0.15):
            hosts = rng.sample(
                ["./*", "shop/*", "data/*", "*/orders.shop.svc.cluster.local", "istio-system/*"], 2
            )
            self.put("Sidecar", "default", some(("web", "istio-system")), {"egress": [{"hosts": hosts}]})

    def _destination_rule(self, s: tuple[str, str, Doc, str, list[str]]) -> None:
        some = self.rng.choice
        spec: Doc = {
            "host": some((self.host_of(s), self.host_of(s), f"*.{s[1]}.svc.cluster.local", "*.local"))
        }
        policy: Doc = {}
        if self.chance(0.6):
            policy["tls"] = {"mode": some(("DISABLE", "ISTIO_MUTUAL", "ISTIO_MUTUAL", "SIMPLE"))}
            if self.chance(0.1):
                policy["tls"]["subjectAltNames"] = ["spiffe://cluster.local/ns/x/sa/y"]
        if self.chance(0.3):
            policy["connectionPool"] = {"tcp": {"connectTimeout": "0.15s"}}
        if self.chance(0.2):
            tls = {"mode": some(("DISABLE", "ISTIO_MUTUAL"))}
            policy["portLevelSettings"] = [
                {"port": {"number": s[2]["port"]}, **({"tls": tls} if self.chance(0.7) else {})}
            ]
        if policy:
            spec["trafficPolicy"] = policy
        if self.chance(0.6):
            spec["subsets"] = [
                {"name": "v1", "labels": {"version": "v1"}},
                {"name": "v2", "labels": {"version": "v2"}},
            ]
        self.put(
            "DestinationRule", f"{s[0]}-{self.rng.randrange(99)}", some((s[1], "web", "istio-system")), spec
        )

    def _virtual_service(self, s: tuple[str, str, Doc, str, list[str]]) -> None:
        some = self.rng.choice
        hosts = [some((self.host_of(s), self.host_of(s), f"*.{s[1]}.svc.cluster.local"))]
        if self.chance(0.3):
            hosts.append("shop.example.com")
        http = []
        for index in range(self.rng.randrange(1, 4)):
            route: Doc = {"name": f"r{index}"} if self.chance(0.8) else {}
            if self.chance(0.6):
                route["match"] = [self._match() for _ in range(self.rng.randrange(1, 3))]
            if self.chance(0.1):
                route["directResponse"] = {"status": 418, "body": {"string": "teapot"}}
            else:
                target = some(self.services)
                destination: Doc = {"host": self.host_of(some((s, s, target)))}
                if self.chance(0.3):
                    destination["subset"] = some(("v1", "v1", "v2", "v9"))
                if self.chance(0.5):
                    destination["port"] = {"number": s[2]["port"]}
                route["route"] = [{"destination": destination}]
            if self.chance(0.3):
                route["timeout"] = "0.25s"
            if self.chance(0.3):
                route["retries"] = some(
                    ({"attempts": 0}, {"attempts": 1, "retryOn": "5xx"}, {"attempts": 1, "retryOn": "503"})
                )
            http.append(route)
        self.put(
            "VirtualService",
            f"{s[0]}-{self.rng.randrange(99)}",
            some((s[1], "web")),
            {"hosts": hosts, "http": http},
        )

    def _match(self) -> Doc:
        some = self.rng.choice
        out: Doc = {}
        if self.chance(0.7):
            out["uri"] = some(({"prefix": "/api"}, {"exact": "/"}, {"regex": "/a.*"}, {"prefix": "/"}))
        if self.chance(0.3):
            out["method"] = {"exact": some(("GET", "POST"))}
        if self.chance(0.3):
            out["headers"] = {"x-env": some(({"exact": "dev"}, {"prefix": "d"}, {}))}
        if self.chance(0.1):
            out["withoutHeaders"] = {"x-env": {"exact": "dev"}}
        if self.chance(0.1):
            out["sourceNamespace"] = some(("web", "shop"))
        return out

    def _authorization(self, s: tuple[str, str, Doc, str, list[str]]) -> None:
        some = self.rng.choice
        rule: Doc = {}
        if self.chance(0.7):
            source = some(
                (
                    {"principals": ["cluster.local/ns/web/sa/caller"]},
                    {"principals": ["*"]},
                    {"notPrincipals": ["*"]},
                    {"namespaces": [some(("web", "shop"))]},
                    {"notNamespaces": ["shop"]},
                )
            )
            rule["from"] = [{"source": source}]
        if self.chance(0.5):
            operation = some(
                (
                    {"methods": ["GET"]},
                    {"notMethods": ["POST"]},
                    {"paths": ["/api*"]},
                    # The oracle has no kube-proxy: at a ClusterIP the sidecar sees the Service's port.
                    {"ports": [str(s[2]["port"])]}
                    if s[2]["port"] == s[2]["targetPort"]
                    else {"methods": ["GET"]},
                    {"hosts": [self.host_of(s)]},
                )
            )
            rule["to"] = [{"operation": operation}]
        spec: Doc = {
            "action": some(("ALLOW", "ALLOW", "DENY")),
            "rules": [rule] if rule or self.chance(0.5) else [],
        }
        if self.chance(0.8):
            spec["selector"] = {"matchLabels": {"app": s[0]}}
        self.put("AuthorizationPolicy", f"{s[0]}-{self.rng.randrange(99)}", s[1], spec)

    def entries(self) -> None:
        if self.chance(0.3):
            s = self.rng.choice(self.services)
            spec = {
                "hosts": ["shop.example.com"],
                "ports": [
                    {
                        "number": self.rng.choice(PORTS),
                        "name": "http",
                        "protocol": self.rng.choice(("HTTP", "TCP")),
                    }
                ],
                "location": self.rng.choice(("MESH_INTERNAL", "MESH_EXTERNAL")),
                "resolution": self.rng.choice(("DNS", "NONE")),
            }
            if spec["resolution"] == "DNS":
                if s[3] == "None":
                    return
                spec["endpoints"] = [{"address": self.host_of(s), "ports": {"http": s[2]["port"]}}]
            self.put("ServiceEntry", "public", self.rng.choice(NAMESPACES), spec)
        if self.chance(0.3):
            spec = {"type": "ExternalName", "externalName": self.host_of(self.rng.choice(self.services))}
            self.put("Service", "alias", self.rng.choice(NAMESPACES), spec)

    def request(self) -> MeshRequest:
        rng, s = self.rng, self.rng.choice(self.services)
        number = s[2]["port"]
        ip = rng.choice(s[4]) if s[3] == "None" or self.chance(0.1) else s[3]
        if ip != s[3] and s[3] != "None":
            number = s[2]["targetPort"]
        elif self.chance(0.1):
            number = rng.choice(PORTS)
        if (ip, number) not in self.bound:
            fact = AppFact(f"{ip}:{number}", "connect_refused")
            if ip.startswith("10.244"):
                ip, number = s[4][0], s[2]["targetPort"]
            elif fact not in self.facts:
                self.facts.append(fact)
        return MeshRequest(
            client=CLIENT,
            dst_ip=ip,
            dst_port=number,
            host=self.authority(s),
            http_version="1.0" if self.chance(0.1) else "1.1",
            method=rng.choice(("GET", "GET", "POST")),
            path=rng.choice(("/", "/api", "/api/v1?x=1", "/other", "/a")),
            headers=(("x-env", rng.choice(("dev", "prod"))),) if self.chance(0.3) else (),
        )

    def authority(self, s: tuple[str, str, Doc, str, list[str]]) -> str | None:
        rng = self.rng
        name, namespace = s[0], s[1]
        full = self.host_of(s)
        host = rng.choice(
            (full,) * 8
            + (
                f"{name}.{namespace}",
                f"{name}.{namespace}.svc",
                name,
                full.upper(),
                full + ".",
                s[3],
                s[4][0],
            )
            + (
                f"{name}-0.{full}",
                "shop.example.com",
                "shop.example.com",
                "alias.shop",
                "alias",
                "nowhere.test",
            )
            + (f"{name}.{namespace}.svc.cluster", "")
        )
        if self.chance(0.02):
            return None
        if host and self.chance(0.2):
            host += rng.choice((":80", f":{s[2]['port']}", ":abc", ":"))
        return host


def random_world(seed: str, requests: int) -> World:
    """A world and its requests, the same for the same seed."""
    maker = _Maker(random.Random(seed))
    maker.base()
    for index in range(maker.rng.randrange(2, 7)):
        maker.add_service(index)
    maker.policies()
    maker.entries()
    tried = tuple(maker.request() for _ in range(requests))
    return World(tuple(maker.docs), tuple(maker.facts), tried)


def mesh_of(world: World) -> Mesh:
    """The world compiled."""
    return Mesh.from_objects(world.docs)
