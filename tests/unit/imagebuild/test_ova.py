"""The disk in an OVA: names as tools give them, and manifests as DSP0243 has them and as tools write them."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.errors import Corrupt, DayflyError, Refused
from dayfly.imagebuild.disk.ova import Digest, Member, disk_in, parse_manifest

DISK, OVF = b"the disk" * 100, b"<Envelope/>"


def digest(algorithm: str, content: bytes = DISK) -> str:
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()


def look(place: Path, *members: tuple[str, bytes], form: int = tarfile.USTAR_FORMAT) -> tuple[Member, bytes]:
    """The disk that is found, and what is where it is said to be."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    path = place / "a.ova"
    path.write_bytes(target.getvalue())
    with path.open("rb") as file:
        found = disk_in(file, "a.ova")
    return found, target.getvalue()[found.offset : found.offset + found.size]


def said(place: Path, manifest: str, *, disk: str = "disk.vmdk") -> None:
    look(place, ("a.ovf", OVF), ("a.mf", manifest.encode()), (disk, DISK))


LINES = {
    "DSP0243, SHA1": f"SHA1(disk.vmdk)= {digest('sha1')}\n",
    "DSP0243, SHA256": f"SHA256(disk.vmdk)= {digest('sha256')}\n",
    "VirtualBox": f"SHA1 (a.ovf) = {digest('sha1', OVF)}\nSHA1 (disk.vmdk) = {digest('sha1')}\n",
    "SHA384": f"SHA384(disk.vmdk)= {digest('sha384')}\n",
    "SHA512": f"SHA512(disk.vmdk)= {digest('sha512')}\n",
    "openssl 3": f"SHA2-256(disk.vmdk)= {digest('sha256')}\n",
    "lower case": f"sha256(disk.vmdk)= {digest('sha256')}\n",
    "upper case": f"SHA256(disk.vmdk)= {digest('sha256').upper()}\n",
    "blanks": f"  SHA256  ( disk.vmdk )  =   {digest('sha256')}  \r\n\r\n",
    "without blanks": f"SHA256(disk.vmdk)={digest('sha256')}",
    "sha256sum": f"{digest('sha256', OVF)}  a.ovf\n{digest('sha256')}  disk.vmdk\n",
    "sha512sum --binary": f"{digest('sha512')} *./disk.vmdk\n",
    "a byte order mark": f"\ufeffSHA256(disk.vmdk)= {digest('sha256')}\n",
}


@pytest.mark.parametrize("form", LINES)
def test_manifests_are_compared(tmp_path: Path, form: str) -> None:
    said(tmp_path, LINES[form])
    wrong = LINES[form].replace("disk.vmdk", "other.vmdk")
    with pytest.raises(Refused, match=r"a\.mf in a\.ova has no line for disk\.vmdk"):
        said(tmp_path, wrong)
    with pytest.raises(Corrupt, match=r"disk\.vmdk in a\.ova does not match the manifest"):
        look(tmp_path, ("a.ovf", OVF), ("a.mf", LINES[form].encode()), ("disk.vmdk", DISK + b"!"))


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "\n",
        f"SHA256(a.ovf)= {digest('sha256', OVF)}\n",
    ],
)
def test_a_manifest_without_the_disk_is_refused(tmp_path: Path, manifest: str) -> None:
    with pytest.raises(Refused, match="no line for") as caught:
        said(tmp_path, manifest)
    assert "unpack the OVA" in caught.value.hint


