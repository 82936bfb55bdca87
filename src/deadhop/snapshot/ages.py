"""How long a container has run, as a row of ``kubectl get pods`` tells it: since the last restart, else since the pod's start."""

from __future__ import annotations

import re

from deadhop.evidence.fields import rfc3339
from deadhop.model.observed.kube import Pod, mapping, mappings

_AGO = re.compile(r"\(([\dsmhdy]+) ago\)")
_PART = re.compile(r"(\d+)([smhdy])")
_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400, "y": 365 * 86400}


def started(pod: Pod) -> float | None:
    """When its containers began to run, else the pod itself; None where the object does not show it."""
    states = mappings(pod.raw, "status", "containerStatuses")
    times = [rfc3339(str(mapping(s, "state", "running").get("startedAt", ""))) for s in states]
    shown = [t for t in times if t is not None]
    return max(shown) if shown else rfc3339(str(mapping(pod.raw, "status").get("startTime", "")))


def younger(a: Pod, b: Pod) -> bool:
    """Whether the containers of ``a`` run for a shorter time than those of ``b``, as far as both are shown."""
    times = started(a), started(b)
    if times[0] is not None and times[1] is not None:
        return times[0] > times[1]
    ages = running_for(a), running_for(b)
    return ages[0] is not None and ages[1] is not None and ages[0] < ages[1] * 0.9


def running_for(pod: Pod) -> int | None:
    """Seconds, as coarse as the table shows them; None where it does not."""
    cells = pod.raw.get("cells")
    if not isinstance(cells, dict):
        return None
    restarts = str(cells.get("RESTARTS", ""))
    ago = _AGO.search(restarts)
    if not ago and not restarts.startswith("0"):
        return None  # restarted, and the table does not say when
    parts = _PART.findall(ago[1] if ago else str(cells.get("AGE", "")))
    return sum(int(n) * _UNIT[u] for n, u in parts) if parts else None
