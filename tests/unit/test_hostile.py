"""Evidence from strangers: a clear message with the place, bounded work, no traceback, nothing skipped in silence."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from deadhop.cli import group
from deadhop.evidence import limits, read
from deadhop.evidence.read import read_bytes
from deadhop.model.observed.dns import ResolvConf

CONF = b"nameserver 10.0.0.10\nsearch shop.svc.cluster.local svc.cluster.local\n"


def kinds(path: Path) -> set[str]:
    return {p.kind for p in read([str(path)]).problems}


def run(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(group, ["diagnose", *args], standalone_mode=False)
    code = 2 if result.exception else int(result.return_value or 0)
    assert result.exception is None or type(result.exception).__name__ == "UsageError", result.exception
    return code, result.output


def test_an_empty_folder_and_a_missing_path_are_usage_errors(tmp_path: Path) -> None:
    assert run(str(tmp_path))[0] == 2
    assert run(str(tmp_path / "nothing"))[0] == 2


def test_a_binary_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(bytes(range(256)) * 40)
    code, output = run(str(path))
    assert code == 3
    assert "binary" in output


def test_a_long_line_is_cut_and_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(limits, "CHUNK", 1 << 16)
    monkeypatch.setattr(limits, "LINE", 1 << 12)
    path = tmp_path / "line"
    path.write_bytes(b"a" * (1 << 20) + b"\n" + CONF)
    evidence = read([str(path)])
    assert "limit" in {p.kind for p in evidence.problems}
    assert any(isinstance(r, ResolvConf) for r in evidence.records), "what follows the line is read"


def test_a_zip_bomb_is_refused_and_its_neighbour_read(tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * (limits.FREE * 3))
        archive.writestr("../../etc/resolv.conf", CONF)
    evidence = read([str(path)])
    assert [p.kind for p in evidence.problems] == ["hostile"]
    assert [r.source.file for r in evidence.records] == [f"{path}!../../etc/resolv.conf"], (
        "a label, never a path"
    )


def test_links_and_devices_in_a_tar_are_named_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("shadow")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
        archive.addfile(link)
        member = tarfile.TarInfo("resolv.conf")
        member.size = len(CONF)
        archive.addfile(member, io.BytesIO(CONF))
    evidence = read([str(path)])
    assert [p.kind for p in evidence.problems] == ["unread"]
    assert len(evidence.records) == 1


def test_a_truncated_gzip_gives_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    packed = gzip.compress(
        b"".join(b"nameserver 10.%d.%d.1\n\n" % (i // 250, i % 250) for i in range(20_000))
    )
    path.write_bytes(packed[: len(packed) // 2])
    evidence = read([str(path)])
    assert "truncated" in {p.kind for p in evidence.problems}
    assert len(evidence.records) > 1000


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: v1\nkind: Pod\nmetadata: !!python/object/apply:os.system [id]\n",
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: &a x\n" + "".join(f"  k{i}: *a\n" for i in range(1000)),
        "kind: Pod\nmetadata:\n  a0: &a0 [x, x]\n"
        + "".join(f"  a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 6)}]\n" for i in range(20)),
        "kind: Pod\nmetadata: &m\n  again: *m\n",
    ],
    ids=["tag", "many aliases", "expanding aliases", "alias to itself"],
)
def test_hostile_yaml_is_refused_with_its_place(text: str) -> None:
    evidence = read_bytes("evil.yaml", text.encode())
    assert [p.kind for p in evidence.problems] == ["hostile"]
    assert evidence.problems[0].source.line >= 1
    assert not evidence.records


def test_nested_archives_end(tmp_path: Path) -> None:
    data = CONF
    for _ in range(limits.DEPTH + 2):
        data = gzip.compress(data)
    path = tmp_path / "deep.gz"
    path.write_bytes(data)
    assert "limit" in kinds(path)


def test_other_encodings_are_read() -> None:
    assert read_bytes("x", CONF.decode().encode("utf-16")).records
    assert read_bytes("x", b"\xef\xbb\xbf" + CONF).records
    assert read_bytes("x", CONF.replace(b"\n", b"\r\n")).records
    assert read_bytes("x", b"\xff\xff\xfa" * 3 + b"\n" + CONF).records
