"""``deadhop dns top`` on a generated CoreDNS log, against ``grep -c`` on the same file in the same run.

Argument: the log's size in MB (default 200). The log has 2,000 clients, 20,000 names, search-list expansions and errors.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEGABYTES = int(sys.argv[1]) if len(sys.argv) > 1 else 200
SEARCH = ("shop.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", "")


def block(seed: int) -> bytes:
    """About 10 MB of lines."""
    chance = random.Random(seed)
    rows = []
    for _ in range(80_000):
        client = chance.randrange(2000)
        name = f"api{int(20_000 * chance.random() ** 3)}.example.com."
        expanded = SEARCH[chance.randrange(4)]
        rcode = "NXDOMAIN" if expanded else "NOERROR"
        kind = "A" if chance.random() < 0.5 else "AAAA"
        rows.append(
            f"[INFO] 10.{client % 4}.{client // 250}.{client % 250}:{chance.randrange(1024, 65535)} - "
            f'{chance.randrange(65536)} "{kind} IN {name}{expanded} udp {30 + len(name)} false 512" {rcode} '
            f"qr,aa,rd 155 0.000{chance.randrange(100, 999)}s"
        )
        if chance.random() < 0.001:
            rows.append(
                f"[ERROR] plugin/errors: 2 {name} A: read udp 10.0.0.2:4711->10.1.1.{client % 3}:53: i/o timeout"
            )
    return "\n".join(rows).encode() + b"\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "coredns.log")
        blocks = [block(seed) for seed in range(4)]
        with path.open("wb") as file:
            while file.tell() < MEGABYTES << 20:
                file.write(blocks[(file.tell() >> 20) % 4])
        size = path.stat().st_size / 1e6
        started = time.monotonic()  # to a pipe: grep stops at the first match where its output is /dev/null
        subprocess.run(["grep", "-c", "NXDOMAIN", str(path)], check=True, capture_output=True)
        grep = time.monotonic() - started
        started = time.monotonic()
        before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        command = [sys.executable, "-m", "deadhop", "dns", "top", str(path), "-o", "json"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        ours = time.monotonic() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak, cpu = used.ru_maxrss / 1024, used.ru_utime + used.ru_stime - before
        print(f"log of {size:.0f} MB on {len(os.sched_getaffinity(0))} cores")
        print(
            f"  dns top    {ours:6.2f} s  {size / ours:6.0f} MB/s  largest process {peak:.0f} MB, {cpu:.1f} s of processor time"
        )
        print(f"  grep -c    {grep:6.2f} s  {size / grep:6.0f} MB/s  ratio {ours / grep:.1f}")


if __name__ == "__main__":
    main()
