"""Start-up time: ``deadhop --help`` and ``deadhop explain`` against ``python -c pass``, medians of whole processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 9
BASE = [sys.executable, "-c", "pass"]
COMMANDS = {
    "--help": [sys.executable, "-m", "deadhop", "--help"],
    "explain": [sys.executable, "-m", "deadhop", "explain", "rp-filter-overwritten-by-systemd-sysctl"],
    "version": [sys.executable, "-m", "deadhop", "version"],
}


def once(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    rows = {name: [] for name in ("python -c pass", *COMMANDS)}
    for _ in range(RUNS):
        rows["python -c pass"].append(once(BASE))
        for name, command in COMMANDS.items():
            rows[name].append(once(command))
    base = statistics.median(rows["python -c pass"])
    for name, times in rows.items():
        median = statistics.median(times)
        print(f"{name:<16} {median * 1000:7.1f} ms   {median / base:4.1f} x python -c pass")


if __name__ == "__main__":
    main()
