"""``deadhop diagnose``: the main job."""

from __future__ import annotations

import click

#: Verdict to exit status (DESIGN: 0 healthy, 1 findings, 3 insufficient).
STATUS = {"healthy": 0, "cause-found": 1, "likely": 1, "insufficient": 3}

EPILOG = """\b
Examples:
  deadhop diagnose incident/                 a folder of whatever was collected
  deadhop diagnose bundle.tar.gz notes.md    archives and pasted sessions
  kubectl get events | deadhop diagnose -
  deadhop diagnose -o json incident/ | jq '.findings[0]'
\b
Exit status: 0 healthy, 1 findings, 2 usage, 3 insufficient, 4 internal error.
"""


@click.command("diagnose", epilog=EPILOG)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "html", "sarif", "junit"]),
    default="text",
    help="How to report.",
)
@click.option("--explain-score", is_flag=True, help="Show every check and its weight.")
@click.option("--all-problems", is_flag=True, help="List every place that could not be read.")
@click.pass_context
def command(
    ctx: click.Context, paths: tuple[str, ...], output: str, explain_score: bool, all_problems: bool
) -> int:
    """Find the hop where a connection dies.

    PATH is a file, a folder, an archive, or - for standard input: logs, manifests, captures, terminal sessions, in
    any mix and under any name.
    """
    from deadhop import causes
    from deadhop.cli.progress import progress
    from deadhop.diagnose import diagnose
    from deadhop.evidence import NoEvidence, read
    from deadhop.report import render

    try:
        with progress("reading") as tick:
            evidence = read(list(paths), tick)
    except NoEvidence as error:
        raise click.UsageError(str(error), ctx) from None
    diagnosis = diagnose(evidence, causes.load())
    click.echo(
        render(diagnosis, output, explain_score=explain_score, all_problems=all_problems),
        nl=output in ("text", "json"),
    )
    return STATUS[diagnosis.verdict]
