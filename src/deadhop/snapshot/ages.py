"""How long a container has run, as a row of ``kubectl get pods`` tells it: since the last restart, else since the pod's start."""

from __future__ import annotations

import re

from deadhop.model.observed.kube import Pod

_AGO = re.compile(r"\(([\dsmhdy]+) ago\)")
_PART = re.compile(r"(\d+)([smhdy])")
_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400, "y": 365 * 86400}


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
