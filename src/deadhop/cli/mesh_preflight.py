"""``deadhop mesh preflight``: which callers break when a namespace turns STRICT or the mesh turns REGISTRY_ONLY."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

EPILOG = """\b
Examples:
  deadhop mesh preflight bundle.tar.gz -n shop
  deadhop mesh preflight objects.yaml portal-istio-proxy.log hubble.jsonl -n shop
  deadhop mesh preflight bug-report.tar.gz --mode REGISTRY_ONLY -o json
"""


@click.command("preflight", epilog=EPILOG)
@click.argument("evidence", nargs=-1, required=True, metavar="EVIDENCE...")
@click.option(
    "--mode",
    type=click.Choice(["STRICT", "REGISTRY_ONLY"], case_sensitive=False),
    default="STRICT",
    show_default=True,
    help="What is about to be turned on.",
)
@click.option("-n", "--namespace", help="In this namespace; without it in the whole mesh.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to answer.")
@click.pass_context
def preflight(
    ctx: click.Context, evidence: tuple[str, ...], mode: str, namespace: str | None, output: str
) -> int:
    """Which callers work today and break then, why, and the fix for each.

    EVIDENCE holds Kubernetes and Istio objects and, where there is some, traffic: access logs of the callers' sidecars,
    hubble flows. With traffic the calls are those that were seen; without it every workload is a possible caller.
    Exit status: 0 nothing breaks, 1 something does, 3 the evidence holds no workloads.
    """
    import msgspec

    from deadhop.evidence.documents import NoEvidence

    try:
        report = _report(evidence, mode.upper(), namespace)
    except NoEvidence as error:
        raise click.UsageError(str(error), ctx) from None
    except LookupError as error:
        click.echo(f"deadhop mesh preflight: {error.args[0]}", err=True)
        return 3
    if output == "json":
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    else:
        for line in _text(report):
            click.echo(line)
    return 1 if report["breaks"] or report["probes"] else 0


def _report(evidence: tuple[str, ...], mode: Any, namespace: str | None) -> dict[str, Any]:
    from deadhop.evidence.read import read
    from deadhop.hops.mesh import preflight as flight
    from deadhop.hops.mesh.mesh import Mesh
    from deadhop.model.observed.kube import KubeObject
    from deadhop.snapshot.calls import seen_calls

    records = read(list(evidence)).records
    mesh = Mesh.from_objects([r.raw for r in records if isinstance(r, KubeObject) and r.raw.get("kind")])
    if not mesh.pods or not mesh.services:
        raise LookupError("the evidence holds no Pods or no Services (kubectl get pods,services,endpointslices -A -o yaml, and Istio's objects)")  # fmt: skip
    spaces = {p.namespace for p in mesh.pods.values()} | {s.namespace for s in mesh.services}
    if namespace and namespace not in spaces:
        raise LookupError(f"no namespace {namespace!r} in the evidence (there are {', '.join(sorted(spaces))})")  # fmt: skip
    after, applied = flight.changed(mesh, mode, namespace)
    seen = seen_calls(records)
    calls = list(
        flight.seen_in(mesh, seen, mode, namespace) if seen else flight.possible_calls(mesh, mode, namespace)
    )
    verdicts = list(_watched(flight.compare(mesh, after, calls), len(calls)))
    probes = []
    if mode == "STRICT":
        probes = [
            {"pod": p.pod, "probe": p.probe, "port": p.port, "because": p.fate.why, "fix": "let injection rewrite it: remove sidecar.istio.io/rewriteAppHTTPProbers: \"false\" and restart the pod"}
            for p in flight.probes(mesh, after)
            if namespace is None or p.pod.startswith(namespace + "/")
        ]  # fmt: skip
    fates = [v.fate for v in verdicts]
    return {
        "schema": 1,
        "mode": mode,
        "namespace": namespace,
        "applied": applied,
        "from_traffic": bool(seen),
        "calls": {fate: fates.count(fate) for fate in ("keeps", "breaks", "broken", "unknown")},
        "breaks": _breaks(after, verdicts, mode),
        "probes": probes,
        "unknown": sorted({f"{v.call.target}: {u}" for v in verdicts if v.fate == "unknown" for u in (*v.today.unknown, *v.then.unknown)}),
        "assumed": sorted({u for v in verdicts if v.fate != "unknown" for u in v.then.unknown}),
    }  # fmt: skip


def _watched(verdicts: Iterator[Any], total: int) -> Iterator[Any]:
    """Progress on a terminal."""
    for number, verdict in enumerate(verdicts, 1):
        if number % 500 == 0 and sys.stderr.isatty():
            sys.stderr.write(f"\r{number} of {total} calls walked" + ("\n" if number == total else ""))
        yield verdict


def _breaks(after: Any, verdicts: list[Any], mode: str) -> list[dict[str, Any]]:
    """The breaks, those of one reason at one target together."""
    from deadhop.hops.mesh.preflight_reasons import exception, proved, reason

    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for verdict in (v for v in verdicts if v.fate == "breaks"):
        call, why = verdict.call, reason(after, verdict)
        key = (call.target, call.how, why.key, why.text)
        if key in rows:
            rows[key]["callers"] += call.callers
            if why.fix not in rows[key]["fixes"]:
                rows[key]["fixes"].append(why.fix)
            rows[key]["seen"] += [call.seen] if call.seen else []
            continue
        fixed = proved(after, call, why.objects) if why.objects else None
        bypass = exception(after, call) if mode == "STRICT" else None
        rows[key] = {
            "target": call.target, "how": call.how, "host": call.request.host, "callers": list(call.callers), "seen": [call.seen] if call.seen else [],
            "today": _said(verdict.today), "then": _said(verdict.then), "reason": why.key, "because": why.text, "fixes": [why.fix],
            "objects": [o for o in why.objects if o.get("kind") != "Pod"], "proof": _said(fixed) if fixed else None, "until_then": bypass,
        }  # fmt: skip
    return sorted(rows.values(), key=lambda r: (r["target"], r["reason"]))


def _said(outcome: Any) -> dict[str, Any]:
    log = outcome.client_log
    return {
        "status": outcome.status,
        "ending": outcome.ending,
        "flags": sorted(log.flags) if log else [],
        "cluster": log.cluster if log else None,
        "mtls": outcome.mtls,
    }


def _text(report: dict[str, Any]) -> Iterator[str]:
    import yaml

    where = f"namespace {report['namespace']}" if report["namespace"] else "the whole mesh"
    calls = report["calls"]
    basis = "calls seen in the traffic" if report["from_traffic"] else "possible calls (no traffic was given)"
    bad = calls["breaks"] or report["probes"]
    yield f"{report['mode']} in {where}: {'SOMETHING BREAKS' if bad else 'nothing breaks'}"
    yield f"{sum(calls.values())} kinds of {basis}: {calls['keeps']} keep working, {calls['breaks']} break, {calls['broken']} fail today already, {calls['unknown']} unknown"
    for row in report["breaks"]:
        yield ""
        yield f"BREAKS  {row['target']} {row['how']}, Host {row['host']}"
        yield f"  from     {_some(row['callers'])}" + (f"  (seen: {row['seen'][0]})" if row["seen"] else "")
        yield f"  today    {_outcome(row['today'])}"
        yield f"  then     {_outcome(row['then'])}"
        yield f"  because  {row['because']}"
        for fix in row["fixes"][:5]:
            yield f"  fix      {fix}"
        if len(row["fixes"]) > 5:
            yield f"           and {len(row['fixes']) - 5} more like it (-o json lists them)"
        for item in row["objects"]:
            yield _indented(yaml.safe_dump(item, sort_keys=False))
        if row["proof"]:
            yield f"  proof    with that: {_outcome(row['proof'])}"
        if row["until_then"]:
            yield "  until then, if it must not break (walked: it works):"
            yield _indented(yaml.safe_dump(row["until_then"], sort_keys=False))
    for probe in report["probes"]:
        yield ""
        yield f"BREAKS  {probe['probe']} of {probe['pod']}, port {probe['port']}"
        yield f"  because  {probe['because']}"
        yield f"  fix      {probe['fix']}"
    for title, lines in (("not known", report["unknown"]), ("assumed", report["assumed"])):
        if lines:
            yield ""
            yield f"{title}:"
            yield from (f"  {line}" for line in lines[:8])
            if len(lines) > 8:
                yield f"  and {len(lines) - 8} more (-o json lists them)"


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _outcome(said: dict[str, Any]) -> str:
    how = {True: "over mutual TLS", False: "as plain text", None: "not delivered"}[said["mtls"]]
    what = str(said["status"]) if said["status"] else said["ending"]
    flags = " " + ",".join(said["flags"]) if said["flags"] else ""
    return f"{what}{flags}, {how}" + (f", cluster {said['cluster']}" if said["cluster"] else "")


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.rstrip().splitlines())
