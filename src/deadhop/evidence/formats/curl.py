"""HTTP clients' sessions: ``curl`` (with and without ``-v``, ``-I``, ``-i``) and ``wget -S``.

The url comes from the command line where one was typed, else from ``Connected to``, ``Host`` or the error text.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from deadhop.evidence.fields import integer, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.formats.local_reply import body_record
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.record import Record

_IMMEDIATE = re.compile(r"^\*?\s*Immediate connect fail for (?P<ip>[0-9a-fA-F:.]+): (?P<what>.+)")
_TRYING = re.compile(r"^\*?\s*Trying \[?(?P<ip>[0-9a-fA-F:.]+?)\]?(?::(?P<port>\d+))?\.\.\.")
_CONNECTED = re.compile(r"^\*\s*Connected to (?P<host>\S+) \((?P<ip>[^)]+)\) port (?P<port>\d+)")
_REQUEST = re.compile(r"^> (?P<method>[A-Z]+) (?P<path>\S+) HTTP/(?P<v>[\d.]+)")
_SENT = re.compile(r"^> (?P<name>[\w-]+): ?(?P<value>.*)$")
_STATUS = re.compile(r"^(?:<\s*)?\s*HTTP/(?P<v>[\d.]+) (?P<status>\d{3})(?: (?P<text>.*))?$")
_HEADER = re.compile(r"^(?:<\s*|\s{2,})?(?P<name>[A-Za-z][\w-]*):\s?(?P<value>.*)$")
_ERROR = re.compile(r"^(?:\*\s*)?curl: \((?P<code>\d+)\)\s*(?P<text>.*)$")
_FAILED = re.compile(
    r"^\* (?P<text>(?:Recv|Send|SSL_\w+|OpenSSL SSL_\w+|connect to .*)\b.*(?:fail|reset|refused|timed out|route to host).*)$"
)
_EXIT = re.compile(r"^command terminated with (?:non-zero )?exit code:? ?(?:.* )?(?P<code>\d+)\s*$")
#: What -v says of a handshake that ended, where curl's own last line was cut off.
_TLS_BROKEN = re.compile(
    r"^\*\s*(?P<text>(?:(?:Open|Libre|Boring)SSL )?SSL_connect: \S.*|TLS connect error: .*|gnutls_handshake\(\) failed: .*|schannel: failed to receive handshake.*)$"
)
_WGET_ERROR = re.compile(r"^wget: (?P<text>.*)$")
_INFO = re.compile(r"^[*{}] |^\* |^[{}] \[|^\s*% Total|^\s*\d+\s+\d+\s+\d+|^  0\s")
_START = re.compile(
    r"^\*\s+(?:Trying|Connected|Host |Could not|Closing|Immediate|Rebuilt|About to|TCP_NODELAY|Added)|^\*?\s*Trying [0-9a-fA-F.:\[\]]+|^> (?:GET|POST|PUT|HEAD|DELETE|PATCH|OPTIONS) |^(?:<\s*)?\s*HTTP/[\d.]+ \d{3}|^(?:\* )?curl: \(\d+\)|^wget: |^command terminated with (?:non-zero )?exit code"
)

#: curl's exit codes that say how the connection died (curl(1), EXIT CODES).
CODES = {
    5: "unresolved",
    6: "unresolved",
    7: "refused",
    28: "timeout",
    35: "tls",
    51: "certificate",
    52: "empty",
    56: "reset",
    58: "certificate",
    60: "certificate",
}
_WORDS = (
    ("Connection refused", "refused"), ("timed out", "timeout"), ("No route to host", "unreachable"), ("Network is unreachable", "unreachable"),
    ("reset by peer", "reset"), ("Could not resolve", "unresolved"), ("bad address", "unresolved"), ("certificate", "certificate"), ("SSL", "tls"), ("Empty reply", "empty"),
)  # fmt: skip


def target(argv: tuple[str, ...]) -> tuple[str, str, str, bool]:
    """``(url, host header, method, verbose)`` of a curl or wget command line."""
    url = host = ""
    method = "GET"
    words = list(argv[1:])
    while words:
        word = words.pop(0)
        if word in ("-H", "--header") and words:
            name, _, value = words.pop(0).partition(":")
            if name.strip().lower() == "host":
                host = value.strip()
        elif word in ("-X", "--request") and words:
            method = words.pop(0)
        elif word in (
            "-o",
            "-d",
            "--data",
            "-m",
            "--max-time",
            "--connect-timeout",
            "-u",
            "-A",
            "--cacert",
            "--cert",
            "--key",
            "--resolve",
            "--connect-to",
            "-w",
            "-O-",
            "-T",
            "--timeout",
        ):
            if words and word not in ("-O-",):
                words.pop(0)
        elif re.fullmatch(
            r"-[a-zA-Z]*[odmuAwTHX]", word
        ):  # a cluster whose last letter takes an argument: -so FILE
            if words:
                words.pop(0)
        elif word.startswith("-"):
            method = "HEAD" if word in ("-I", "--head", "--spider") else method
        elif not url and re.search(r"[.:/]", word):
            url = word if "://" in word else f"http://{word}"
    return url, host, method, any(w.startswith("-") and not w.startswith("--") and "v" in w for w in argv)


def split(url: str) -> tuple[str, int | None]:
    """Host and port of a URL; the scheme's own port where it names none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "", None
    return parts.hostname or "", port or (443 if parts.scheme == "https" else 80)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    text = lines.text
    start = i
    tool = "wget" if context.ran("wget") or text[i].startswith("wget:") else "curl"
    url = host = ""
    method = "GET"
    if context.command and context.ran("curl", "wget"):
        url, host, method, _verbose = target(context.command.argv)
    dialled = connected = ""
    port: int | None = None
    status: int | None = None
    error = error_text = ""
    sent: list[tuple[str, str]] = []
    headers: list[tuple[str, str]] = []
    styles: set[tuple[str, str, str]] = set()
    body: list[str] = []
    records: list[Record] = []
    path = ""
    in_headers = seen = False
    while i < len(text):
        line = text[i].rstrip()
        if match := _TRYING.match(line):
            dialled, port = match["ip"], integer(match["port"], port)
        elif match := _IMMEDIATE.match(line):
            records.append(
                DialFailure(
                    source=lines.source(i),
                    where=context.where,
                    target=match["ip"],
                    ip=match["ip"],
                    port=port,
                    error="unreachable",
                    program="curl",
                    text=line.strip(),
                )
            )
        elif match := _CONNECTED.match(line):
            connected, dialled, port = match["host"], match["ip"], int(match["port"])
        elif match := _REQUEST.match(line):
            if status is not None:
                break
            method, path = match["method"], match["path"]
        elif (match := _SENT.match(line)) and not in_headers:
            sent.append((match["name"].lower(), match["value"].strip()))
        elif match := _STATUS.match(line):
            if status is not None and status != int(match["status"]) and not line.startswith("<"):
                break
            status, in_headers = int(match["status"]), True
        elif match := _ERROR.match(line):
            code = int(match["code"])
            error_text = match["text"]
            error = CODES.get(code, "other")
            error = next((name for words, name in _WORDS if words.lower() in error_text.lower()), error)
            i += 1
            seen = True
            break
        elif (match := _EXIT.match(line)) and context.ran("curl") and int(match["code"]) in CODES:
            error, error_text = error or CODES[int(match["code"])], error_text or line
            i += 1
            seen = True
            break
        elif (match := _WGET_ERROR.match(line)) and not seen:
            error_text = match["text"]
            error = next((name for words, name in _WORDS if words.lower() in error_text.lower()), "other")
            i += 1
            seen = True
            break
        elif in_headers and line in ("", "<", ">"):
            if line == "" or line == "<":
                in_headers = False
                if line == "" and not (i + 1 < len(text) and body_record(text[i + 1], lines.source(i + 1))):
                    i += 1
                    break
        elif in_headers and (match := _HEADER.match(line)):
            pair = (match["name"].lower(), match["value"].strip())
            # -v and -i together print each header twice, in two styles; one style twice means sent twice.
            style = (*pair, line[:1])
            if pair not in headers or style in styles:
                headers.append(pair)
            styles.add(style)
        elif _INFO.match(line) or line in (">", "<", "*"):
            if broken := _TLS_BROKEN.match(line):
                error_text = error_text or broken["text"]
                error = error or next((n for words, n in _WORDS if words.lower() in line.lower()), "tls")
            elif match := _FAILED.match(line):
                error_text = error_text or match["text"]
                error = error or next(
                    (name for words, name in _WORDS if words.lower() in error_text.lower()), ""
                )
        elif record := body_record(line, lines.source(i)):
            records.append(record)
            body.append(line)
            i += 1
            seen = True
            break
        elif in_headers and re.match(r"^\s*server_|^#", line):
            break
        else:
            break
        seen = True
        i += 1
    if not seen:
        return start, []
    request_host = next((v for k, v in sent if k == "host"), host)
    if not url:
        name = connected or request_host
        url = f"http://{name}{':' + str(port) if port and port != 80 else ''}{path}" if name else ""
    url_host, url_port = split(url) if url else ("", None)
    exchange = HttpExchange(
        source=lines.source(start, i - 1),
        where=context.where,
        tool=tool,
        url=url,
        method=method,
        host=request_host or url_host,
        dialled=dialled or (url_host if is_ip(url_host) else ""),
        port=port or url_port,
        status=status,
        request_headers=tuple(sent),
        headers=tuple(headers),
        body="\n".join(body),
        error=error,
        error_text=error_text,
    )
    return i, [exchange, *records]


FORMAT = LineFormat("http-client", _START, _read, priority=24)