@pytest.mark.parametrize(
    "line",
    [
        "MD5(disk.vmdk)= d41d8cd98f00b204e9800998ecf8427e",
        "SHA3-256(disk.vmdk)= " + "0" * 64,
        "SHA256(disk.vmdk)= " + "0" * 40,
        "SHA256(disk.vmdk)= " + "0" * 63,
        "SHA256(disk.vmdk)= ",
        "SHA256( )= " + "0" * 64,
        "SHA256 disk.vmdk " + "0" * 64,
        "d41d8cd98f00b204e9800998ecf8427e  disk.vmdk",
        "\x1b[31m\0",
    ],
)
def test_a_line_that_cannot_be_read_refuses_all(tmp_path: Path, line: str) -> None:
    with pytest.raises(Refused, match=r"a\.mf in a\.ova cannot be read: line 2 is") as caught:
        said(tmp_path, f"SHA256(disk.vmdk)= {digest('sha256')}\n{line}\n")
    assert caught.value.message.isprintable()
    assert "SHA256(disk.vmdk)= " in caught.value.hint


def test_all_files_that_a_manifest_names_are_compared(tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match=r"a\.ovf in a\.ova does not"):
        said(tmp_path, f"SHA256(disk.vmdk)= {digest('sha256')}\nSHA256(a.ovf)= {'0' * 64}\n")
    with pytest.raises(Corrupt, match=r"disk\.vmdk in a\.ova does not"):
        said(tmp_path, f"SHA256(disk.vmdk)= {digest('sha256')}\nSHA1(disk.vmdk)= {'0' * 40}\n")


def test_several_or_large_manifests_are_refused(tmp_path: Path) -> None:
    line = LINES["sha256sum"].encode()
    with pytest.raises(Refused, match="2 manifests"):
        look(tmp_path, ("a.ovf", OVF), ("a.mf", line), ("b.MF", line), ("disk.vmdk", DISK))
    with pytest.raises(Refused, match="more than the limit of 65536"):
        look(tmp_path, ("a.ovf", OVF), ("a.mf", line * 1000), ("disk.vmdk", DISK))


NAMES = [
    "disk.vmdk",
    "My Machine-disk001.vmdk",
    "Übung (Kopie) [2].vmdk",
    "机器.vmdk",
    "-x'&;$.vmdk",
    "DISK.VMDK",
    "a" * 90 + ".vmdk",
]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", NAMES)
def test_names_as_tools_take_them_from_the_machine(tmp_path: Path, name: str, form: int) -> None:
    manifest = f"SHA256({name})= {digest('sha256')}\n".encode()
    for before in ("", "./"):
        beside = [(f"{before}{other}", OVF) for other in ("A B.OVF", "A B.CERT", "x.NVRAM", "y.Xml")]
        found, content = look(tmp_path, *beside, (f"{before}A B.MF", manifest), (f"{before}{name}", DISK), form=form)
        assert (found.name, content) == (name, DISK)


@pytest.mark.parametrize("name", ["../x.vmdk", "/x.vmdk", "d/x.vmdk", "..", "a\nb.vmdk", "a\x1bb.vmdk", "./../x.vmdk", "a" * 300])
def test_names_that_there_may_not_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="an invalid name") as caught:
        look(tmp_path, ("a.ovf", OVF), (name, DISK), form=tarfile.PAX_FORMAT)
    assert caught.value.message.isprintable()
    assert "unpack it" in caught.value.hint


def test_a_name_twice(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="a file twice"):
        look(tmp_path, ("a.ovf", OVF), ("disk.vmdk", DISK), ("./disk.vmdk", DISK))


def test_a_header_that_claims_more_than_there_can_be(tmp_path: Path) -> None:
    info = tarfile.TarInfo("disk.vmdk")
    info.size = 1 << 62
    (tmp_path / "a.ova").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    with (tmp_path / "a.ova").open("rb") as file, pytest.raises(Refused, match="truncated"):
        disk_in(file, "a.ova")


@given(
    st.one_of(
        st.binary(max_size=300), st.text(max_size=300).map(str.encode), st.sampled_from(list(LINES.values())).map(str.encode)
    )
)
def test_whatever_a_manifest_is(content: bytes) -> None:
    try:
        digests = parse_manifest(content, "it")
    except DayflyError:
        return
    assert all(isinstance(one, Digest) and one.name and one.value for one in digests)
