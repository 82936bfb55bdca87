"""``deadhop causes``: the knowledge base as a list."""

from __future__ import annotations

import json

import click


@click.command(
    "causes",
    epilog="\b\nExamples:\n  deadhop causes\n  deadhop causes --family dns\n  deadhop causes -o json",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
@click.option("--family", default="", help="Only this family (mtu, dns, policy, kernel, …).")
def command(output: str, family: str) -> None:
    """List every cause that deadhop knows, by family."""
    from deadhop.causes.pages import pages

    every = list(pages())
    known = [c for c in every if not family or c.family == family]
    if family and not known:
        names = ", ".join(sorted({c.family for c in every}))
        raise click.BadParameter(f"no family {family!r}; there are {names}", param_hint="--family")
    if output == "json":
        rows = [
            {
                "slug": c.slug,
                "family": c.family,
                "severity": c.severity,
                "title": c.title,
                "inputs": sorted(c.inputs),
            }
            for c in known
        ]
        click.echo(json.dumps({"schema": 1, "causes": rows}, indent=1))
        return
    for name in dict.fromkeys(sorted(c.family for c in known)):
        click.secho(name, bold=True)
        for cause in known:
            if cause.family == name:
                click.echo(f"  {cause.slug}\n      {cause.title}")
