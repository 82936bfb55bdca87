"""Captures the rp_filter incident: systemd-sysctl sets the new veth's rp_filter again, and probe answers are martian.

The redirect from the CNI's host device into the pod's veth, which Cilium's BPF does and no route shows, is made with a
tc filter. systemd-sysctl is the real one, run as udev runs it, over a sysctl.d folder of its own.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from namespaces import Lab, Session, lab

HOST, POD, DEV = "10.0.0.150", "10.0.0.63", "lxc4b1d2e9f7a30"
PROBE = f"curl -s -m 1 -o /dev/null -w '%{{http_code}}\\n' --interface {HOST} http://{POD}:8181/ready"
#: What systemd ships in 50-default.conf since release 245.
DISTRIBUTION = (
    "net.ipv4.conf.default.rp_filter = 2\nnet.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.all.rp_filter\n"
)


def build(made: Lab) -> None:
    made.add("node", "pod")
    made.run(
        "node",
        "ip link add cilium_host type veth peer name cilium_net; ip link set cilium_host arp off up; ip link set cilium_net arp off up",
    )
    made.veth(("node", DEV, 1500), ("pod", "eth0", 1500))
    made.run(
        "node",
        f"ip addr add {HOST}/32 dev cilium_host; ip route add {HOST} dev cilium_host scope link; ip route add 10.0.0.0/24 via {HOST} dev cilium_host src {HOST}; sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.log_martians=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{DEV}.rp_filter=0",
    )
    made.run(
        "pod",
        f"ip addr add {POD}/32 dev eth0; ip route add {HOST} dev eth0 scope link; ip route add default via {HOST} dev eth0",
    )
    mac = made.run("node", "cat /sys/class/net/cilium_host/address").strip()
    made.run("pod", f"ip link set eth0 address {mac}")
    made.run(
        "node",
        f"tc qdisc add dev cilium_host clsact; tc filter add dev cilium_host egress protocol ip u32 match ip dst {POD}/32 action mirred egress redirect dev {DEV}",
    )
    host_mac = made.run("node", f"cat /sys/class/net/{DEV}/address").strip()
    made.run("pod", f"ip neigh replace {HOST} lladdr {host_mac} dev eth0")
    made.start("pod", sys.executable, str(Path(__file__).with_name("ready_server.py")), POD, "8181")
    time.sleep(1.0)


def sysctl_d(made: Lab, files: dict[str, str], shown: Session) -> None:
    """Runs the real systemd-sysctl over ``files`` as udev does for a new device."""
    writes = "; ".join(f"printf '%s' '{text}' > {path}" for path, text in files.items())
    command = (
        f"mount -t tmpfs t /etc/sysctl.d; mount -t tmpfs t /usr/lib/sysctl.d; mount -t tmpfs t /run; {writes}; "
        f"/lib/systemd/systemd-sysctl --prefix=/net/ipv4/conf/{DEV}"
    )
    made.run("node", command, check=False)
    for path, text in files.items():
        shown.text += f"{shown.prompt}cat {path}\n{text}"


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with lab() as made:
        build(made)
        healthy = made.run("node", PROBE, check=False).strip()
        node = Session(made, "node", "root@node0:~# ")
        sysctl_d(made, {"/usr/lib/sysctl.d/50-default.conf": DISTRIBUTION}, node)
        mark = Path("/proc/uptime").read_text().split()[0]
        broken = made.run("node", PROBE, check=False).strip()
        (folder / "probe.txt").write_text(f"before systemd-sysctl ran: {healthy}\nafter: {broken}\n")
        node(f"dmesg | grep -A1 'on dev {DEV}' | tail -4", f"dmesg | grep -A1 'on dev {DEV}' | tail -4")
        rules = [
            row
            for row in Path("/usr/lib/udev/rules.d/99-systemd.rules").read_text().splitlines()
            if "systemd-sysctl" in row
        ]
        node.text += (
            f"{node.prompt}grep systemd-sysctl /usr/lib/udev/rules.d/99-systemd.rules\n"
            + "\n".join(rules)
            + "\n"
        )
        for command in (
            "ip addr",
            "ip route",
            "ip rule",
            f"ip route get {POD}",
            "sysctl -a | grep '\\.rp_filter'",
            "nstat -az TcpExtIPReversePathFilter",
        ):
            node(command)
        (folder / "node.txt").write_text(node.text)
        pod = Session(made, "pod", "root@coredns:/# ")
        for command in ("ip addr", "ip route", "ss -ltn"):
            pod(command)
        (folder / "pod.txt").write_text(pod.text)
        made.run("node", f"ip route add {POD}/32 dev {DEV}")
        fixed = made.run("node", PROBE, check=False).strip()
        print("healthy", healthy, "broken", broken, "with a route per pod", fixed, "since", mark)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
