"""``deadhop eval``: how good is the diagnosis on labelled incidents."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command(
    "eval", epilog="\b\nExamples:\n  deadhop eval incidents/\n  deadhop eval incidents/ --form ticket -o json"
)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR")
@click.option(
    "--form",
    type=click.Choice(["named", "numbered", "ticket", "all"]),
    default="all",
    help="How the evidence is shown to the diagnosis.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
@click.option("--only", default="", help="Only incidents whose id begins with this.")
def command(folder: Path, form: str, output: str, only: str) -> int:
    """Diagnose every labelled incident below DIR and print top-1, top-3, wrong, abstained, and the misses.

    An incident is a folder with evidence files and an answer.json ({"cause", "also_ok", "severity"}). The diagnosis
    never sees the answer. The evidence is shown in three forms: files as named, files named 01.txt…, and pasted
    into one ticket.
    """
    from deadhop.cli.progress import progress
    from deadhop.diagnose.evaluation import FORMS, evaluate, incidents

    found = [i for i in incidents(folder) if i.id.startswith(only)]
    if not found:
        raise click.BadParameter(f"no folder with an answer.json below {folder}", param_hint="DIR")
    forms = FORMS if form == "all" else (form,)
    with progress("diagnosing") as tick:
        scores = [evaluate(found, name, tick) for name in forms]
    if output == "json":
        click.echo(json.dumps({"schema": 1, "forms": [s.as_dict() for s in scores]}, indent=1))
        return 0
    for score in scores:
        click.echo(score.as_text())
    return 0
