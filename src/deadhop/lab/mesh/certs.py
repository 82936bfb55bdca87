"""Workload certificates for the oracle, made with the openssl command: one mesh root, one foreign root."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """A root that issues SPIFFE certificates into a folder; each identity is issued once."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.root = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        self._issued: dict[str, tuple[Path, Path]] = {}
        self._new_key(self._key)
        self._run(
            "req", "-x509", "-new", "-key", self._key, "-subj", f"/O={name}", "-days", "2", "-out", self.root
        )

    def issue(self, spiffe: str) -> tuple[Path, Path]:
        """Certificate chain and key for ``spiffe://...``."""
        if spiffe not in self._issued:
            stem = self.folder / f"{self.name}-{len(self._issued)}"
            key, cert, ext = (stem.with_suffix(s) for s in (".key", ".pem", ".ext"))
            request = stem.with_suffix(".csr")
            self._new_key(key)
            ext.write_text(f"subjectAltName=critical,URI:{spiffe}\nextendedKeyUsage=serverAuth,clientAuth\n")
            self._run("req", "-new", "-key", key, "-subj", "/", "-out", request)
            self._run(
                "x509", "-req", "-in", request, "-CA", self.root, "-CAkey", self._key, "-CAcreateserial",
                "-days", "2", "-extfile", ext, "-out", cert,
            )  # fmt: skip
            self._issued[spiffe] = (cert, key)
        return self._issued[spiffe]

    def _new_key(self, path: Path) -> None:
        self._run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)

    def _run(self, *args: object) -> None:
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, timeout=30)
