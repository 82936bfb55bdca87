"""``deadhop explain``: the page of one cause, drop reason or kernel function."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deadhop.causes.pages import Page
    from deadhop.model.drop_reasons import DropReason
    from deadhop.model.kernel_functions import KernelFunction

EPILOG = """\b
Examples:
  deadhop explain rp-filter-overwritten-by-systemd-sysctl
  deadhop explain SKB_DROP_REASON_PKT_TOO_BIG
  deadhop explain ip_forward
"""


@click.command("explain", epilog=EPILOG)
@click.argument("name", metavar="NAME")
def command(name: str) -> None:
    """Explain a cause, a drop reason of the kernel, or a kernel function that packets pass."""
    from deadhop.causes.pages import page, slugs
    from deadhop.model import drop_reasons, kernel_functions

    known = slugs()
    if name in known:
        _cause(name, page(name, known[name]))
    elif (reason := drop_reasons.find(name)) is not None:
        _reason(reason)
    elif (function := kernel_functions.find(name)) is not None:
        _function(function)
    else:
        raise click.BadParameter(_unknown(name, known), param_hint="NAME")


def _unknown(name: str, slugs: Iterable[str]) -> str:
    from deadhop.model import drop_reasons, kernel_functions

    spelt = {slug: slug for slug in slugs}
    spelt |= {reason.lower(): reason for reason in drop_reasons.REASONS}
    spelt |= {function: function for function in kernel_functions.FUNCTIONS}
    asked = name.lower().removeprefix(drop_reasons.PREFIX.lower())
    near = (
        difflib.get_close_matches(asked, spelt, n=3, cutoff=0.5)
        or [s for s in spelt if asked and asked in s][:3]
    )
    near = near or difflib.get_close_matches(asked, spelt, n=3, cutoff=0.3)
    hint = f"; did you mean {', '.join(spelt[s] for s in near)}?" if near else ""
    return f"no cause, drop reason or kernel function {name!r}{hint} (deadhop causes lists the causes)"


def _cause(slug: str, found: Page) -> None:
    sections = dict(found.sections)
    click.secho(slug, bold=True)
    click.echo(f"{found.family} · {found.severity} · reads {', '.join(sorted(found.inputs))}\n")
    click.echo(sections.pop("") + "\n")
    for title, text in sections.items():
        click.secho(title, bold=True)
        click.echo("\n".join(f"  {line}" if line else "" for line in text.split("\n")) + "\n")


def _reason(reason: DropReason) -> None:
    from deadhop.model.drop_reasons import PREFIX
    from deadhop.model.drop_reasons_link import NOT_DROPS

    prefix = "" if reason.name.startswith("SKB_") or reason in NOT_DROPS else PREFIX
    click.secho(prefix + reason.name, bold=True)
    life = f"since Linux {reason.since}"
    if reason.until:
        life += f", until {reason.until}" + (f" (then {reason.renamed})" if reason.renamed else "")
    click.echo(f"drop reason · {reason.layer} · {life}\n")
    click.echo(f"{_sentence(reason.means)}\n")
    _list("Functions", reason.functions)
    _list("Source", reason.files)
    _list("Counters", reason.counters)
    _list("Causes that end so", reason.causes)
    if prefix:
        click.echo(f"Watch it: sudo deadhop drops reason {reason.name} --why")


def _function(function: KernelFunction) -> None:
    from deadhop.model.drop_reasons import REASONS

    click.secho(function.name, bold=True)
    click.echo(f"kernel function · {function.part} · {function.file}\n")
    click.echo(f"{_sentence(function.means)}\n")
    _list("Can drop with", [f"{name}: {REASONS[name].means}" for name in function.drops])
    _list("Counters", function.counters)
    _list("Related causes", function.causes)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _list(title: str, rows: Iterable[str]) -> None:
    rows = list(rows)
    if rows:
        click.secho(title, bold=True)
        click.echo("\n".join(f"  {row}" for row in rows) + "\n")
