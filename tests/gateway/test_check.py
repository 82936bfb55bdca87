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
