"""Which flows somebody wants to see."""

from __future__ import annotations

from collections.abc import Sequence

from deadhop.fqdn.flows import Flow, FlowEndpoint, verdict_text
from deadhop.fqdn.names import fqdn
from deadhop.fqdn.options import LATEST
from deadhop.fqdn.patterns import compile_pattern, sanitize

VERDICTS = (
    "FORWARDED",
    "DROPPED",
    "ERROR",
    "AUDIT",
    "REDIRECTED",
    "TRACED",
    "TRANSLATED",
    "ALLOWED",
    "DENIED",
)


class FlowFilter:
    """Pods, verdicts and names; each kind that is given must hold, any of its values is enough.

    Raises ``ValueError`` for an unknown verdict, ``PatternError`` for a name that is no pattern.
    """

    def __init__(
        self, pods: Sequence[str] = (), verdicts: Sequence[str] = (), names: Sequence[str] = ()
    ) -> None:
        self._pods = frozenset(pods)
        self._verdicts = frozenset(v.upper() for v in verdicts)
        if unknown := self._verdicts - set(VERDICTS):
            raise ValueError(f"no verdict {', '.join(sorted(unknown))}; there are {', '.join(VERDICTS)}")
        self._patterns = [compile_pattern(sanitize(name, LATEST), LATEST) for name in names]
        self.everything = not (self._pods or self._verdicts or self._patterns)

    def accepts(self, flow: Flow) -> bool:
        if self._pods and not any(map(self._is_wanted, (flow.source, flow.destination))):
            return False
        if self._verdicts and not {flow.verdict, verdict_text(flow)} & self._verdicts:
            return False
        return not self._patterns or any(p.matches(name) for name in names_of(flow) for p in self._patterns)

    def _is_wanted(self, end: FlowEndpoint | None) -> bool:
        return end is not None and bool({end.pod_name, f"{end.namespace}/{end.pod_name}"} & self._pods)


def names_of(flow: Flow) -> list[str]:
    """Every name that a flow is about: asked for, a CNAME, or known for one of its addresses."""
    dns = flow.l7.dns if flow.l7 else None
    asked = (dns.query, *dns.cnames) if dns else ()
    return [fqdn(name) for name in (*asked, *flow.source_names, *flow.destination_names) if name]
