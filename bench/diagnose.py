"""Whole-process diagnose time per case that ships with the package, against ``python -c pass``; medians."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 5
DEMO = Path(__file__).resolve().parents[1] / "src/deadhop/demo"


def once(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    return time.perf_counter() - started


def main() -> None:
    base = statistics.median(once([sys.executable, "-c", "pass"]) for _ in range(RUNS))
    cases = [*sorted(p for p in DEMO.iterdir() if p.is_dir()), *map(Path, sys.argv[1:])]
    print(f"{'python -c pass':<44} {base * 1000:7.0f} ms")
    for case in cases:
        median = statistics.median(
            once([sys.executable, "-m", "deadhop", "diagnose", str(case)]) for _ in range(RUNS)
        )
        print(f"{case.name[:44]:<44} {median * 1000:7.0f} ms  {median / base:5.1f} x python -c pass")


if __name__ == "__main__":
    main()
