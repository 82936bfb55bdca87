"""Traces of other tools as evidence: pwru's JSON, retis' events; and what ktrace prints itself."""

from __future__ import annotations

import base64
import json
import os
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner

from deadhop.cli.ktrace import command
from deadhop.evidence import read
from deadhop.kernel.drops import DropReasons
from deadhop.kernel.event import DROPPED, FUNCTION, LAYOUT, Event
from deadhop.kernel.trace_lines import HEADER, Lines
from deadhop.model.observed.packets import SkbTrace
from deadhop.model.record import Problem


def traces(path: Path, text: str) -> list[SkbTrace]:
    path.write_text(text)
    records = read([str(path)]).records
    assert not [r for r in records if isinstance(r, Problem)]
    return [record for record in records if isinstance(record, SkbTrace)]


def pwru(skb: str, func: str, **more: object) -> str:
    tup = {"saddr": "10.53.0.10", "daddr": "10.0.0.63", "sport": 9053, "dport": 4000, "proto": 17}
    whole = {"skb": skb, "cpu": 3, "process": "dns:4711", "func": func, "netns": 4026531992, "iface": "ens5:2",
             "proto": 2048, "mtu": 9001, "len": 2379, "tuple": tup, **more}  # fmt: skip
    return json.dumps(whole, separators=(",", ":"))


def test_pwru_json_of_two_packets_interleaved(tmp_path: Path) -> None:
    lines = [
        pwru("0xffff1", "ip_rcv"),
        pwru("0xffff2", "ip_rcv", len=60),
        pwru("0xffff1", "ip_forward"),
        pwru("0xffff1", "kfree_skb_reason(SKB_DROP_REASON_PKT_TOO_BIG)"),
        pwru("0xffff2", "ip_forward", len=60),
    ]
    first, second = traces(tmp_path / "t", "\n".join(lines) + "\n")
    assert [step.func for step in first.steps] == ["ip_rcv", "ip_forward", "kfree_skb_reason"]
    assert first.steps[-1].reason == "SKB_DROP_REASON_PKT_TOO_BIG"
    step = first.steps[1]
    assert (step.dev, step.ifindex, step.mtu, step.len, step.netns) == ("ens5", 2, 9001, 2379, 4026531992)
    assert step.tuple == "10.53.0.10:9053->10.0.0.63:4000(udp)"
    assert (first.source.line, step.line) == (1, 3)
    assert [step.len for step in second.steps] == [60, 60]


NEW = """\
{head}SKB                CPU PROCESS          {stamp}NETNS      MARK/x        IFACE       PROTO  MTU   LEN   TUPLE FUNC{caller}
{time}0xffff888000001000 3   dns:4711         {number}4026531992 0            ens5:2      0x0800 9001  2379  10.53.0.10:9053->10.0.0.63:4000(udp) ip_forward{by}
{time}0xffff888000001000 3   <empty>:0        {number}0          1a             0         0x0800 0     2351  10.53.0.10:9053->10.0.0.63:4000(udp) kfree_skb_reason(SKB_DROP_REASON_PKT_TOO_BIG){by}
"""


@pytest.mark.parametrize("caller", [False, True])
@pytest.mark.parametrize("stamp", ["none", "relative", "absolute"])
def test_pwru_text_since_1_0_7_with_its_optional_columns(tmp_path: Path, stamp: str, caller: bool) -> None:
    """The columns of --timestamp and --output-caller; namespace 0 where the skb has neither device nor socket."""
    absolute, relative = stamp == "absolute", stamp != "none"
    text = NEW.format(
        head="TIME                    " if absolute else "", time="2024-05-01T10:00:00.123 " if absolute else "",
        stamp="TIMESTAMP        " if relative else "", number="1200             " if relative else "",
        caller=" CALLER" if caller else "", by=" ip_rcv_finish" if caller else "",
    )  # fmt: skip
    (trace,) = traces(tmp_path / "t", text)
    first, last = trace.steps
    assert (first.func, first.netns, first.mtu, first.len, first.dev, first.ifindex) == (
        "ip_forward",
        4026531992,
        9001,
        2379,
        "ens5",
        2,
    )
    assert (last.func, last.reason, last.netns, last.len) == (
        "kfree_skb_reason",
        "SKB_DROP_REASON_PKT_TOO_BIG",
        0,
        2351,
    )


def retis(symbol: str, **sections: object) -> dict[str, object]:
    return {
        "common": {"timestamp": 1, "smp_id": 0},
        "kernel": {"symbol": symbol, "probe_type": "kprobe"},
        "skb-tracking": {"orig_head": 18446623346735780864, "timestamp": 7322460997041, "skb": 5},
        **sections,
    }


