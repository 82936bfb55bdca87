"""Captures the MTU incident: a DNS answer with DF, forwarded into a smaller MTU, before and after the fix."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from namespaces import Lab, Session, lab

SERVER, POD, NODE = "10.53.0.10", "10.0.0.63", "10.0.0.1"
NAMES = "_kerberos._tcp.big.corp.example"


def build(made: Lab) -> None:
    made.add("srv", "node", "pod")
    made.veth(("srv", "s0", 9001), ("node", "ens5", 9001))
    made.veth(("node", "eni3c1f0a2b", 1500), ("pod", "eth0", 1500))
    made.run("srv", f"ip addr add {SERVER}/24 dev s0; ip route add default via 10.53.0.1")
    made.run(
        "node",
        f"ip addr add 10.53.0.1/24 dev ens5; ip addr add {NODE}/32 dev eni3c1f0a2b; ip route add {POD}/32 dev eni3c1f0a2b; sysctl -qw net.ipv4.ip_forward=1",
    )
    made.run(
        "pod",
        f"ip addr add {POD}/32 dev eth0; ip route add {NODE} dev eth0; ip route add default via {NODE} dev eth0",
    )
    made.start("srv", sys.executable, str(Path(__file__).with_name("dns_server.py")), SERVER, "46")
    time.sleep(1.0)


def ask(made: Lab, folder: Path, name: str, capture: bool) -> None:
    dump = (
        made.start(
            "node", "tcpdump", "-ni", "ens5", "-U", "-w", str(folder / f"{name}.pcap"), "udp port 53 or icmp"
        )
        if capture
        else None
    )
    time.sleep(1.5)
    session = Session(made, "pod", "root@app-7c9f:/# ")
    session(f"dig @{SERVER} {NAMES} SRV +bufsize=4096 +tries=2 +timeout=1")
    session(f"dig @{SERVER} {NAMES} SRV +tcp +noall +answer +stats")
    session(f"dig @{SERVER} _kerberos._tcp.small.corp.example SRV +noall +answer +stats")
    if dump:
        dump.terminate()
        dump.wait(5)
    (folder / f"{name}-pod.txt").write_text(session.text)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with lab() as made:
        build(made)
        ask(made, folder, "before", capture=True)
        node = Session(made, "node", "root@node-a:~# ")
        for command in (
            "ip addr",
            "ip route",
            "ip rule",
            f"ip route get {POD}",
            "nstat -az IpFragFails IcmpOutDestUnreachs IpForwDatagrams",
            "sysctl net.ipv4.ip_forward net.ipv4.conf.all.rp_filter",
        ):
            node(command)
        (folder / "before-node.txt").write_text(node.text)
        made.run("node", "ip link set eni3c1f0a2b mtu 9001")
        made.run("pod", "ip link set eth0 mtu 9001")
        ask(made, folder, "after", capture=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
