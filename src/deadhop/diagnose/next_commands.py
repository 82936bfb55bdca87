"""What to run next: the commands that would settle open checks, by how much they would settle."""

from __future__ import annotations

from collections.abc import Sequence

from deadhop.diagnose.score import State, confidence, state
from deadhop.model.cause import Cause, Hypothesis
from deadhop.model.finding import Next, Symptom

MOST = 6

#: Where nothing at all fits: the first command for each kind of symptom.
FIRST_COMMAND: dict[str, tuple[str, str]] = {
    "probe-failure": (
        "kubectl describe pod POD; ip route get POD-IP; sysctl -a | grep '\\.rp_filter'",
        "whether the answer to the probe is lost on the node or never sent",
    ),
    "dns-failure": (
        "dig @DNS-SERVER NAME; dig +tcp @DNS-SERVER NAME; cat /etc/resolv.conf",
        "whether the server answers, by which transport, and which names the client really asks",
    ),
    "http-5xx": (
        "kubectl logs POD -c istio-proxy --tail=50",
        "the response flags, the cluster and the route that the proxy chose",
    ),
    "http-4xx": (
        "kubectl logs POD -c istio-proxy --tail=50",
        "whether the proxy or the application answered",
    ),
    "policy-denied": (
        "hubble observe --verdict DROPPED -o jsonpb; kubectl get cnp,ccnp,netpol -A -o yaml",
        "which rule should have matched the denied flow",
    ),
    "connect-timeout": (
        "tcpdump -ni any host ADDRESS; ip route get ADDRESS",
        "the last device that sees the packet",
    ),
    "connect-refused": (
        "kubectl get svc,endpointslices -o yaml",
        "whether the port that was dialled leads to a listening pod",
    ),
    "connect-reset": ("kubectl logs POD -c istio-proxy --tail=50", "who reset the connection"),
    "kernel-drop": (
        "ip -d addr; ip route show table all; ip rule; sysctl -a",
        "the route or setting behind the drop",
    ),
}


def next_commands(
    said: Sequence[tuple[Cause, Hypothesis]], findings: Sequence[str], symptoms: Sequence[Symptom]
) -> tuple[Next, ...]:
    """The commands worth running, best first, at most ``MOST``."""
    value: dict[str, float] = {}
    decides: dict[str, dict[str, None]] = {}
    for cause, hypothesis in said:
        if state(hypothesis) is State.REFUTED:
            continue
        score = confidence(hypothesis.prior, hypothesis.checks)
        if cause.slug in findings:
            score += 2.0 - findings.index(cause.slug) * 0.2
        for check in hypothesis.checks:
            if check.holds is None and check.decide:
                value[check.decide] = value.get(check.decide, 0.0) + score * check.weight * (
                    2 if check.required else 1
                )
                decides.setdefault(check.decide, {})[f"{cause.slug}: {check.text}"] = None
    ordered = sorted(value, key=lambda c: (-value[c], c))
    out = [Next(command=c, decides="; ".join(list(decides[c])[:3])) for c in ordered[:MOST]]
    if not findings:
        for kind in dict.fromkeys(s.kind for s in symptoms):
            if kind in FIRST_COMMAND and len(out) < MOST:
                command, what = FIRST_COMMAND[kind]
                out.append(Next(command=command, decides=what))
    if not out and not findings:
        command = "kubectl get events -A --sort-by=.lastTimestamp; kubectl describe pod POD"
        out.append(Next(command=command, decides="what fails, where, and since when"))
    return tuple(out)
