"""Reader throughput in MB/s on generated evidence, against the tool that a person would use, in the same run.

CoreDNS log against grep, flow JSON against jq, pcap against tshark; a peer that is not installed is named and left out.
The peer does less (grep looks for one pattern), so the ratio is a bound and not a race.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deadhop.evidence import read

SIZE = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000


def coredns() -> bytes:
    rows = []
    for i in range(SIZE * 4):
        rows.append(
            f'[INFO] 10.0.{i % 200}.{i % 250}:{30000 + i % 20000} - {i % 65536} "A IN api{i % 500}.example.com.shop.svc.cluster.local. udp 62 false 512" NXDOMAIN qr,aa,rd 155 0.000{i % 900 + 100}s'
        )
    return "\n".join(rows).encode() + b"\n"


def hubble() -> bytes:
    rows = []
    for i in range(SIZE):
        flow = {
            "time": "2024-05-21T09:40:17.123Z", "verdict": "FORWARDED", "IP": {"source": f"10.0.1.{i % 250}", "destination": "10.96.0.10", "ipVersion": "IPv4"},
            "l4": {"UDP": {"source_port": 30000 + i % 20000, "destination_port": 53}}, "source": {"ID": 811, "identity": 26450, "namespace": "shop", "pod_name": f"web-{i % 40}", "labels": ["k8s:app=web"]},
            "destination": {"identity": 9313, "namespace": "kube-system", "pod_name": "coredns-1"}, "Type": "L7", "node_name": "worker-1",
            "l7": {"type": "REQUEST", "dns": {"query": f"api{i % 500}.example.com.", "observation_source": "proxy", "qtypes": ["A"]}}, "is_reply": False,
        }  # fmt: skip
        rows.append(json.dumps({"flow": flow, "node_name": "worker-1", "time": flow["time"]}))
    return "\n".join(rows).encode() + b"\n"


def pcap() -> bytes:
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    for i in range(SIZE * 2):
        name = f"api{i % 500}".encode()
        question = bytes([len(name)]) + name + b"\x07example\x03com\x00" + struct.pack(">HH", 1, 1)
        dns = struct.pack(">HHHHHH", i % 65536, 0x0100, 1, 0, 0, 0) + question
        udp = struct.pack(">HHHH", 30000 + i % 20000, 53, 8 + len(dns), 0) + dns
        ip = (
            struct.pack(
                ">BBHHHBBH4s4s",
                0x45,
                0,
                20 + len(udp),
                i % 65536,
                0,
                64,
                17,
                0,
                bytes([10, 0, 1, i % 250]),
                bytes([10, 96, 0, 10]),
            )
            + udp
        )
        frame = b"\x02" * 6 + b"\x04" * 6 + b"\x08\x00" + ip
        out.append(struct.pack("<IIII", 1_700_000_000 + i // 1000, i % 1000, len(frame), len(frame)) + frame)
    return b"".join(out)


CASES = {
    "coredns.log": (coredns, ["grep", "-c", "NXDOMAIN"]),
    "flows.json": (hubble, ["jq", "-c", ".flow.l7.dns.query"]),
    "dns.pcap": (pcap, ["tshark", "-T", "fields", "-e", "dns.qry.name", "-r"]),
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, (make, peer) in CASES.items():
            path = Path(folder) / name
            path.write_bytes(make())
            size = path.stat().st_size / 1e6
            started = time.perf_counter()
            records = len(read([str(path)]).records)
            own = time.perf_counter() - started
            line = f"{name:<12} {size:6.1f} MB  {size / own:7.1f} MB/s  {records / own:9,.0f} records/s"
            if shutil.which(peer[0]):
                started = time.perf_counter()
                subprocess.run(
                    [*peer, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
                )
                other = time.perf_counter() - started
                line += f"   {peer[0]} {size / other:7.1f} MB/s ({own / other:.1f} x its time)"
            else:
                line += f"   {peer[0]} is not installed"
            print(line)


if __name__ == "__main__":
    main()
