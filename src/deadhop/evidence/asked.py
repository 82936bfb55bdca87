"""What a command asked for: the words of its command line, and the shape that its filters gave to the output."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from deadhop.evidence import jmespath, jq, printed, templates
from deadhop.evidence.kinds import kind_of
from deadhop.evidence.projection import Ref, Shape
from deadhop.model.observed.shell import CommandRun

#: Options of kubectl that take the next word (kubectl options, kubectl get --help).
_VALUED = frozenset(
    """-n --namespace -o --output -l --selector -L --label-columns --context --kubeconfig --field-selector --sort-by -c
    --container -f --filename --cluster --user --request-timeout -s --server --chunk-size -k --as --token --tail --since""".split()
)
#: Filters that leave whole lines as they are.
_LINEWISE = frozenset("head tail grep egrep fgrep sort uniq column less more cat tee tac sponge nl".split())


def option(argv: tuple[str, ...], *names: str) -> str:
    """The value of an option: ``-o x``, ``-ox``, ``--output=x``."""
    for i, word in enumerate(argv):
        for name in names:
            if word == name and i + 1 < len(argv):
                return argv[i + 1]
            if word.startswith(name + "="):
                return word[len(name) + 1 :]
            if len(name) == 2 and word.startswith(name) and len(word) > 2 and not word.startswith("--"):
                return word[2:].removeprefix("=")
    return ""


def operands(argv: tuple[str, ...], verb: str) -> list[str]:
    """The words behind a verb that are no options and no option's value."""
    if verb not in argv:
        return []
    found: list[str] = []
    rest = iter(argv[argv.index(verb) + 1 :])
    for word in rest:
        if word in _VALUED:
            next(rest, None)
        elif not word.startswith("-"):
            found.append(word)
    return found


@dataclass(frozen=True)
class Asked:
    """The shapes of what is printed. ``headed`` where a line of column names comes first; ``table`` names the printer
    columns of rows that awk cut; ``yaml`` where values are printed as YAML (yq); ``tallied`` where ``uniq -c`` put a number before each row."""

    shapes: tuple[Shape, ...] = ()
    headed: tuple[str, ...] = ()
    table: tuple[str, ...] = ()
    yaml: bool = False
    tallied: bool = False


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=False)
    except ValueError:
        return []


def _program(words: list[str]) -> str:
    """The program among jq's words."""
    rest = iter(words[1:])
    for word in rest:
        if word in ("--arg", "--argjson", "--slurpfile"):
            next(rest, None)
            next(rest, None)
        elif word in ("--indent", "-L"):
            next(rest, None)
        elif not word.startswith("-"):
            return word
    return "."


def of(command: CommandRun) -> Asked | None:
    """The shape of a command's output; None where it is the whole output or its filters are beyond us."""
    output = _as_jsonpath(option(command.argv, "-o", "--output", "--template"), command.argv)
    yaml = tallied = False
    shapes: tuple[Shape, ...] = ()
    headed: tuple[str, ...] = ()
    if output.startswith("jsonpath="):
        made = templates.template(output.removeprefix("jsonpath=").strip("'\""))
        if made is None:
            return None
        shapes = (made,)
    elif output.startswith("custom-columns="):
        told = templates.columns(output.removeprefix("custom-columns=").strip("'\""))
        if told is None:
            return None
        headed, shapes = tuple(h for h, _s in told), tuple(s for _h, s in told)
    if query := _query(command):
        try:
            shapes = tuple(jq.shapes(query))
        except (jq.NotRead, RecursionError):
            return None
    for text in command.filters:
        words = _words(text)
        program = words[0].rsplit("/", 1)[-1] if words else ""
        if program in ("jq", "yq", "gojq", "jaq") and not headed and len(shapes) < 2:
            yaml = program == "yq" and "json" not in option(tuple(words), "-o", "--output-format")
            words = [w for k, w in enumerate(words) if not (k == 1 and w in ("e", "eval"))]
            try:
                shapes = tuple(jq.shapes(_program(words), shapes[0] if shapes else Ref(())))
            except (jq.NotRead, RecursionError):
                return None
        elif program in ("awk", "gawk", "mawk") and not shapes:
            table = _awk(command, text)
            return Asked(table=table) if table else None
        elif program == "uniq" and "-c" in words:
            tallied = True
        elif program not in _LINEWISE or ("-c" in words and program in ("grep", "egrep")):
            return None
    if not shapes or (shapes == (Ref(()),)):
        return None
    return Asked(shapes, headed, yaml=yaml, tallied=tallied)


def _query(command: CommandRun) -> str:
    """The ``--query`` of aws and az as a jq program for the rows that ``--output`` prints."""
    query = option(command.argv, "--query") if command.program in ("aws", "az") else ""
    if not query:
        return ""
    output = option(command.argv, "--output", "-o") or "json"
    try:
        made = jmespath.program(query)
    except jmespath.NotRead:
        return ""
    if output in ("text", "tsv"):
        return f"{made} | @tsv" if made.rstrip().endswith("]") and "| [" in made else made
    return f"[{made}]" if "[]" in made and output == "json" else ""


_GO = (
    (r"range\s+(\$?\.[\w.]+)", r"range \1[*]"),
    (r"end", "end"),
    (r"(\$?\.[\w.]+)", r"\1"),
    (r"(\"[^\"]*\")", r"\1"),
)


def _as_jsonpath(output: str, argv: tuple[str, ...]) -> str:
    """A go-template of plain fields and one range in the words of jsonpath; other outputs as they are."""
    text = output.removeprefix("go-template=")
    if text == output and not (option(argv, "--template") and "{{" in output):
        return output
    for pattern, put in _GO:
        text = re.sub(r"\{\{-?\s*" + pattern + r"\s*-?\}\}", "{" + put + "}", text)
    return "jsonpath=" + text


_PRINT = re.compile(r"\{\s*print\s+([^}]*)\}")


def _awk(command: CommandRun, text: str) -> tuple[str, ...]:
    """The printer columns that ``awk '{print $1,$3}'`` left of a table; empty where it does anything else."""
    printed_ = _PRINT.findall(text)
    words = operands(command.argv, "get")
    kind = kind_of(words[0]) if len(words) == 1 and "kubectl" in command.argv[:1] else ""
    output = option(command.argv, "-o", "--output")
    if len(printed_) != 1 or not kind or output not in ("", "wide"):
        return ()
    labels = [k for k in option(command.argv, "-L", "--label-columns").split(",") if k]
    shown = printed.columns(
        kind,
        namespaced=bool({"-A", "--all-namespaces"} & set(command.argv)),
        wide=output == "wide",
        labels=labels,
        all_labels="--show-labels" in command.argv,
    )
    found = []
    for term in re.sub(r"\"[^\"]*\"", " ", printed_[0]).replace(",", " ").split():
        match = re.fullmatch(r"\$(\d+|NF)", term)
        if match is None:
            return ()
        index = len(shown) if match[1] == "NF" else int(match[1])
        if not 1 <= index <= len(shown):
            return ()
        found.append(shown[index - 1])
    return tuple(found) if "NAME" in found else ()
