"""The drop watch on the running kernel: the two incidents' drops, filters, loss, and the model's reason beside them."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deadhop.kernel.btf import FOLDER, Btf, BtfError
from deadhop.kernel.drops import DropProbe, Event, NoProbe, types
from deadhop.kernel.filter import matches, parse
from deadhop.kernel.namespaces import Names, inode_of
from deadhop.kernel.symbols import Symbols
from deadhop.kernel.why import explain
from deadhop.lab.verify.router import EVIDENCE

SERVER, POD, NODE = "10.53.0.10", "10.0.0.63", "10.0.0.150"


def unavailable() -> str:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs Linux and root"
    try:
        DropProbe().close()
    except NoProbe as error:
        return str(error)
    return ""


pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "available")]


class Place:
    """Three named namespaces: a server, a node that forwards with a smaller MTU towards the pod, and the pod."""

    def __init__(self) -> None:
        self.names = {role: f"dh{os.getpid()}{role}" for role in ("srv", "node", "pod")}
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def run(self, role: str, *command: str) -> str:
        whole = ("ip", "netns", "exec", self.names[role], *command)
        return subprocess.run(whole, check=True, capture_output=True, text=True).stdout

    def _build(self) -> None:
        srv, node, pod = self.names.values()
        script = f"""
            netns add {srv}
            netns add {node}
            netns add {pod}
            link add n0 netns {node} mtu 9001 type veth peer name s0 netns {srv} mtu 9001
            link add lxc0 netns {node} mtu 1500 address 02:00:00:00:00:02 type veth peer name eth0 netns {pod} mtu 1500 address 02:00:00:00:00:01
            link add cilium_host netns {node} type veth peer name cilium_net netns {node}
        """
        subprocess.run(["ip", "-batch", "-"], input=script, text=True, check=True, capture_output=True)
        for role, lines in {
            "srv": f"link set s0 up\naddr add {SERVER}/24 dev s0\nroute add default via 10.53.0.1",
            "node": "link set lo up\nlink set n0 up\nlink set lxc0 up\nlink set cilium_host up\nlink set cilium_net up\n"
            f"addr add 10.53.0.1/24 dev n0\naddr add {NODE}/32 dev cilium_host\nroute add 10.0.0.0/24 dev cilium_host src {NODE}\n"
            f"neigh add {POD} lladdr 02:00:00:00:00:01 dev lxc0\nroute add {POD}/32 dev lxc0",
            "pod": f"link set eth0 up\naddr add {POD}/32 dev eth0\nroute add default dev eth0\n"
            f"neigh add {NODE} lladdr 02:00:00:00:00:02 dev eth0",
        }.items():
            batch = ["ip", "-n", self.names[role], "-batch", "-"]
            subprocess.run(batch, input=lines, text=True, check=True, capture_output=True)
        self.run("node", "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def send(self, role: str, to: tuple[str, int], size: int, *, source: int = 0, df: bool = False) -> None:
        """One UDP datagram of ``size`` bytes payload, its DF bit whatever the path's MTU is believed to be."""
        code = (
            "import socket;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);"
            f"s.setsockopt(0,10,{3 if df else 0});s.bind(('',{source}));s.sendto(bytes({size}),{to!r})"
        )
        self.run(role, sys.executable, "-c", code)

    def evidence(self, folder: Path) -> None:
        """The node's state as ``ip -j`` and ``sysctl -a`` print it, as evidence in ``folder/NAME``."""
        target = folder / self.names["node"]
        target.mkdir(parents=True)
        for name, command in EVIDENCE.items():
            (target / name).write_text(self.run("node", *command))
        (target / "sysctl.txt").write_text(self.run("node", "sysctl", "-a", "--pattern", "^net"))

    def close(self) -> None:
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    made = Place()
    try:
        yield made
    finally:
        made.close()


def drops_of(filter_text: str, act: Any) -> tuple[DropProbe, list[Event]]:
    """The drops that pass the filter while ``act`` runs and until the first of them is there."""
    btf = types()
    numbers = {"PKT_TOO_BIG": 0, "IP_RPFILTER": 0}
    probe = DropProbe(parse("tcp and udp"), btf)
    numbers = probe.reasons.numbers
    probe.close()
    probe = DropProbe(parse(filter_text, numbers, inode_of), btf)
    try:
        act()
        probe.wait(10)
        return probe, list(probe.drain())
    finally:
        probe.close()


def oversized(place: Place) -> None:
    place.send("srv", (POD, 33333), 2351, source=9053, df=True)


