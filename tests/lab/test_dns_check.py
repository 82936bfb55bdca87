"""``dns check`` across a real narrow link: DF is seen, and a large answer with DF is lost by UDP and not by TCP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dns_tools.served import ZONE

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and ip"
    ),
]


def sh(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def test_df_and_a_narrow_link(tmp_path: Path) -> None:
    tag = f"dhd{os.getpid() % 100000}"
    client, router, server = (f"{tag}{end}" for end in "crs")
    zone = tmp_path / "corp.zone"
    zone.write_text(ZONE)
    processes: list[subprocess.Popen[str]] = []

    def serve(*options: str) -> None:
        command = ["ip", "netns", "exec", server, sys.executable, "-m", "deadhop", "dns", "serve", str(zone)]
        made = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        processes.append(made)
        assert made.stdout is not None
        assert "serving" in made.stdout.readline()

    def check(port: int) -> tuple[int, dict[str, object]]:
        name = "_kerberos._udp.corp.test"
        done = subprocess.run(
            [sys.executable, "-m", "deadhop", "dns", "check", name, "--type", "SRV", "--server", f"10.8.2.2:{port}",
             "--netns", client, "--timeout", "0.5", "-o", "json"],
            capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout)

    try:
        for name in (client, router, server):
            sh("ip", "netns", "add", name)
            sh("ip", "-n", name, "link", "set", "lo", "up")
        sh(
            "ip",
            "link",
            "add",
            "eth0",
            "netns",
            client,
            "type",
            "veth",
            "peer",
            "name",
            "c0",
            "netns",
            router,
        )
        sh(
            "ip",
            "link",
            "add",
            "eth0",
            "netns",
            server,
            "type",
            "veth",
            "peer",
            "name",
            "s0",
            "netns",
            router,
        )
        for name, dev, address in ((client, "eth0", "10.8.1.2/24"), (router, "c0", "10.8.1.1/24"),
                                   (router, "s0", "10.8.2.1/24"), (server, "eth0", "10.8.2.2/24")):  # fmt: skip
            sh("ip", "-n", name, "addr", "add", address, "dev", dev)
            sh("ip", "-n", name, "link", "set", dev, "up")
        for name, dev in ((server, "eth0"), (router, "s0")):
            sh("ip", "-n", name, "link", "set", dev, "mtu", "9000")
        sh("ip", "-n", client, "route", "add", "default", "via", "10.8.1.1")
        sh("ip", "-n", server, "route", "add", "default", "via", "10.8.2.1")
        sh("ip", "netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        serve("--listen", "10.8.2.2:53", "--df")
        serve("--listen", "10.8.2.2:54")
        here = "here"
        for port, df in ((53, True), (54, False)):
            code, body = check(port)
            assert code == 1
            there = [r for r in body["results"] if r["where"] != here]  # type: ignore[attr-defined]
            plain, flag_day, large, tcp = there
            assert (plain["truncated"], plain["df"]) == (True, df)
            assert flag_day["truncated"]
            assert tcp["size"] > 1500
            found = {f["kind"] for f in body["findings"] if f["where"] != here}  # type: ignore[attr-defined]
            if df:
                assert large["error"] == "no answer"
                assert "udp-lost" in found
            else:
                assert large["size"] == tcp["size"] + 11, "the OPT record"
                assert large["fragment"] == 1500
                assert "fragmented" in found
    finally:
        for process in processes:
            process.terminate()
            process.wait()
            if process.stdout:
                process.stdout.close()
        for name in (client, router, server):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
