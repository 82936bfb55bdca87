"""What collect writes, without root: redaction, captures without payload, archives, names of folders."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadhop.collect import pack, procfs
from deadhop.collect.capture import keep
from deadhop.collect.discover import NoNamespace, asked, folder_name
from deadhop.collect.gather import Missing, gather, legacy, redacted, run
from deadhop.evidence.read import read
from deadhop.model.net import Address, Link, Sysctl
from deadhop.model.observed.kernel import Counter
from deadhop.wire import pcapng
from deadhop.wire.pcap import Frame, Lost, frames


def ethernet(proto: int, sport: int, dport: int, payload: bytes) -> bytes:
    transport = struct.pack(">HH", sport, dport)
    transport += (
        struct.pack(">HH", 8 + len(payload), 0)
        if proto == 17
        else struct.pack(">IIBBHHH", 0, 0, 0x50, 16, 0, 0, 0)
    )
    body = transport + payload
    head = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0, 64, proto, 0, b"\x0a\0\0\1", b"\x0a\0\0\2"
    )
    return bytes(12) + b"\x08\0" + head + body


def test_payload_is_left_out_but_for_dns() -> None:
    secret = b"Authorization: Bearer abcdefghijklmnop"
    tcp = ethernet(6, 40000, 80, secret)
    assert secret not in tcp[: keep(tcp, 14)]
    udp = ethernet(17, 40000, 9000, secret)
    assert secret not in udp[: keep(udp, 14)]
    dns = ethernet(17, 40000, 53, b"a question")
    assert keep(dns, 14) == len(dns)


@given(st.binary(max_size=200), st.sampled_from([0, 14]))
def test_any_frame_has_a_length_to_keep(frame: bytes, at: int) -> None:
    assert keep(frame, at) >= 0


def test_a_capture_file_is_read_back() -> None:
    data = pcapng.section() + pcapng.interface("eth0", pcapng.ETHERNET)
    data += pcapng.packet(0, 1_700_000_000_123_456_789, b"abcde", 99) + pcapng.statistics(0, 0, 7)
    first, lost = frames(data)
    assert isinstance(first, Frame)
    assert (bytes(first.data), first.length, first.device, round(first.time, 3)) == (
        b"abcde",
        99,
        "eth0",
        1_700_000_000.123,
    )
    assert lost == Lost(7)


def test_secrets_do_not_leave_and_json_stays_json() -> None:
    text = json.dumps({"nftables": [{"rule": {"comment": "password=hunter22hunter22", "expr": []}}]})
    said = redacted("nft.json", text)
    assert "hunter22" not in said
    assert json.loads(said)["nftables"][0]["rule"]["expr"] == []
    assert "s3cret" not in redacted("kernel-log.txt", "[1.0] app: api_key=s3cretvalue")


def test_no_sysctl_that_is_a_secret() -> None:
    said = procfs.sysctls()
    assert "net.ipv4.ip_forward = " in said
    assert "tcp_fastopen_key" not in said
    assert "stable_secret" not in said


def test_what_is_gathered_is_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "node-a"
    folder.mkdir()
    missing = dict(gather(folder, "node-a", kernel_log=False))
    if "ip-addr.json" in missing:
        pytest.skip(missing["ip-addr.json"])
    records = read([str(tmp_path)]).records
    for kind in (Link, Address, Sysctl, Counter):
        found = [r for r in records if isinstance(r, kind)]
        assert found
        assert {r.where for r in found} == {"host node-a"}


def test_a_tool_that_is_missing_or_fails_says_so() -> None:
    with pytest.raises(Missing, match="no-such-tool is not installed"):
        run(("no-such-tool",))
    with pytest.raises(Missing, match="exit status 1"):
        run(("false",))


def test_the_legacy_backend_is_not_asked_where_the_kernel_has_none() -> None:
    assert legacy("no_such_names", ("false",)).startswith("# the kernel has no tables")


def test_an_archive(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    target = tmp_path / "out.tar.gz"
    pack.check(target)
    pack.pack(folder, target)
    with tarfile.open(target) as archive:
        assert sorted(archive.getnames()) == ["out", "out/a.txt"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out.tar.gz"]


def test_zstd_needs_its_package_and_says_which(tmp_path: Path) -> None:
    try:
        import zstandard  # noqa: F401
    except ImportError:
        with pytest.raises(pack.CannotPack, match=r"deadhop\[zstd\]"):
            pack.check(tmp_path / "x.tar.zst")
    else:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "sysctl.txt").write_text("net.ipv4.ip_forward = 1\n")
        pack.pack(tmp_path / "in", tmp_path / "x.tar.zst")
        whole = (tmp_path / "x.tar.zst").read_bytes()
        assert whole[:4] == b"\x28\xb5\x2f\xfd"
        assert [r.value for r in read([str(tmp_path / "x.tar.zst")]).records if isinstance(r, Sysctl)] == [
            "1"
        ]
        (tmp_path / "cut.tar.zst").write_bytes(whole[: len(whole) // 2])
        assert read([str(tmp_path / "cut.tar.zst")]).problems


def test_an_archive_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(pack.CannotPack, match="not a folder"):
        pack.check(tmp_path / "no" / "x.tar.gz")


def test_names_of_folders() -> None:
    taken: set[str] = set()
    assert [folder_name(n, taken) for n in ("web/0", "web/0", "..", "")] == [
        "web-0",
        "web-0-2",
        "netns",
        "netns-2",
    ]


def test_a_pod_that_does_not_exist() -> None:
    with pytest.raises(NoNamespace, match="no-such"):
        asked(["no-such-namespace"])


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from deadhop.collect.child import gather_in_child
from deadhop.collect.enter import die_with_parent

def entering():
    die_with_parent()
    os.kill(os.getppid(), signal.SIGINT)
    signal.pause()

try:
    gather_in_child(Path(sys.argv[1]), "web", entering)
except KeyboardInterrupt:
    pass
try:
    os.waitpid(-1, os.WNOHANG)
    print("a child is left")
except ChildProcessError:
    print("nothing is left")
"""


def test_an_interrupted_gathering_leaves_no_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("nothing is left\n", "")
    assert list(tmp_path.iterdir()) == []
