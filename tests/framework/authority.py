"""Certification authorities of the tests' own, by openssl, and people who sign with their certificates."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

CA_CONFIG = """
[ca]
default_ca = own
[own]
database = {folder}/index
serial = {folder}/serial
crlnumber = {folder}/crlnumber
new_certs_dir = {folder}
default_md = sha256
default_crl_days = 30
policy = any
email_in_dn = yes
[any]
commonName = supplied
"""


def openssl(*words: object, stdin: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *map(str, words)], input=stdin, check=True, capture_output=True).stdout


class Authority:
    """A certification authority in a folder."""

    def __init__(
        self, folder: Path, name: str, *, key: str = "P-256", digest: str = "sha256", by: Authority | None = None
    ) -> None:
        """With a certificate of its own, or `by` another authority."""
        self.folder = folder
        folder.mkdir(parents=True)
        self.name = f"/C=CH/O=Test/CN={name}"
        self.certificate, self.key, self.crl = folder / "ca.pem", folder / "ca.key", folder / "crl.pem"
        self._make(self.key, key)
        words = ["-key", self.key, "-subj", self.name, f"-{digest}"]
        if by is None:
            openssl("req", "-x509", *words, "-out", self.certificate, "-days", 100)
        else:
            (folder / "ca.ext").write_text("basicConstraints=CA:TRUE\n")
            openssl("req", "-new", *words, "-out", folder / "ca.csr")
            issue = ["x509", "-req", "-in", folder / "ca.csr", "-CA", by.certificate, "-CAkey", by.key, "-CAcreateserial"]
            openssl(*issue, "-days", 100, f"-{digest}", "-extfile", folder / "ca.ext", "-out", self.certificate)
        (folder / "index").touch()
        (folder / "serial").write_text("01\n")
        (folder / "crlnumber").write_text("01\n")
        (folder / "ca.cnf").write_text(CA_CONFIG.format(folder=folder))
        self.publish_crl()

    @staticmethod
    def _make(path: Path, kind: str) -> None:
        """A key: on a curve, or of RSA with so many bits."""
        curve = ("-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{kind}")
        of_rsa = ("-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{kind}")
        openssl(
            "genpkey", *(of_rsa if kind.isdigit() else ("-algorithm", kind) if kind.startswith("ED") else curve), "-out", path
        )

    def _ca(self, *words: object) -> None:
        openssl("ca", "-batch", "-config", self.folder / "ca.cnf", "-cert", self.certificate, "-keyfile", self.key, *words)

    def publish_crl(self) -> None:
        self._ca("-gencrl", "-out", self.crl)

    def revoke(self, who: Endorser) -> None:
        self._ca("-revoke", who.certificate)
        self.publish_crl()

    def endorser(
        self,
        name: str,
        *,
        days: int = 50,
        purpose: str = "emailProtection",
        more: str = "",
        key: str = "P-256",
        digest: str = "sha256",
        pss: bool = False,
    ) -> Endorser:
        """Somebody with a certificate of the last ten days, and of so many to come; `more` are lines of extensions."""
        made = Endorser(self.folder / f"{name}.pem", self.folder / f"{name}.key", f"/C=CH/O=Test/CN={name}", self.name)
        self._make(made.key, key)
        request = self.folder / f"{name}.csr"
        openssl("req", "-new", "-key", made.key, "-out", request, "-subj", made.name)
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"extendedKeyUsage={purpose}\n{more}\n")
        start = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() - 10 * 86400))
        end = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + days * 86400))
        self._ca(
            *("-in", request, "-out", made.certificate, "-startdate", start, "-enddate", end, "-extfile", extensions),
            *("-preserveDN", "-notext", "-md", digest, *(("-sigopt", "rsa_padding_mode:pss") if pss else ())),
        )
        return made


@dataclass(frozen=True)
class Endorser:
    """Somebody who signs lists."""

    certificate: Path
    key: Path
    name: str
    issuer: str

    def sign(self, content: bytes, *words: object) -> bytes:
        return openssl(
            "cms",
            "-sign",
            "-md",
            "sha256",
            "-signer",
            self.certificate,
            "-inkey",
            self.key,
            *(words or ("-text",)),
            stdin=content,
        )
