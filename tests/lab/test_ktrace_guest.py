"""The function trace in a guest with Debian's kernel: the DNS answer with DF over a smaller MTU, and one that passes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from deadhop.cli.ktrace import command
from lab import guest

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(guest.unavailable()), reason=guest.unavailable() or "available"),
]

PROGRAM = '''
import json, os, signal, socket, subprocess, sys, threading

def ip(text):
    subprocess.run(["/bin/ip", "-batch", "-"], input=text, text=True, check=True)

ip("""netns add srv
netns add node
netns add pod
link add n0 netns node mtu 9001 type veth peer name s0 netns srv mtu 9001
link add lxc0 netns node mtu 1500 type veth peer name eth0 netns pod mtu 1500""")
for name, lines in {
    "srv": "link set s0 up\\naddr add 10.53.0.10/24 dev s0\\nroute add default via 10.53.0.1",
    "node": "link set n0 up\\nlink set lxc0 up\\naddr add 10.53.0.1/24 dev n0\\naddr add 10.0.0.1/24 dev lxc0",
    "pod": "link set lo up\\nlink set eth0 up\\naddr add 10.0.0.63/24 dev eth0\\nroute add default via 10.0.0.1",
}.items():
    subprocess.run(["/bin/ip", "-n", name, "-batch", "-"], input=lines, text=True, check=True)
subprocess.run(["/bin/ip", "netns", "exec", "node", "/bin/busybox", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"], check=True)

libc = __import__("ctypes").CDLL(None)
def enter(name):
    with open(f"/run/netns/{name}") as handle:
        assert libc.setns(handle.fileno(), 0x40000000) == 0

enter("pod")
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("10.0.0.63", 33333))
enter("srv")
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(0, 10, 3)  # IP_PMTUDISC_PROBE: DF whatever was learnt
sender.bind(("10.53.0.10", 9053))
sender.sendto(b"neighbours first", ("10.0.0.63", 33333))
receiver.recv(100)

subprocess.run(["/bin/ip", "netns", "exec", "node", "/bin/nft", "-f", "-"], text=True, check=True, input="""
table ip nat {
  chain pre { type nat hook prerouting priority dstnat; udp dport 5300 dnat to 10.0.0.63:33333; }
}""")

from deadhop.kernel.filter import parse
from deadhop.kernel.trace import FunctionTrace
from deadhop.kernel.trace_lines import HEADER, Lines
from deadhop.kernel.drops import DropProbe, types
from deadhop.kernel.symbols import Symbols

btf = types()
probe = DropProbe(parse("udp and src port 9053"), btf)
sender.sendto(bytes(2351), ("10.0.0.63", 33333))
probe.wait(10)
print("@drops", json.dumps([(probe.reasons.name(e.reason), Symbols().at(e.location)[0], e.dev, e.len) for e in probe.drain()]))
probe.close()

def traced(way, text, to, *sizes):
    trace = FunctionTrace(parse(text), btf, ways=(way,))
    lines = Lines(trace.reasons)
    for size in sizes:
        sender.sendto(bytes(size), to)
        if size < 1500:
            receiver.recv(4000)
        found = []
        while not (found and lines.function(found[-1]) == "kfree_skbmem") and trace.wait(10):
            found += list(trace.drain())
        print("@", json.dumps({"way": way, "size": size, "functions": len(trace.functions), "lost": trace.counters()[1]}))
        print(HEADER)
        for event in found:
            print(lines.text(event))
        print("@@", json.dumps([lines.object(event) for event in found]))
    trace.close()

pod = "10.0.0.63", 33333
traced("kprobe", "udp and src port 9053", pod, 1000, 2351)
traced("fentry", "udp and src port 9053", pod, 2351)
traced("fentry", "udp and dst port 5300", ("10.53.0.1", 5300), 999)

ktrace = subprocess.Popen([sys.executable, "-m", "deadhop", "ktrace", "udp and src port 9053", "-o", "jsonl"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
first = ktrace.stderr.readline()
if first.startswith("tracing "):
    sender.sendto(bytes(2351), ("10.0.0.63", 33333))
    while "kfree_skbmem" not in ktrace.stdout.readline():
        pass
    ktrace.send_signal(signal.SIGINT)
out, err = ktrace.communicate()
print("@cli", json.dumps({"first": first, "status": ktrace.returncode, "last": err.strip().splitlines()[-1:]}))
'''


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> str:
    status, said = guest.run(PROGRAM, tmp_path_factory.mktemp("guest"))
    assert status == 0, said
    return said


def traces(console: str) -> dict[tuple[str, int], tuple[dict[str, int], str, list[dict[str, object]]]]:
    found = {}
    for part in console.split("\n@ ")[0 if console.startswith("@ ") else 1 :]:
        head, _, rest = part.removeprefix("@ ").partition("\n")
        text, _, tail = rest.partition("@@ ")
        facts = json.loads(head)
        found[facts["way"], facts["size"]] = facts, text, json.loads(tail.partition("\n")[0])
    return found


def functions(events: list[dict[str, object]]) -> list[str]:
    return [str(event["func"]) for event in events]


def test_a_datagram_that_passes_is_followed_to_the_program(console: str) -> None:
    facts, _, events = traces(console)["kprobe", 1000]
    passed = functions(events)
    assert facts["lost"] == 0
    for name in ("ip_output", "ip_rcv", "ip_forward", "ip_local_deliver", "udp_rcv"):
        assert name in passed
    assert passed.index("ip_forward") < len(passed) - passed[::-1].index("ip_output") - 1
    assert len({event["netns"] for event in events} - {0}) == 3, "sender, node and pod"


@pytest.mark.parametrize("way", ["kprobe", "fentry"])
def test_a_datagram_that_is_too_big_ends_in_ip_forward(console: str, way: str) -> None:
    _, _, events = traces(console)[way, 2351]
    passed = functions(events)
    at = passed.index("ip_forward")
    assert events[at]["len"] == 2379
    assert "__icmp_send" in passed[at:]
    assert "kfree_skb_reason(SKB_DROP_REASON_PKT_TOO_BIG)" in passed
    assert "ip_local_deliver" not in passed


def test_a_packet_is_followed_through_nat(console: str) -> None:
    """The filter asks for the port before the translation; behind it the address of the skb alone tells."""
    _, _, events = traces(console)["fentry", 999]
    targets = [event["tuple"]["dport"] for event in events if "tuple" in event]  # type: ignore[index]
    assert targets[0] == 5300
    translated = [event["func"] for event in events if event.get("tuple", {}).get("dport") == 33333]  # type: ignore[attr-defined]
    for name in ("ip_forward", "ip_output", "udp_rcv"):
        assert name in translated


def test_the_drop_watch_runs_on_that_kernel_too(console: str) -> None:
    found = json.loads(console.split("@drops ")[1].partition("\n")[0])
    assert found == [["PKT_TOO_BIG", "ip_forward", "n0", 2379]]


@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_the_difference_names_the_step(console: str, tmp_path: Path, form: str) -> None:
    for name, size in (("passes", 1000), ("lost", 2351)):
        _, text, events = traces(console)["kprobe", size]
        lines = "".join(json.dumps(event) + "\n" for event in events)
        (tmp_path / name).write_text(text if form == "text" else lines)
    done = CliRunner().invoke(command, ["diff", str(tmp_path / "lost"), str(tmp_path / "passes")])
    assert "the ways part after ip_forward" in done.output, done.output
    assert "__icmp_send" in done.output
    assert "PKT_TOO_BIG" in done.output
    assert "path-mtu-drops-df-udp-dns-response" in done.output


def test_the_command_traces_and_ends_in_order(console: str) -> None:
    facts = json.loads(console.split("@cli ")[1].partition("\n")[0])
    assert facts["first"].startswith("tracing "), facts
    assert facts["status"] == 130
    assert facts["last"][0].endswith("0 lost because the buffer was full")
