"""Writes what is generated from the code: the report's JSON Schema and the knowledge base's pages.

``--check`` writes nothing and fails where a committed file differs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deadhop.causes.pages import Page, pages
from deadhop.report.json import schema

ROOT = Path(__file__).resolve().parents[1]


def documents() -> dict[Path, str]:
    """Every generated file with its content."""
    made = {ROOT / "src/deadhop/report/schema/diagnosis.schema.json": schema()}
    every = list(pages())
    made[ROOT / "docs/causes/README.md"] = index(every)
    for page in every:
        made[ROOT / f"docs/causes/{page.slug}.md"] = text(page)
    return made


def index(every: list[Page]) -> str:
    lines = ["# The knowledge base", "", f"{len(every)} causes. `deadhop explain SLUG` prints each page.", ""]
    for family in dict.fromkeys(sorted(p.family for p in every)):
        lines += [f"## {family}", "", "| cause | what it is |", "|---|---|"]
        lines += [f"| [{p.slug}]({p.slug}.md) | {p.title} |" for p in every if p.family == family]
        lines.append("")
    return "\n".join(lines)


def text(page: Page) -> str:
    lines = [f"# {page.slug}", "", f"*{page.family}, {page.severity}.* {page.sections['']}", ""]
    for title, body in page.sections.items():
        if title:
            lines += [f"## {title}", "", body, ""]
    lines += ["## Reads", "", ", ".join(f"`{name}`" for name in page.inputs), ""]
    if page.rivals:
        lines += ["## Neighbours", "", ", ".join(f"`{slug}`" for slug in page.rivals), ""]
    return "\n".join(lines)


def main() -> int:
    check = "--check" in sys.argv[1:]
    made = documents()
    stale = [
        path
        for path, content in made.items()
        if not path.exists() or path.read_text(encoding="utf-8") != content
    ]
    orphans = [p for p in (ROOT / "docs/causes").glob("*.md") if p not in made]
    if check:
        for path in (*stale, *orphans):
            print(
                f"{path.relative_to(ROOT)} is not what the code says: run  python scripts/generate.py",
                file=sys.stderr,
            )
        return 1 if stale or orphans else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made[path], encoding="utf-8")
    for path in orphans:
        path.unlink()
    print(f"{len(stale)} files written, {len(orphans)} removed, {len(made)} in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
