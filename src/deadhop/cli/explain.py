"""``deadhop explain``: the page of one cause."""

from __future__ import annotations

import difflib

import click


@click.command(
    "explain",
    epilog="\b\nExamples:\n  deadhop explain rp-filter-overwritten-by-systemd-sysctl\n  deadhop explain tofqdns-entry-expired",
)
@click.argument("slug")
def command(slug: str) -> None:
    """Explain a cause: what happens, how to tell it from its neighbours, the fix, references."""
    from deadhop.causes.pages import page, slugs

    known = slugs()
    if slug not in known:
        near = difflib.get_close_matches(slug, known, n=3, cutoff=0.3) or [s for s in known if slug in s][:3]
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise click.BadParameter(f"no cause {slug!r}{hint} (deadhop causes lists them)", param_hint="SLUG")
    found = page(slug, known[slug])
    sections = dict(found.sections)
    click.secho(slug, bold=True)
    click.echo(f"{found.family} · {found.severity} · reads {', '.join(sorted(found.inputs))}\n")
    click.echo(sections.pop("") + "\n")
    for title, text in sections.items():
        click.secho(title, bold=True)
        click.echo("\n".join(f"  {line}" if line else "" for line in text.split("\n")) + "\n")
