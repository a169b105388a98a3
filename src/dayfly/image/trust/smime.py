"""S/MIME by `openssl cms`: who signed a list, whether the signature is still valid, and signing one (docs/decisions/0077)."""

from __future__ import annotations

import calendar
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from dayfly import files
from dayfly.errors import Refused
from dayfly.image.trust.imagelist import LIST_LIMIT, one_line
from dayfly.image.trust.openssl import Memory
from dayfly.values import dataclass

SIGNED_LIMIT = LIST_LIMIT * 2
WEAK_HINT = "ask its endorser to sign it again; a site can accept it with trust.weak_lists in its settings"
_CERTIFICATES_LIMIT = 64 * 1024**2
_HEADER = re.compile(rb"content-type:\s*multipart/signed;[^\n]*application/(?:x-)?pkcs7-signature", re.IGNORECASE)
_ERROR = re.compile(r"Verify error:\s*(.+)")
_ATTRIBUTE = re.compile(r"/[A-Za-z][A-Za-z0-9.-]*=")
_HASHED = re.compile(r"[0-9a-f]{8}\.r?[0-9]{1,4}")


@dataclass(frozen=True)
class Signed:
    """The content of a signed message, and its signer: the certificate's name, its issuer's, and the end of its validity.

    `weak` is what of the signature is too weak to be trusted, where weak ones are allowed.
    """

    content: bytes
    signer: str
    issuer: str
    until: int
    weak: tuple[str, ...] = ()


def verify(message: bytes, authorities: Sequence[str], revocations: Sequence[str], *, weak: bool = False) -> Signed:
    """Check a message's only signature against certification authorities and, if given, revocation lists.

    Both are PEM files, or folders as `openssl rehash` and the IGTF make them. With revocation lists, there must be a valid
    one of every authority between the signer and the root. Unless `weak` is allowed, the digests and keys that sign the
    message and these certificates must be strong enough. Raises `Refused`, `ProgramMissing`, or OSError for a file that
    cannot be read.
    """
    if len(message) > SIGNED_LIMIT:
        raise Refused(f"the signed list is larger than the limit of {SIGNED_LIMIT} bytes")
    head = message[:4096].replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    if not _HEADER.search(head.replace(b"\n ", b" ").replace(b"\n\t", b" ")):
        raise Refused("it is not an S/MIME message with a detached signature", "a list must be multipart/signed")
    with Memory() as memory:
        signer, content = memory.file(), memory.file()
        came, trusted = memory.file(message), [*_trusted([*authorities, *revocations], memory), "-no-CAstore"]
        words = ["cms", "-verify", "-inform", "SMIME", "-in", came, "-signer", signer, "-out", content]
        words += [*trusted, "-purpose", "smimesign"]
        lines: list[str] = []
        done = memory.run([*words, *(["-crl_check_all"] if revocations else [])], check=False, progress=lines.append)
        if done.status != 0:
            raise Refused(f"its signature is not valid: {_why(lines)}")
        signers = memory.content(signer, SIGNED_LIMIT)
        count = signers.count(b"-----BEGIN CERTIFICATE-----")
        if count != 1:
            raise Refused(f"it has {count} signers instead of one")
        found = _weak(came, signers, trusted, memory)
        if found and not weak:
            raise Refused(f"its signature is too weak: {'; '.join(found)}", WEAK_HINT)
        return Signed(_without_header(memory.content(content, SIGNED_LIMIT)), *certificate(signers), tuple(found))


def _weak(message: str, signer: bytes, trusted: Sequence[str], memory: Memory) -> list[str]:
    """What is too weak about a message's valid signature, and about the certificates behind it."""
    from dayfly.image.trust import strength  # noqa: PLC0415 (only where a signature is judged)

    der, others = memory.file(), memory.file()
    memory.run(["cms", "-cmsout", "-inform", "SMIME", "-in", message, "-outform", "DER", "-out", der, "-certsout", others])
    came = memory.content(others, SIGNED_LIMIT)
    chain = strength.chain(signer, came, trusted, memory)
    return [*strength.of_message(memory.content(der, SIGNED_LIMIT)), *strength.of_chain(chain)]


