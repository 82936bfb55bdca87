"""Captures the forwarded Host from two real Envoys, as client and server sidecar under strict mutual TLS.

The same caller sends three requests: as the proxy forwards it (the browser's Host), by hand with the Service's own Host,
and by hand to a port that the Service does not expose. Access logs are in Istio's text format.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import yaml

from deadhop.hops.mesh.api import Mesh, MeshRequest
from deadhop.lab.mesh import config_common
from deadhop.lab.mesh.certs import Authority
from deadhop.lab.mesh.envoy import find
from deadhop.lab.mesh.rig import Rig, Roots

ISTIO_TEXT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% '
    '%CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" '
    "%UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
OBJECTS = Path(__file__).with_name("host_header_objects.yaml")
HOST, FOREIGN, VIP = "dashboard.ops.svc.cluster.local", "portal.corp.example.com", "10.96.12.10"


def istio_format(build: Any) -> Any:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        logs = build(*args, **kwargs)
        for log in logs:
            log["typed_config"]["log_format"] = {"text_format_source": {"inline_string": ISTIO_TEXT}}
        return logs

    return wrapped


def session(url: str, host: str, status: int | None, body: str, port: int) -> str:
    """What curl -v shows of the exchange that was made."""
    head = f"$ curl -sv {url}\n*   Trying {VIP}:{port}...\n* Connected to {HOST} ({VIP}) port {port} (#0)\n> GET / HTTP/1.1\n> Host: {host}\n> Accept: */*\n>\n"
    return head + (
        f"< HTTP/1.1 {status}\n< content-length: {len(body)}\n< content-type: text/plain\n< server: envoy\n<\n{body}\n"
        if status
        else "* Empty reply from server\ncurl: (52) Empty reply from server\n"
    )


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config_common.access_log = istio_format(config_common.access_log)
    import deadhop.lab.mesh.client_config as client_config
    import deadhop.lab.mesh.server_config as server_config

    for module in (client_config, server_config):
        if hasattr(module, "access_log"):
            module.access_log = config_common.access_log
    documents = list(yaml.safe_load_all(OBJECTS.read_text()))
    mesh = Mesh.from_objects(documents)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        roots = Roots(Authority(work, "mesh"), Authority(work, "foreign"))
        rig = Rig(mesh, "ops/portal-0", (), find()[-1], work, roots)
        try:
            request = MeshRequest(client="ops/portal-0", dst_ip=VIP, dst_port=80, host=FOREIGN)
            foreign = rig._exchange(request, True)
            time.sleep(0.5)
            client_log, server_log = (
                (work / "client.access").read_text(),
                (work / "server.access").read_text(),
            )
            right = rig._exchange(msgspec.structs.replace(request, host=HOST), True)
            wrong_port = rig._exchange(
                msgspec.structs.replace(request, host=f"{HOST}:8443", dst_port=8443), True
            )
        finally:
            rig.close()
    print("foreign", foreign, "right", right, "wrong port", wrong_port)
    (folder / "objects.yaml").write_text(OBJECTS.read_text())
    (folder / "portal-istio-proxy.log").write_text(client_log)
    (folder / "dashboard-istio-proxy.log").write_text(server_log)
    (folder / "browser.txt").write_text(foreign[2] + "\n")
    dump = (
        "2024-05-21T09:40:17Z outgoing request {\n"
        f'  "host": "{HOST}",\n  "port": 80,\n  "method": "GET",\n  "path": "/",\n'
        f'  "headers": {{"Host": "{FOREIGN}", "Accept": "text/html", "X-Forwarded-For": "203.0.113.9", "Cookie": "session=s3cr3t-demo"}}\n}}\n'
    )
    (folder / "portal.log").write_text(dump)
    by_hand = session(f"http://{HOST}/", HOST, right[1], right[2], 80)
    (folder / "by-hand.txt").write_text(by_hand)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
