"""``deadhop demo``: five cases whose evidence ships with the package, and a table of what was found and proven."""

from __future__ import annotations

from typing import Any

import click

#: Folder below ``deadhop/demo`` to what the case is, in the order they are shown.
CASES: dict[str, str] = {
    "mtu-drops-dns-answer": "A Kerberos realm is not found from pods: its SRV answer is large",
    "rp-filter-drops-probe": "A DNS pod never becomes ready: the answers to its probes vanish on the node",
    "cname-first-gateway": "A gateway is denied a name that curl in the same pod may use",
    "host-header-in-the-mesh": "A reverse proxy gets 503 from a Service that answers by hand",
    "healthy-fqdn-policy": "A working FQDN policy: which pod on which node reaches what",
}

EPILOG = """\b
Examples:
  deadhop demo
  deadhop demo --case rp-filter-drops-probe
  deadhop demo -o json | jq '.cases[].verdict'
"""


@click.command("demo", epilog=EPILOG)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to report.")
@click.option("--case", "only", type=click.Choice(list(CASES)), default=None, help="Only this case.")
@click.option("--brief", is_flag=True, help="Only the table.")
def command(output: str, only: str | None, brief: bool) -> int:
    """Diagnose five cases and prove their fixes.

    The evidence was captured from real kernels in network namespaces, a real CoreDNS and real Envoys.
    """
    from importlib.resources import as_file, files

    import msgspec

    from deadhop import causes
    from deadhop.diagnose import diagnose
    from deadhop.evidence import read
    from deadhop.report import render
    from deadhop.report.redact import redact

    found: list[tuple[str, Any]] = []
    for name in [only] if only else CASES:
        with as_file(files("deadhop") / "demo" / name) as folder:
            diagnosis = diagnose(read([str(folder)]), causes.load())
        found.append((name, diagnosis))
        if output == "text" and not brief:
            click.secho(f"\n━━ {CASES[name]}\n", bold=True)
            click.echo(render(diagnosis, "text").replace(f"{folder}/", ""))
    if output == "json":
        cases = [msgspec.to_builtins(redact(d)) for _name, d in found]
        click.echo(msgspec.json.format(msgspec.json.encode({"schema": 1, "cases": cases}), indent=1).decode())
        return 0
    click.echo()
    for name, diagnosis in found:
        _row(name, diagnosis)
    return 0


def _row(name: str, diagnosis: Any) -> None:
    first = diagnosis.findings[0] if diagnosis.findings else None
    mark = {"cause-found": "✗", "likely": "✗", "healthy": "✓"}.get(diagnosis.verdict, "?")
    click.secho(f"{mark} {name}", bold=True)
    if first is None:
        click.echo(f"    {diagnosis.verdict}")
        return
    click.echo(f"    {diagnosis.verdict}, {first.confidence:.0%}: {first.cause}")
    for fix in first.fixes:
        if fix.proof:
            before, after = fix.proof.before, fix.proof.after
            click.echo(
                f"    {fix.status}: {fix.title}\n        {before.disposition} {before.reason} → {after.disposition}".rstrip()
            )
    if diagnosis.verdict == "healthy" and diagnosis.reachability:
        reached = sum(
            1 for r in diagnosis.reachability if r.epoch == "observed" and r.disposition == "delivered"
        )
        total = sum(1 for r in diagnosis.reachability if r.epoch == "observed")
        click.echo(f"    {reached} of {total} pods reach the name today, each with its reason")