def certificate(pem: bytes) -> tuple[str, str, int]:
    """A certificate's name and its issuer's, both in the one-line form, and the end of its validity. Raises `Refused`."""
    shown = _shown(pem, "compat")
    parts = {
        name: len([line for line in text.split("\n") if line.strip()]) for name, text in _shown(pem, "sep_multiline").items()
    }
    for name in ("subject", "issuer"):
        if len(_ATTRIBUTE.findall(shown.get(name, ""))) != parts.get(name):
            raise Refused(f"the certificate's {name} is ambiguous: {shown.get(name, '')[:200]}")
    try:
        until = calendar.timegm(time.strptime(shown["notAfter"], "%Y-%m-%d %H:%M:%SZ"))
    except (KeyError, ValueError):
        raise Refused("the certificate's end date cannot be read") from None
    return one_line(shown["subject"]), one_line(shown["issuer"]), until


def _shown(pem: bytes, form: str) -> dict[str, str]:
    with Memory() as memory:
        words = ["x509", "-noout", "-subject", "-issuer", "-enddate", "-dateopt", "iso_8601", "-nameopt", form]
        done = memory.run([*words, "-in", memory.file(pem)])
    found = re.split(r"^(subject|issuer|notAfter)=", done.output.decode(errors="replace"), flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(found[1::2], found[2::2], strict=True)}


def sign(content: bytes, signer: Path, key: Path, passphrase: Path | None = None) -> bytes:
    """A message with this content, signed with a certificate and its key (PEM files). Raises `DayflyError`."""
    words = ["cms", "-sign", "-text", "-md", "sha256", "-signer", str(signer), "-inkey", str(key)]
    words += ["-passin", f"file:{passphrase}" if passphrase else "pass:"]
    hint = "check that the certificate and the key belong together, and whether the key needs --passphrase-file"
    with Memory() as memory:
        return memory.run([*words, "-in", memory.file(content)], hint=hint).output


def _without_header(content: bytes) -> bytes:
    """A signed text without its header. It is a part of a message; M2Crypto, which signs AppDB's lists, writes no header."""
    if content.lstrip()[:1] in (b"{", b""):
        return content
    return content.replace(b"\r\n", b"\n").partition(b"\n\n")[2]


def _why(lines: Sequence[str]) -> str:
    for line in lines:
        if found := _ERROR.search(line):
            return found[1]
    reasons = [line.split(":")[5] for line in lines if line.count(":") > 6]  # ID:error:CODE:library:function:reason:file:line:
    return reasons[0] if reasons else "; ".join(lines[-2:]) or "openssl gives no reason"


def _trusted(places: Sequence[str], memory: Memory) -> list[str]:
    """Openssl's options for trusted certificates: one file made of all files, and one folder made of all folders."""
    plain: list[Path] = []
    folders: list[Path] = []
    for place in dict.fromkeys(places):
        (folders if Path(place).is_dir() else plain).append(Path(place))
    options = ["-no-CAfile"]
    if plain:
        content = b"\n".join(files.read(path, _CERTIFICATES_LIMIT) for path in plain)
        options = ["-CAfile", memory.file(content)]
    for folder in folders:
        if not any(_HASHED.fullmatch(path.name) for path in folder.iterdir()):
            raise Refused(f"{folder} has no certificates with hashed names", "run `openssl rehash` on it")
    if not folders:
        return [*options, "-no-CApath"]
    if len(folders) == 1:
        return [*options, "-CApath", str(folders[0])]
    together = Path(memory.stack.enter_context(tempfile.TemporaryDirectory(prefix="dayfly-trust-")))
    for path in _hashed(folders):
        stem, dot, number = path.name.partition(".r" if ".r" in path.name else ".")
        free = next(count for count in range(int(number), 100_000) if not (together / f"{stem}{dot}{count}").is_symlink())
        (together / f"{stem}{dot}{free}").symlink_to(path.absolute())
    return [*options, "-CApath", str(together)]


def _hashed(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in sorted(folder.iterdir()) if _HASHED.fullmatch(path.name))