OLD_SKB = {
    "ip": {"saddr": "10.53.0.10", "daddr": "10.0.0.63", "v4": {"flags": 2}, "protocol": 17, "len": 2379, "ttl": 64, "ecn": 0},
    "udp": {"sport": 9053, "dport": 4000, "len": 2359},
    "dev": {"name": "ens5", "ifindex": 2, "rx_ifindex": 2},
    "ns": {"netns": 4026531992},
    "meta": {"len": 2379, "data_len": 0},
}  # fmt: skip


def test_retis_with_headers_in_the_skb_section(tmp_path: Path) -> None:
    drop = retis("skb:kfree_skb", skb=OLD_SKB, **{"skb-drop": {"drop_reason": "PKT_TOO_BIG"}})
    events = [{"startup": {"retis_version": "1.5.0"}}, retis("ip_forward", skb=OLD_SKB), drop]
    (trace,) = traces(tmp_path / "t", "".join(json.dumps(event) + "\n" for event in events))
    assert [step.func for step in trace.steps] == ["ip_forward", "kfree_skb"]
    assert trace.steps[1].reason == "SKB_DROP_REASON_PKT_TOO_BIG"
    step = trace.steps[0]
    assert (step.dev, step.ifindex, step.len, step.netns) == ("ens5", 2, 2379, 4026531992)
    assert step.tuple == "10.53.0.10:9053->10.0.0.63:4000(udp)"


def test_retis_with_the_packet_beside_the_skb_section_and_sorted(tmp_path: Path) -> None:
    ip = struct.pack(">BBHHHBBH4s4sHHHH", 0x45, 0, 2379, 0, 0x4000, 64, 17, 0, bytes([10, 53, 0, 10]), bytes([10, 0, 0, 63]),
                     9053, 4000, 2359, 0)  # fmt: skip
    frame = base64.b64encode(bytes(12) + b"\x08\x00" + ip).decode()
    more = {
        "skb": {},
        "packet": {"len": 2393, "capture_len": 255, "data": frame},
        "dev": {"name": "ens5", "ifindex": 2},
        "ns": {"cookie": 1, "inum": 4026531992},
    }
    text = json.dumps([retis("net:netif_receive_skb", **more), retis("ip_forward", **more)]) + "\n"
    (trace,) = traces(tmp_path / "t", text)
    assert [step.func for step in trace.steps] == ["netif_receive_skb", "ip_forward"]
    assert {step.tuple for step in trace.steps} == {"10.53.0.10:9053->10.0.0.63:4000(udp)"}
    assert {step.netns for step in trace.steps} == {4026531992}
    assert {step.line for step in trace.steps} == {1}


class NoSymbols:
    """Addresses that name themselves."""

    def at(self, address: int) -> tuple[str, int]:
        return {1: "ip_rcv", 2: "ip_forward", 3: "__icmp_send"}.get(address, ""), 0


class SomeReasons(DropReasons):
    def __init__(self) -> None:
        self.names = {93: "PKT_TOO_BIG"}


def event(kind: int, location: int) -> Event:
    return Event(
        LAYOUT.pack(9, location, 0xFFFF888000001000, 93 if kind == DROPPED else 0, 4026531992, 2, 2, 0, 2379, b"\x08\x00", 20, 4, 17, 1,
                    kind, 9001, 1, b"ens5", bytes([10, 53, 0, 10]) + bytes(12), bytes([10, 0, 0, 63]) + bytes(12), b"\x23\x5d", b"\x0f\xa0",
                    7, b"ksoftirqd/1", bytes(128))
    )  # fmt: skip


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_ktrace_prints_is_read_again(tmp_path: Path, form: str) -> None:
    lines = Lines(SomeReasons(), NoSymbols())  # type: ignore[arg-type]
    events = [event(FUNCTION, 1), event(FUNCTION, 2), event(FUNCTION, 3), event(DROPPED, 2)]
    if form == "text":
        text = "\n".join([HEADER, *(lines.text(e) for e in events)]) + "\n"
    else:
        text = "".join(json.dumps(lines.object(e)) + "\n" for e in events)
    (trace,) = traces(tmp_path / "t", text)
    assert [step.func for step in trace.steps] == ["ip_rcv", "ip_forward", "__icmp_send", "kfree_skb_reason"]
    assert trace.steps[-1].reason == "SKB_DROP_REASON_PKT_TOO_BIG"
    step = trace.steps[1]
    assert (step.dev, step.ifindex, step.mtu, step.len, step.netns) == ("ens5", 2, 9001, 2379, 4026531992)
    assert step.tuple == "10.53.0.10:9053->10.0.0.63:4000(udp)"


