"""Incidents made real, collected by ``collect node`` as an engineer on the node would, diagnosed, and cured for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from deadhop import causes
from deadhop.collect import node
from deadhop.collect.discover import asked, discover
from deadhop.diagnose.engine import diagnose
from deadhop.evidence.read import read
from deadhop.lab import scenarios
from deadhop.lab.topology import build, serve, traffic
from deadhop.lab.topology.made import Lab
from deadhop.lab.verify import unavailable
from deadhop.model.finding import Diagnosis
from deadhop.model.topology import Change, Http

pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "available")]
COLLECT = [sys.executable, "-m", "deadhop", "collect", "node"]


def made(lab: Lab, name: str) -> None:
    """The scenario's world with its services, before any step."""
    scenario = scenarios.load(name)
    if missing := scenario.missing():
        pytest.skip(missing)
    assert scenario.topology is not None
    build.build(lab, scenario.topology)
    serve.start(lab, scenario.topology)


def collecting(lab: Lab, where: str, pods: list[str], target: Path) -> subprocess.Popen[str]:
    """``collect node`` in the node's namespace, once its captures run."""
    process = subprocess.Popen(
        [
            *COLLECT,
            "-o",
            str(target),
            "--capture",
            "4",
            *(w for pod in pods for w in ("--pod", lab.path(pod))),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lab.entering(where),
    )
    assert process.stderr is not None
    assert "capturing" in process.stderr.readline()
    return process


def diagnosed(process: subprocess.Popen[str], *paths: Path) -> Diagnosis:
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    return diagnose(read([str(path) for path in paths]), causes.load())


BIG = "dig @10.53.0.10 _kerberos._tcp.big.corp.example SRV +bufsize=4096 +tries=1 +timeout=1"


def test_the_dns_answer_with_df_is_found_and_cured(tmp_path: Path) -> None:
    with Lab() as lab:
        made(lab, "mtu-df")
        process = collecting(lab, "node", ["pod"], tmp_path / "node.tar.gz")
        assert "timed out" in lab.run("pod", BIG).stdout
        said = diagnosed(process, tmp_path / "node.tar.gz")
        assert said.verdict == "cause-found"
        assert said.findings[0].cause == "path-mtu-drops-df-udp-dns-response"
        assert any(fix.status == "proven" for fix in said.findings[0].fixes)
        assert "kdc45" in lab.run("pod", BIG + " +tcp").stdout
        build.change(lab, "node", Change(ip=["link set dev eni3c1f0a2b mtu 9001"]))
        build.change(lab, "pod", Change(ip=["link set dev eth0 mtu 9001"]))
        assert "kdc45" in lab.run("pod", BIG).stdout


def test_rp_filter_written_again_by_systemd_sysctl_is_found_and_cured(tmp_path: Path) -> None:
    probe = Http(url="http://10.0.0.63:8181/ready", source="10.0.0.150")
    rewrite = "/lib/systemd/systemd-sysctl --prefix=/net/ipv4/conf/lxc4b1d2e9f7a30"
    with Lab() as lab:
        made(lab, "rp-filter")
        assert traffic.http(lab, "node0", probe).status == 200
        lab.must("node0", rewrite)
        process = collecting(lab, "node0", ["coredns"], tmp_path / "node")
        assert traffic.http(lab, "node0", probe).status == 0
        said = diagnosed(process, tmp_path / "node")
        assert said.findings[0].cause == "rp-filter-overwritten-by-systemd-sysctl"
        assert said.verdict == "cause-found"
        fixes = [fix for fix in said.findings[0].fixes if fix.status == "proven"]
        assert fixes
        restart = "systemctl restart systemd-sysctl"  # which runs it over everything; here below net. alone
        assert restart in fixes[0].artifact
        lab.must(
            "node0", fixes[0].artifact.replace(restart, "/lib/systemd/systemd-sysctl --prefix=/net/ipv4")
        )
        assert traffic.http(lab, "node0", probe).status == 200


@pytest.mark.parametrize(
    ("name", "where", "pods", "client", "url", "size", "cause"),
    [
        ("asymmetric-multihoming", "node", [], "client", "http://10.6.1.10/", 0, "rp-filter-drops-asymmetric-pod-reply"),
        ("leftover-iptables-legacy", "node", ["pod"], "pod", "http://10.8.0.10/", 0, "node-firewall-rejects-pod-traffic"),
        ("pmtu-black-hole", "router", ["client"], "client", "http://10.2.0.10/", 60000, "icmp-frag-needed-dropped-by-node-firewall"),
        ("vxlan-small-underlay", "node-a", ["pod-a"], "pod-a", "http://10.244.2.10/", 30000, "tunnel-mtu-exceeds-underlay"),
    ],
)  # fmt: skip
def test_what_the_node_shows_names_the_cause(
    name: str, where: str, pods: list[str], client: str, url: str, size: int, cause: str, tmp_path: Path
) -> None:
    with Lab() as lab:
        made(lab, name)
        process = collecting(lab, where, pods, tmp_path)
        assert traffic.http(lab, client, Http(url=url, size=size)).status == 0
        said = diagnosed(process, tmp_path)
    faults = [f.cause for f in said.findings if f.severity == "fault"]
    assert faults[:1] == [cause]


def test_a_healthy_node_is_accused_of_nothing(tmp_path: Path) -> None:
    with Lab() as lab:
        made(lab, "icmp-blocked")
        lab.must("server", "nft flush ruleset")
        process = collecting(lab, "router", ["client", "server"], tmp_path)
        process.communicate()
    said = diagnose(read([str(tmp_path)]), causes.load())
    assert [f.cause for f in said.findings if f.severity == "fault"] == []


def test_the_folder_is_what_path_reads(tmp_path: Path) -> None:
    """Every namespace's folder answers packet flows, and the model says what the scenario showed."""
    with Lab() as lab:
        made(lab, "mtu-df")
        process = collecting(lab, "node", ["pod"], tmp_path)
        process.communicate()
    flow = {"id": "1", "kind": "packet", "netns": os.uname().nodename, "in_dev": "ens5", "src": "10.53.0.10", "dst": "10.0.0.63", "proto": "udp", "sport": 53, "dport": 40000, "length": 2331, "df": True}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "deadhop", "path", str(tmp_path), "--flows", "-"],
        input=json.dumps(flow),
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert (answer["disposition"], answer["reason"], answer["icmp"]["mtu"]) == (
        "rejected",
        "PKT_TOO_BIG",
        1500,
    )


