"""Where each route of a proxy leads in the mesh: the gateway's own configuration, nginx's, an Ingress."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from deadhop.cli.gateway import command
from deadhop.gateway.check import check_routes
from deadhop.lab.scenarios import FOLDER

OBJECTS = (FOLDER / "_mesh_host_header_objects.yml").read_text()
SERVICE = "dashboard.ops.svc.cluster.local"
POD = "ops/portal-0"


@pytest.fixture
def cluster(tmp_path: Path) -> str:
    path = tmp_path / "objects.yaml"
    path.write_text(OBJECTS)
    return str(path)


def nginx(tmp_path: Path, location: str) -> str:
    path = tmp_path / "nginx.conf"
    path.write_text(f"server {{\n  server_name portal.example.com;\n  location / {{ {location} }}\n}}\n")
    return str(path)


@pytest.mark.parametrize(
    ("location", "host", "verdict", "flags"),
    [
        (f"proxy_pass http://{SERVICE}; proxy_http_version 1.1;", SERVICE, "arrives", []),
        (f"proxy_pass http://{SERVICE}; proxy_http_version 1.1; proxy_set_header Host $host;", "portal.example.com", "breaks", ["UC"]),
        (f"proxy_pass http://{SERVICE}; proxy_http_version 1.1; proxy_set_header Host {SERVICE};", SERVICE, "arrives", []),
        (f"proxy_pass http://{SERVICE}:8443; proxy_http_version 1.1;", f"{SERVICE}:8443", "breaks", ["UF"]),
        (f"proxy_pass http://{SERVICE};", SERVICE, "breaks", ["UR"]),
    ],
)  # fmt: skip
def test_nginx(
    tmp_path: Path, cluster: str, location: str, host: str, verdict: str, flags: list[str]
) -> None:
    [told] = check_routes([nginx(tmp_path, location)], [cluster], POD)
    assert (told["host"], told["verdict"], told["flags"]) == (host, verdict, flags)
    if verdict == "breaks" and "8443" not in location:
        assert told["after"] == {
            "host": SERVICE,
            "status": 200,
            "cluster": f"outbound|80||{SERVICE}",
            "mtls": True,
        }


def test_permissive_hides_it_and_the_check_does_not(tmp_path: Path) -> None:
    objects = tmp_path / "objects.yaml"
    objects.write_text(OBJECTS.replace("mode: STRICT", "mode: PERMISSIVE"))
    conf = nginx(
        tmp_path, f"proxy_pass http://{SERVICE}; proxy_http_version 1.1; proxy_set_header Host $http_host;"
    )
    [told] = check_routes([conf], [str(objects)], POD)
    assert (told["verdict"], told["status"], told["cluster"]) == ("latent", 200, "PassthroughCluster")
    assert "STRICT" in told["because"]


def test_an_ingress_dials_pods_with_the_clients_host(tmp_path: Path, cluster: str) -> None:
    path = tmp_path / "ingress.yaml"
    text = """\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: d, namespace: ops, annotations: {ANNOTATIONS}}
spec:
  rules:
  - host: portal.example.com
    http: {paths: [{path: /, backend: {service: {name: dashboard, port: {name: http}}}}]}
"""  # fmt: skip
    path.write_text(text.replace("ANNOTATIONS", "nginx.ingress.kubernetes.io/rewrite-target: /"))
    [told] = check_routes([str(path)], [cluster], POD)
    assert (told["host"], told["verdict"]) == ("portal.example.com", "breaks")
    mended = f'nginx.ingress.kubernetes.io/service-upstream: "true", nginx.ingress.kubernetes.io/upstream-vhost: {SERVICE}'
    assert told["fix"] == mended
    path.write_text(text.replace("ANNOTATIONS", mended))
    [told] = check_routes([str(path)], [cluster], POD)
    assert (told["host"], told["verdict"]) == (SERVICE, "arrives")


def run(*args: str) -> tuple[int, str]:
    done = CliRunner().invoke(command, ["check", *args], standalone_mode=False)
    return done.return_value if done.exception is None else 2, done.output + str(done.exception or "")


def test_the_command_its_statuses_and_its_errors(tmp_path: Path, cluster: str) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(
        f"upstreams:\n  a: {{url: 'http://{SERVICE}'}}\nroutes:\n- {{host: portal.example.com, upstream: a}}\n"
    )
    status, said = run(str(config), "--cluster", cluster, "--from", POD)
    assert status == 0
    assert said.startswith("ARRIVES  portal.example.com/ -> ")
    config.write_text(config.read_text().replace("upstream: a}", "upstream: a, host_header: preserve}"))
    status, said = run(str(config), "--cluster", cluster, "--from", POD, "-o", "json")
    [told] = json.loads(said)["routes"]
    assert (status, told["verdict"], told["source"]) == (1, "breaks", f"{config}:4")
    status, said = run(str(config), "--cluster", cluster)
    assert status == 3
    assert "--from NAMESPACE/POD" in said
    status, said = run(str(config), "--cluster", cluster, "--from", "ops/portal")
    assert status == 2
    assert "there is ops/portal-0" in said
    status, said = run(cluster, "--cluster", cluster)
    assert status == 2
    assert "neither a gateway's routes" in said


def test_the_proxys_pod_is_found_by_its_image(tmp_path: Path) -> None:
    objects = tmp_path / "objects.yaml"
    objects.write_text(
        OBJECTS.replace(
            "{name: app, ports: [{containerPort: 8080}]}",
            "{name: app, image: 'docker.io/library/nginx:1.27', ports: [{containerPort: 8080}]}",
        )
    )
    [told] = check_routes(
        [nginx(tmp_path, f"proxy_pass http://{SERVICE}; proxy_http_version 1.1;")], [str(objects)], None
    )
    assert told["from"] == POD


INGRESS = """\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: d, namespace: ops, annotations: {ANNOTATIONS}}
spec:
  ingressClassName: CLASS
  rules:
  - host: portal.example.com
    http: {paths: [{path: /, backend: {service: {name: dashboard, port: {number: 80}}}}]}