def martian(place: Place) -> None:
    place.run("node", "ip", "route", "del", f"{POD}/32", "dev", "lxc0")
    place.run("node", "sysctl", "-qw", "net.ipv4.conf.lxc0.rp_filter=2")
    try:
        place.send("pod", (NODE, 4240), 20, source=5000)
    finally:
        place.run("node", "sysctl", "-qw", "net.ipv4.conf.lxc0.rp_filter=0")
        place.run("node", "ip", "route", "add", f"{POD}/32", "dev", "lxc0")


def test_a_datagram_with_df_over_a_smaller_mtu(place: Place) -> None:
    node = place.names["node"]
    probe, found = drops_of(f"udp and src port 9053 and netns {node}", lambda: oversized(place))
    assert len(found) == 1
    event = found[0]
    assert probe.reasons.name(event.reason) == "PKT_TOO_BIG"
    symbols = Symbols()
    assert symbols.at(event.location)[0] == "ip_forward" or symbols.hidden
    assert (Names().name(event.netns), event.dev) == (node, "n0")
    assert (str(event.src), event.sport, str(event.dst), event.dport) == (SERVER, 9053, POD, 33333)
    assert event.len == 2379


def test_a_reply_whose_way_back_is_another_device(place: Place) -> None:
    probe, found = drops_of(
        f"reason IP_RPFILTER and dev lxc0 and netns {place.names['node']}", lambda: martian(place)
    )
    assert [probe.reasons.name(event.reason) for event in found] == ["IP_RPFILTER"]
    symbols = Symbols()
    assert symbols.at(found[0].location)[0] == "ip_rcv_finish_core" or symbols.hidden


def test_the_model_names_what_decided(place: Place, tmp_path: Path) -> None:
    from deadhop.evidence.namespace.folders import folders

    place.evidence(tmp_path)
    state = folders([str(tmp_path)])[0][0].namespace
    probe, found = drops_of(f"reason PKT_TOO_BIG and netns {place.names['node']}", lambda: oversized(place))
    said = explain(found[0], probe.reasons.name(found[0].reason), state)
    assert not said.contradiction
    assert "2379 bytes with DF do not fit 1500" in said.text
    assert "lxc0" in said.text
    assert "ICMP 3/4 mtu 1500" in said.text


def test_a_state_in_which_the_packet_passes_contradicts_the_kernel(place: Place, tmp_path: Path) -> None:
    from deadhop.evidence.namespace.folders import folders

    place.evidence(tmp_path)
    for file in tmp_path.rglob("ip-*.json"):
        file.write_text(file.read_text().replace('"mtu":1500', '"mtu":9001'))
    state = folders([str(tmp_path)])[0][0].namespace
    probe, found = drops_of(f"reason PKT_TOO_BIG and netns {place.names['node']}", lambda: oversized(place))
    said = explain(found[0], probe.reasons.name(found[0].reason), state)
    assert said.contradiction
    assert "forwarded out of lxc0" in said.text


def test_the_filter_in_the_kernel_takes_what_the_evaluator_takes(place: Place) -> None:
    """On the kernel's own drops: everything is recorded, and each filter once more, on the same traffic."""
    node = place.names["node"]

    def traffic() -> None:
        oversized(place)
        place.send("pod", (NODE, 4240), 20, source=5000)
        place.send("srv", ("10.53.0.1", 4241), 900, source=9053)
        place.send("srv", ("10.53.0.1", 53), 10, source=5001)

    _, everything = drops_of(f"netns {node} and udp", traffic)
    assert len(everything) == 4
    for text in (
        "src port 9053",
        "greater 1500",
        "net 10.0.0.0/24",
        "dst host 10.53.0.1 and not port 53",
        "dev lxc0",
        "less 48",
        "src net 10.53.0.0/24 and portrange 1-100",
    ):
        whole = (
            f"netns {node} and udp and {text}"
            if " and not" not in text
            else f"netns {node} and udp and ({text})"
        )
        expected = [(e.sport, e.dport, e.dev) for e in everything if matches(parse(whole, {}, inode_of), e)]
        assert 0 < len(expected) < 4, text
        assert [(e.sport, e.dport, e.dev) for e in drops_of(whole, traffic)[1]] == expected, text


