"""The pages of the knowledge base, read from the cause files without importing them.

Importing a cause imports the hops that prove its fixes; a page needs none of that, so ``explain`` and the generated
documents parse the file instead.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SECTIONS = ("What happens", "How to tell it from its neighbours", "Fix", "References")
_SLUG = re.compile(r"""^(?:SLUG = |\s+slug=)["']([a-z0-9-]+)["']""", re.M)


@dataclass(frozen=True)
class Page:
    """One cause as a person reads it. ``sections`` maps a section's title to its text; ``""`` is the first sentence."""

    slug: str
    family: str
    severity: str
    title: str
    inputs: tuple[str, ...]
    rivals: tuple[str, ...]
    sections: dict[str, str]


def slugs() -> dict[str, Path]:
    """Every slug and its file, by a look at the text alone."""
    found: dict[str, Path] = {}
    for path in sorted(Path(__file__).parent.glob("*/*.py")):
        if path.name != "__init__.py" and (match := _SLUG.search(path.read_text(encoding="utf-8"))):
            found[match[1]] = path
    return dict(sorted(found.items()))


def page(slug: str, path: Path) -> Page:
    """The page in a cause file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    fields: dict[str, ast.expr] = {}
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and getattr(node.targets[0], "id", "") == "CAUSE"
        ):
            fields = {k.arg: k.value for k in node.value.keywords if k.arg}
    return Page(
        slug=slug,
        family=path.parent.name,
        severity=_text(fields.get("severity")) or "fault",
        title=_text(fields.get("title")),
        inputs=_names(fields.get("inputs")),
        rivals=_names(fields.get("rivals")),
        sections=split(ast.get_docstring(tree) or ""),
    )


def pages() -> Iterator[Page]:
    for slug, path in slugs().items():
        yield page(slug, path)


def split(doc: str) -> dict[str, str]:
    """The sections of a cause's docstring."""
    parts = re.split(rf"^({'|'.join(map(re.escape, SECTIONS))})\n-+\n", doc, flags=re.M)
    sections = {"": parts[0].strip()}
    sections.update({parts[i]: parts[i + 1].strip() for i in range(1, len(parts) - 1, 2)})
    return sections


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _names(node: ast.expr | None) -> tuple[str, ...]:
    if not isinstance(node, ast.Tuple):
        return ()
    return tuple(e.id if isinstance(e, ast.Name) else _text(e) for e in node.elts)