"""
HTTP_ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: d, namespace: ops}
spec:
  hostnames: [portal.example.com]
  rules:
  - filters: [FILTERS]
    backendRefs: [{name: dashboard, port: 80}]
"""
INGRESS_ROUTE = """\
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {name: d, namespace: ops}
spec:
  routes:
  - match: Host(`portal.example.com`) && PathPrefix(`/d`)
    kind: Rule
    middlewares: [MIDDLEWARES]
    services: [{name: dashboard, port: 80SERVICE}]
---
apiVersion: traefik.io/v1alpha1
kind: Middleware
metadata: {name: own-host, namespace: ops}
spec: {headers: {customRequestHeaders: {Host: dashboard.ops.svc.cluster.local}}}
"""
AUTH_PROXY = """\
apiVersion: v1
kind: Pod
metadata: {name: portal-0, namespace: ops}
spec: {containers: [{name: p, image: quay.io/oauth2-proxy/oauth2-proxy:v7.6.0, args: ["--upstream=http://dashboard.ops.svc.cluster.local/", ARGS]}]}
"""


def ingress(kind: str, annotations: str = "") -> str:
    return INGRESS.replace("CLASS", kind).replace("ANNOTATIONS", annotations)


def route(middlewares: str = "", service: str = "") -> str:
    return INGRESS_ROUTE.replace("MIDDLEWARES", middlewares).replace("SERVICE", service)


@pytest.mark.parametrize(
    ("config", "service", "host", "verdict"),
    [
        (ingress("traefik"), "", "portal.example.com", "breaks"),
        (ingress("traefik"), 'traefik.ingress.kubernetes.io/service.passhostheader: "false"', "172.20.2.20:", "breaks"),
        (ingress("traefik"), 'traefik.ingress.kubernetes.io/service.passhostheader: "false", traefik.ingress.kubernetes.io/service.nativelb: "true"', SERVICE, "arrives"),
        (ingress("haproxy", f"haproxy.org/set-host: {SERVICE}"), "", SERVICE, "breaks"),
        (ingress("kong"), "", "portal.example.com", "breaks"),
        (ingress("kong"), f"konghq.com/host-header: {SERVICE}", "portal.example.com", "breaks"),
        (ingress("kong", 'konghq.com/preserve-host: "false"'), f'konghq.com/host-header: {SERVICE}, ingress.kubernetes.io/service-upstream: "true"', SERVICE, "arrives"),
        (ingress("my-class", 'nginx.org/use-cluster-ip: "true"'), "", "portal.example.com", "breaks"),
        (HTTP_ROUTE.replace("FILTERS", ""), "", "portal.example.com", "breaks"),
        (HTTP_ROUTE.replace("FILTERS", f"{{type: URLRewrite, urlRewrite: {{hostname: {SERVICE}}}}}"), "", SERVICE, "breaks"),
        (route(), "", "portal.example.com", "breaks"),
        (route("{name: own-host}"), "", SERVICE, "breaks"),
        (route("{name: own-host}", ", nativeLB: true"), "", SERVICE, "arrives"),
        (route(service=", nativeLB: true, passHostHeader: false"), "", SERVICE, "arrives"),
        (AUTH_PROXY.replace("ARGS", ""), "", "www.example.com", "breaks"),
        (AUTH_PROXY.replace("ARGS", "--pass-host-header=false"), "", SERVICE, "arrives"),
    ],
)  # fmt: skip
def test_every_kind_of_proxy(tmp_path: Path, config: str, service: str, host: str, verdict: str) -> None:
    objects, path = tmp_path / "objects.yaml", tmp_path / "config.yaml"
    plain = "metadata: {name: dashboard, namespace: ops}"
    assert plain in OBJECTS
    objects.write_text(
        OBJECTS.replace(plain, f"metadata: {{name: dashboard, namespace: ops, annotations: {{{service}}}}}")
    )
    path.write_text(config)
    [told] = check_routes([str(path)], [str(objects)], POD)
    assert told["host"].startswith(host)
    assert told["verdict"] == verdict, told
    proven = "after" in told
    assert proven == (verdict == "breaks" and "haproxy" not in config), (
        "only a fix that mends the walk is offered"
    )