LISTING = """\
0xffff888000001000 0 [dns] ip_rcv netns=4026531992 mark=0x0 ifindex={i} proto=8 mtu={mtu} len=2379 10.0.0.1:9053->10.0.0.2:4000(udp)
0xffff888000001000 0 [dns] ip_forward netns=4026531992 mark=0x0 ifindex={i} proto=8 mtu={mtu} len=2379 10.0.0.1:9053->10.0.0.2:4000(udp)
0xffff888000001000 0 [dns] {next} netns=4026531992 mark=0x0 ifindex={i} proto=8 mtu={mtu} len=2379 10.0.0.1:9053->10.0.0.2:4000(udp)
"""


def diff(tmp_path: Path, a: str, b: str, *more: str) -> tuple[int, str]:
    (tmp_path / "a").write_text(a)
    (tmp_path / "b").write_text(b)
    done = CliRunner().invoke(
        command, ["diff", str(tmp_path / "a"), str(tmp_path / "b"), *more], standalone_mode=False
    )
    return done.return_value, done.output


def test_the_difference_is_the_step_after_the_last_common_function(tmp_path: Path) -> None:
    lost, passed = (
        LISTING.format(i=5, mtu=1500, next="__icmp_send"),
        LISTING.format(i=3, mtu=9001, next="ip_output"),
    )
    status, said = diff(tmp_path, lost, passed)
    assert status == 1
    assert "2 functions in common; the ways part after ip_forward" in said
    assert "len 2379 > mtu 1500" in said
    assert "path-mtu-drops-df-udp-dns-response" in said
    found = json.loads(diff(tmp_path, lost, passed, "-o", "json")[1])
    assert (found["parting"]["a"]["func"], found["parting"]["b"]["func"]) == ("__icmp_send", "ip_output")
    assert found["common"] == 2


def test_the_mtu_that_decided_is_the_way_outs(tmp_path: Path) -> None:
    """A forwarding node with a large MTU on the side where the packet comes in, as a trace of a real kernel shows it."""
    common = [pwru("0xffff1", "ip_rcv"), pwru("0xffff1", "ip_forward")]
    lost = [
        *common,
        pwru("0xffff1", "__icmp_send"),
        pwru("0xffff1", "kfree_skb_reason(SKB_DROP_REASON_PKT_TOO_BIG)"),
    ]
    out = [pwru("0xffff1", "ip_output"), pwru("0xffff1", "ip_finish_output", iface="lxc0:3", mtu=1500)]
    passed = [line.replace('"len":2379', '"len":1028') for line in (*common, *out)]
    status, said = diff(tmp_path, "\n".join(lost) + "\n", "\n".join(passed) + "\n")
    assert status == 1
    assert "because PKT_TOO_BIG" in said
    assert "the way out is lxc0 with mtu 1500: len 1028 fits, len 2379 does not" in said


def test_equal_ways_are_equal_whatever_the_addresses(tmp_path: Path) -> None:
    way = LISTING.format(i=3, mtu=9001, next="ip_output")
    status, said = diff(tmp_path, way, way.replace("1000 0", "2000 1"))
    assert status == 0
    assert "The same 3 functions" in said


def test_a_file_without_a_trace_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("nothing of the kind\n")
    done = CliRunner().invoke(command, ["diff", str(tmp_path / "a"), str(tmp_path / "a")])
    assert done.exit_code == 2
    assert "no trace of kernel functions" in done.output


def seed() -> str:
    folder = Path(os.environ.get("DEADHOP_DOCUMENTS", Path(__file__).parents[3] / "shared/seeds"))
    found = sorted(folder.glob("000_*.txt"))
    if not found:
        pytest.skip(f"no seed documents in {folder}")
    return found[0].read_text()


def test_the_two_listings_of_a_real_incident(tmp_path: Path) -> None:
    """Edited listings of pwru before 1.0.7, one with the MTU at 1500 and one at 9001."""
    blocks = [block for block in seed().split("...\n") if "netns=" in block]
    cut = next(i for i, block in enumerate(blocks) if "mtu=9001" in block)
    a, b = "...\n".join(blocks[:cut]) + "...\n", "...\n".join(blocks[cut:])
    status, said = diff(tmp_path, "...\n" + a, "...\n" + b[: b.index("In both cases")])
    assert status == 1
    assert "part after ip_forward" in said
    assert "__icmp_send" in said
    assert "ip_output" in said
    assert "len 2379 > mtu 1500" in said