def test_without_root_it_says_what_it_could_not_read() -> None:
    """In a forked child that gives up root: the interpreter's own files need not be open to others."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                node.collect(Path(name), capture_seconds=0.1)
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        manifest = json.loads(Path(name, "manifest.json").read_bytes())
        host = os.uname().nodename
        missed = {m["file"]: m["why"] for m in manifest["missing"]}
        assert not manifest["root"]
        assert "not permitted" in missed[f"{host}/nft.json"]
        assert "not permitted" in missed[f"{host}/capture.pcapng"]
        assert Path(name, host, "ip-route.json").stat().st_size > 0


def test_every_namespace_of_the_machine_is_found() -> None:
    """By its name in /run/netns and by the process in it; one that is asked for by pid has the same inode."""
    with Lab() as lab:
        lab.add("a")
        process = lab.start("a", "sleep 600")
        found = {entry.inode: entry for entry in discover()[0]}
        mine = found[lab.inode("a")]
        assert mine.names == [lab.full("a")]
        assert mine.pid == process.pid
        assert [entry.inode for entry in asked([str(process.pid), lab.full("a")])] == [mine.inode, mine.inode]


def test_an_archive_is_whole_and_closed_to_others(tmp_path: Path) -> None:
    target = tmp_path / "node.tar.gz"
    with Lab() as lab:
        lab.add("a")
        subprocess.run(
            [*COLLECT, "-o", str(target)], preexec_fn=lab.entering("a"), capture_output=True, check=True
        )
    assert target.stat().st_mode & 0o077 == 0
    with tarfile.open(target) as archive:
        names = archive.getnames()
    assert "node/manifest.json" in names
    assert f"node/{os.uname().nodename}/ip-addr.json" in names
