"""Rules of iptables as a session shows them: ``iptables-save``, ``iptables -S``, ``iptables -nvL``, or a few lines of one.

A listing (``Chain NAME …``) is turned into the words of ``iptables-save``. The table is the ``*table`` line's, else
that of ``-t``, else the one that the targets and chains belong to, else ``filter``.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

from deadhop.evidence import prompt
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.netfilter import IptablesRule, IptablesTable
from deadhop.model.record import Record

_RULE = re.compile(
    r"^\s*(?:[\w.@-]+:\s+)?(?:\[(?P<packets>\d+):\d+\] )?(?:ip6?tables\S* (?:-w \d* ?)?(?:-t (?P<table>\w+) )?)?"
    r"(?P<op>-A|-P|-N|-I) (?P<chain>[\w:.-]+)(?: (?P<rest>.*))?$"
)
_TABLE = re.compile(r"^\s*\*(?P<name>nat|filter|mangle|raw|security)\s*$")
_CHAIN = re.compile(r"^\s*:(?P<name>[\w.-]+) (?P<policy>ACCEPT|DROP|-)(?: \[\d+:\d+\])?\s*$")
_LISTED = re.compile(
    r"^\s*Chain (?P<name>[\w.:-]+) \((?:policy (?P<policy>\w+)(?: (?P<packets>\S+) packets.*)?|-?\d+ references?)\)"
)
_HEADER = re.compile(
    r"^\s*(?:num\s+)?(?:pkts\s+bytes\s+)?target\s+prot\s+opt\s+(?:in\s+out\s+)?source\s+destination"
)
_ROW = re.compile(
    r"^\s*(?:(?P<num>\d+)\s+)?(?:(?P<pkts>\d+[KMGT]?)\s+(?P<bytes>\d+[KMGT]?)\s+)?(?:(?P<target>[A-Z][\w:.-]*|[a-z][\w-]*)\s+)?"
    r"(?P<prot>!?(?:all|tcp|udp|udplite|icmp|icmpv6|sctp|\d{1,3}|esp|ah))\s+(?P<opt>--|-f|!f)?\s+"
    r"(?:(?P<in>\*|!?[\w.@+-]+)\s+(?P<out>\*|!?[\w.@+-]+)\s+)?(?P<src>!?(?:[\da-fA-F.:]+(?:/\d+)?|anywhere|localhost))\s+"
    r"(?P<dst>!?(?:[\da-fA-F.:]+(?:/\d+)?|anywhere|localhost))(?:\s+(?P<extra>.*))?$"
)
_UNIT = {"K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_EVERY = ("0.0.0.0/0", "::/0", "anywhere", "*", "all")
_OF_TARGET = {
    "MASQUERADE": "nat", "DNAT": "nat", "SNAT": "nat", "REDIRECT": "nat", "NETMAP": "nat", "KUBE-MARK-MASQ": "nat",
    "NOTRACK": "raw", "CT": "raw", "TCPMSS": "mangle", "TPROXY": "mangle", "CONNMARK": "mangle", "REJECT": "filter", "DROP": "filter",
}  # fmt: skip
_START = re.compile(
    r"^\s*(?:\[\d+:\d+\] )?(?:ip6?tables\S* .*)?-[APIN] [A-Z][\w:.-]+|^\s*\*(?:nat|filter|mangle|raw|security)\s*$|^:[\w.-]+ (?:ACCEPT|DROP|-) \[\d+:\d+\]\s*$|^\s*Chain \S+ \(|^\s*(?:num\s+)?(?:pkts\s+bytes\s+)?target\s+prot\s+opt\s|"
    r"^\s*(?:\d+\s+)?(?:\d+[KMGT]?\s+\d+[KMGT]?\s+)?[A-Z][\w:.-]+\s+!?(?:all|tcp|udp|icmp|\d{1,3})\s+(?:--|-f|!f)\s"
)


@dataclass
class _Table:
    name: str
    first: int
    policies: dict[str, str] = field(default_factory=dict)
    chains: list[str] = field(default_factory=list)
    rules: list[IptablesRule] = field(default_factory=list)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    text, start = lines.text, i
    named, chain = _asked(lines, i, context)
    table = _Table(named, i)
    found: list[_Table] = [table]
    while i < len(text):
        line = text[i]
        if match := _TABLE.match(line):
            table = _Table(match["name"], i)
            found.append(table)
        elif match := _CHAIN.match(line):
            _declare(table, match["name"], match["policy"])
        elif match := _LISTED.match(line):
            chain = match["name"]
            _declare(table, chain, match["policy"] or "")
        elif match := _RULE.match(line):
            if match["op"] == "-P" and (match["rest"] or "").strip() not in ("ACCEPT", "DROP"):
                break
            if not _rule(table, match, lines, i):
                break
        elif _HEADER.match(line) or re.match(r"^\s*(?:COMMIT|#(?! ?Warning: ).*|\.{3}|…)\s*$", line):
            if (i == start and not _HEADER.match(line)) or prompt.machine(line.strip("# ")):
                break
        elif match := _ROW.match(line):
            _listed(table, chain, match, lines, i)
        elif not line.strip() and i + 1 < len(text) and _LISTED.match(text[i + 1]):
            pass
        else:
            break
        i += 1
    made = [_record(t, lines, i - 1, context) for t in found if t.rules or t.policies or len(t.chains) > 0]
    return (i, list(made)) if made else (start, [])


def _asked(lines: Lines, i: int, context: Context) -> tuple[str, str]:
    """Table and chain that the command line just above asks for."""
    command = context.command
    if command is None or command.source.line < lines.first + i - 2:
        return "", ""
    if not context.ran("iptables", "iptables-save", "iptables-legacy", "iptables-nft", "ip6tables"):
        return "", ""
    table = chain = ""
    for word, following in zip(command.argv, command.argv[1:], strict=False):
        if word in ("-t", "--table"):
            table = following
        elif re.fullmatch(r"-\w*[LS]\w*|--list", word) and not following.startswith("-"):
            chain = following
    return table, chain


def _declare(table: _Table, name: str, policy: str) -> None:
    if name not in table.chains:
        table.chains.append(name)
    if policy in ("ACCEPT", "DROP"):
        table.policies[name] = policy


def _rule(table: _Table, match: re.Match[str], lines: Lines, i: int) -> bool:
    rest = match["rest"] or ""
    table.name = table.name or match["table"] or ""
    if match["op"] == "-P":
        _declare(table, match["chain"], rest.strip())
        return True
    if match["op"] == "-N":
        _declare(table, match["chain"], "")
        return True
    try:
        words = shlex.split(rest)
    except ValueError:
        words = rest.split()
    if not any(w.startswith("-") for w in words):
        return False
    _declare(table, match["chain"], "")
    packets = int(match["packets"]) if match["packets"] else None
    table.rules.append(
        IptablesRule(chain=match["chain"], args=tuple(words), source=lines.source(i), packets=packets)
    )
    return True


def _listed(table: _Table, chain: str, match: re.Match[str], lines: Lines, i: int) -> None:
    args: list[str] = []
    for option, value in (
        ("-s", match["src"]),
        ("-d", match["dst"]),
        ("-i", match["in"]),
        ("-o", match["out"]),
        ("-p", match["prot"]),
    ):
        if value and value.lstrip("!") not in _EVERY and not (option == "-p" and value == "0"):
            args += (["!"] if value.startswith("!") else []) + [option, value.lstrip("!")]
    args += _extras(match["extra"] or "")
    if match["target"]:
        args += ["-j", match["target"]]
        if match["target"] == "CT" and "notrack" in (match["extra"] or "").lower():
            args.append("--notrack")
    counted = match["pkts"]
    packets = int(counted.rstrip("KMGT")) * _UNIT.get(counted[-1], 1) if counted else None
    table.rules.append(IptablesRule(chain=chain, args=tuple(args), source=lines.source(i), packets=packets))


def _extras(text: str) -> list[str]:
    """The matches behind the addresses of a listed rule, in the words of iptables-save."""
    args: list[str] = []
    for comment in re.findall(r"/\* (.*?) \*/", text):
        args += ["-m", "comment", "--comment", comment]
    text = re.sub(r"/\* .*? \*/", " ", text)
    for pattern, words in (
        (r"(?:ctstate|state) (\S+)", ("-m", "conntrack", "--ctstate")), (r"\bdpts?:(\S+)", ("--dport",)), (r"\bspts?:(\S+)", ("--sport",)),
        (r"multiport dports (\S+)", ("-m", "multiport", "--dports")), (r"mark match (\S+)", ("-m", "mark", "--mark")),
        (r"\bto:(\S+)", ("--to-destination",)), (r"reject-with (\S+)", ("--reject-with",)), (r"match-set (\S+ \S+)", ("--match-set",)),
        (r"ADDRTYPE match dst-type (\S+)", ("-m", "addrtype", "--dst-type")), (r"\b(rpfilter)\b", ("-m",)), (r"LOG flags .* prefix \"([^\"]*)\"", ("--log-prefix",)),
    ):  # fmt: skip
        for value in re.findall(pattern, text):
            args += [*words, value]
    return args


def _record(table: _Table, lines: Lines, last: int, context: Context) -> IptablesTable:
    family = 6 if any(":" in r.option("-s", "-d") for r in table.rules) else 4
    return IptablesTable(
        source=lines.source(table.first, last), where=context.where, family=family, name=table.name or _guess(table),
        policies=table.policies, chains=tuple(table.chains), rules=tuple(table.rules),
    )  # fmt: skip


def _guess(table: _Table) -> str:
    for rule in table.rules:
        if found := _OF_TARGET.get(rule.target):
            return found
    return "nat" if "POSTROUTING" in table.chains else "filter"


FORMAT = LineFormat("iptables", _START, _read, priority=22)
