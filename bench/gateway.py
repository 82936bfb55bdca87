"""The gateway against Debian's nginx as reverse proxies in one run: requests per second and latency, as ratios.

The same upstream (another nginx), the same load (wrk), both with an access log and kept connections, one worker each.
The rounds alternate, the medians are printed. Needs Debian's packages nginx-light and wrk.
"""

from __future__ import annotations

import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROUNDS, SECONDS, CONNECTIONS = 3, 4, 32
SIZES = {"100 B": 100, "64 KiB": 65536}
NGINX = """\
worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.err;
events {{ worker_connections 1024; }}
http {{
  access_log {log}; keepalive_requests 1000000; sendfile on; tcp_nodelay on;
  client_body_temp_path {folder}/{name}.b; proxy_temp_path {folder}/{name}.p; fastcgi_temp_path {folder}/{name}.f;
  uwsgi_temp_path {folder}/{name}.u; scgi_temp_path {folder}/{name}.s;
  {body}
}}
"""
PROXY = """\
upstream app {{ server 127.0.0.1:{app}; keepalive 64; }}
  server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host 127.0.0.1:{app};
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Host $host; proxy_buffering off; }} }}"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """A process that listens on ``port``."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"{command[0]} did not start") from None
                time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait()


def nginx(folder: Path, name: str, body: str, log: str) -> list[str]:
    path = folder / f"{name}.conf"
    path.write_text(NGINX.format(folder=folder, name=name, log=log, body=body))
    return [shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(path), "-e", f"{folder}/{name}.err"]


def measure(port: int, path: str) -> tuple[float, float, float]:
    """Requests per second, median and p99 in milliseconds."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", "-H", "Host: portal.example.com", f"http://127.0.0.1:{port}{path}"]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(said)

    def at(percent: str) -> float:
        found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)\b", said)
        assert found, said
        return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]

    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert rate, said
    return float(rate[1]), at("50"), at("99")


def main() -> None:
    missing = [p for p in ("nginx", "wrk") if not (shutil.which(p) or Path(f"/usr/sbin/{p}").exists())]
    if missing:
        print(f"skipped: not installed: {', '.join(missing)} (apt-get install nginx-light wrk)")
        return
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        folder.chmod(0o755)
        app, proxy, ours = free_port(), free_port(), free_port()
        for label, size in SIZES.items():
            (folder / label.replace(" ", "")).write_bytes(b"x" * size)
        files = f"server {{ listen 127.0.0.1:{app}; root {folder}; }}"
        stack.enter_context(running(nginx(folder, "app", files, "off"), app))
        body = PROXY.format(app=app, port=proxy)
        stack.enter_context(running(nginx(folder, "proxy", body, f"{folder}/proxy.log"), proxy))
        config = folder / "gateway.yaml"
        config.write_text(
            f"listen: 127.0.0.1:{ours}\nadmin: 127.0.0.1:0\naccess_log: {folder}/gateway.log\n"
            f"upstreams: {{app: {{url: 'http://127.0.0.1:{app}'}}}}\nroutes: [{{upstream: app}}]\n"
        )
        gateway = [sys.executable, "-m", "deadhop", "gateway", "run", str(config)]
        stack.enter_context(running(gateway, ours))
        for label in SIZES:
            path = "/" + label.replace(" ", "")
            rounds = [(measure(proxy, path), measure(ours, path)) for _ in range(ROUNDS)]
            theirs, own = ([statistics.median(r[i][k] for r in rounds) for k in range(3)] for i in (0, 1))
            print(f"{label} responses, {CONNECTIONS} connections, median of {ROUNDS} rounds of {SECONDS} s")
            for name, (rate, median, tail) in (("nginx", theirs), ("gateway", own)):
                print(f"  {name:<8} {rate:>9.0f} requests/s   p50 {median:6.2f} ms   p99 {tail:6.2f} ms")
            print(
                f"  ratio    {own[0] / theirs[0]:>9.2f}              p50 {own[1] / theirs[1]:6.2f}      p99 {own[2] / theirs[2]:6.2f}"
            )


if __name__ == "__main__":
    main()