def test_an_icmp_error_that_dies_shows_what_it_is_about(place: Place) -> None:
    from deadhop.kernel.describe import packet_line

    quoted = struct.pack(">BBHHHBBH4s4sHHHH", 0x45, 0, 1400, 0, 0x4000, 64, 17, 0, socket.inet_aton("10.53.0.1"),
                         socket.inet_aton(SERVER), 5353, 53, 1380, 0)  # fmt: skip
    body = struct.pack(">BBHHH", 3, 4, 0, 0, 1400) + quoted
    total = sum(struct.unpack(f">{len(body) // 2}H", body))
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    body = body[:2] + struct.pack(">H", total ^ 0xFFFF) + body[4:]  # wrong on purpose: ICMP_CSUM
    code = (
        f"import socket;s=socket.socket(socket.AF_INET,socket.SOCK_RAW,1);s.sendto({body!r},('10.53.0.1',0))"
    )
    probe, found = drops_of(
        f"icmp and netns {place.names['node']}", lambda: place.run("srv", sys.executable, "-c", code)
    )
    assert probe.reasons.name(found[0].reason) == "ICMP_CSUM"
    assert "type 3 code 4 about udp 10.53.0.1:5353 > 10.53.0.10:53" in packet_line(found[0])


def test_ipv6_behind_an_extension_header_has_its_ports(place: Place) -> None:
    place.run("srv", "ip", "addr", "replace", "fd53::10/64", "dev", "s0", "nodad")
    place.run("node", "ip", "addr", "replace", "fd53::1/64", "dev", "n0", "nodad")
    code = (
        "import socket;s=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM);s.bind(('fd53::10',7000));"
        "s.sendmsg([bytes(8)],[(41,59,bytes([0,0,1,4,0,0,0,0]))],0,('fd53::1',7777))"  # IPV6_DSTOPTS
    )
    _, found = drops_of(
        "ip6 and udp dst port 7777 and net fd53::/64", lambda: place.run("srv", sys.executable, "-c", code)
    )
    assert (str(found[0].src), found[0].sport, found[0].dport) == ("fd53::10", 7000, 7777)
    assert found[0].l4_offset == 48


def test_what_a_full_ring_lost_is_counted(place: Place) -> None:
    probe = DropProbe(
        parse(f"udp dst port 4299 and netns {place.names['node']}", {}, inode_of), ring_size=4096
    )
    try:
        code = (
            "import socket;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
            "for i in range(100): s.sendto(bytes(4),('10.53.0.1',4299))"
        )
        place.run("srv", sys.executable, "-c", code)
        assert probe.wait(10)
        taken = len(list(probe.drain()))
        passed, lost = probe.counters()
        assert passed == 100
        assert lost == 100 - taken
        assert 0 < taken < 100
    finally:
        probe.close()


def test_a_kernel_without_reasons_still_tells_the_function(place: Place) -> None:
    """Before 5.17 the enum is not there, and the tracepoint has two arguments: the program may not ask for a third."""

    class Older(Btf):
        def enum(self, name: str) -> dict[int, str]:
            if name == "skb_drop_reason":
                raise BtfError(f"no enum {name}")
            return super().enum(name)

    probe = DropProbe(
        parse(f"udp dst port 4297 and netns {place.names['node']}", {}, inode_of),
        Older((FOLDER / "vmlinux").read_bytes()),
    )
    try:
        place.send("srv", ("10.53.0.1", 4297), 4)
        assert probe.wait(10)
        (event,) = probe.drain()
        assert event.reason == 0
        assert not probe.reasons.names
        symbols = Symbols()
        assert symbols.at(event.location)[0] == "__udp4_lib_rcv" or symbols.hidden
    finally:
        probe.close()


def watch(place: Place, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """``deadhop drops`` once it is attached: it says so by its program's being there before the first line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deadhop", "drops", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    while process.poll() is None and not any(
        os.path.realpath(f"/proc/{process.pid}/fd/{fd}").endswith("anon_inode:bpf-prog")
        or "bpf_link" in os.path.realpath(f"/proc/{process.pid}/fd/{fd}")
        for fd in os.listdir(f"/proc/{process.pid}/fd")
    ):
        time.sleep(0.01)
    return process, place.names["node"]


@pytest.mark.parametrize("state", ["live", "evidence"])
def test_the_command_prints_the_drop_and_why(place: Place, tmp_path: Path, state: str) -> None:
    place.evidence(tmp_path)
    why = ["--why"] if state == "live" else ["--evidence", str(tmp_path)]
    process, node = watch(place, "-n", "1", *why, f"src port 9053 and netns {place.names['node']}")
    try:
        while process.poll() is None:  # the link may be a moment behind the program
            oversized(place)
        out, err = process.communicate()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert f"PKT_TOO_BIG ip_forward {node}/n0: udp {SERVER}:9053 > {POD}:33333, 2379 bytes, DF" in out
    assert "why: " in out
    assert "2379 bytes with DF do not fit 1500" in out
    assert "lost because the buffer was full" in err


def test_the_command_ends_in_order_when_told(place: Place) -> None:
    process, _ = watch(place, "-o", "jsonl", "udp dst port 4298")
    try:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert json.loads(out.splitlines()[-1]) == {"drops": 0, "lost": 0}
