"""An image list in the format of HEPiX's virtualisation working group ("HEPiX image list format"), with EGI AppDB's additions.
Pure.

All fields that are read are bounded and checked; unknown ones (`ad:…`, `sl:…`) are ignored.
"""

from __future__ import annotations

import calendar
import json
import re
import time
from collections.abc import Mapping

from dayfly.errors import Refused
from dayfly.image.fields import Fields, decode, line
from dayfly.image.reference import Name, parse_name
from dayfly.units import format_time
from dayfly.values import dataclass

FORMAT = "dayfly-oci"
"""The `hv:format` of images that a library accepts: an archive of an OCI layout with one Dayfly image."""
LIST_LIMIT = 8 * 1024**2
MOST_IMAGES = 2000
IMAGE_LIMIT = 256 * 1024**3
VERSION = re.compile(r"[0-9]{1,32}(?:[.-][0-9]{1,32}){0,7}")
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@{}-]{0,254}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")
_DN_LIMIT = 1024
_CHECKSUMS = {"sha512": re.compile(r"[0-9a-f]{128}"), "sha256": re.compile(r"[0-9a-f]{64}")}
_EMAIL = re.compile(r"/(?:E|Email|emailAddress|EMAILADDRESS)=")


@dataclass(frozen=True)
class ListedImage:
    """One image of a list. `size` is in bytes, `checksums` are by their algorithm's name; `expires` (0: with the list) is in
    seconds since the epoch. `format` is in lower case.
    """

    identifier: str
    title: str
    uri: str
    version: str
    size: int
    checksums: Mapping[str, str]
    format: str = ""
    description: str = ""
    os: str = ""
    os_version: str = ""
    expires: int = 0

    @property
    def name(self) -> Name | None:
        """Its name in a library, if the title is a valid name."""
        try:
            return parse_name(self.title)
        except Refused:
            return None


@dataclass(frozen=True)
class ImageList:
    """A list. Times are seconds since the epoch; `endorser` and `authority` are names in the one-line form, `/C=…/CN=…`."""

    identifier: str
    version: str
    created: int
    expires: int
    endorser: str
    authority: str
    images: tuple[ListedImage, ...]
    title: str = ""
    description: str = ""
    source: str = ""
    uri: str = ""
    email: str = ""
    creator: str = ""


def parse(content: bytes) -> ImageList:
    """Read a list. Raises `Refused`."""
    if len(content) > LIST_LIMIT:
        raise Refused(f"the list is larger than the limit of {LIST_LIMIT} bytes")
    whole = decode(content, "the list")
    fields = Fields.of(whole.values.get("hv:imagelist"), "hv:imagelist")
    x509 = fields.section("hv:endorser").section("hv:x509")
    created, expires = _time(fields, "dc:date:created"), _time(fields, "dc:date:expires")
    if expires <= created:
        raise Refused("the list expires before its creation date")
    images = tuple(
        _image(Fields.of(Fields.of(element, f"hv:images[{index}]").values.get("hv:image"), f"hv:images[{index}].hv:image"))
        for index, element in enumerate(fields.items("hv:images", MOST_IMAGES))
    )
    identifiers = [image.identifier for image in images]
    if len(set(identifiers)) != len(identifiers):
        raise Refused("the list has two images with the same identifier")
    return ImageList(
        identifier=fields.text("dc:identifier", _IDENTIFIER, limit=255),
        version=fields.text("hv:version", VERSION, limit=300),
        created=created,
        expires=expires,
        endorser=one_line(x509.text("hv:dn", limit=_DN_LIMIT)),
        authority=one_line(x509.text("hv:ca", limit=_DN_LIMIT)),
        images=images,
        title=_said(fields, "dc:title"),
        description=_said(fields, "dc:description"),
        source=_said(fields, "dc:source"),
        uri=_said(fields, "hv:uri"),
        email=_said(x509, "hv:email"),
        creator=_said(x509, "dc:creator"),
    )


def _image(fields: Fields) -> ListedImage:
    checksums = {
        name: _checksum(fields, name, pattern) for name, pattern in _CHECKSUMS.items() if fields.has(f"sl:checksum:{name}")
    }
    return ListedImage(
        identifier=fields.text("dc:identifier", _IDENTIFIER, limit=255),
        title=_said(fields, "dc:title"),
        uri=fields.text("hv:uri", limit=2048),
        version=_said(fields, "hv:version"),
        size=_size(fields),
        checksums=checksums,
        format=_said(fields, "hv:format").lower(),
        description=_said(fields, "dc:description"),
        os=_said(fields, "sl:os"),
        os_version=_said(fields, "sl:osversion"),
        expires=_time(fields, "dc:date:expires") if fields.has("dc:date:expires") else 0,
    )


def _checksum(fields: Fields, name: str, pattern: re.Pattern[str]) -> str:
    """A checksum. Some lists have capitals, or blanks around it."""
    text = line(fields.values.get(f"sl:checksum:{name}"), f"{fields.place}.sl:checksum:{name}", 300).strip().lower()
    if not pattern.fullmatch(text):
        raise Refused(f"{fields.place}.sl:checksum:{name} is not a {name} checksum")
    return text


def _size(fields: Fields) -> int:
    """The size in bytes: a number, or (AppDB) a string of digits."""
    value = fields.values.get("hv:size")
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= IMAGE_LIMIT:
        raise Refused(f"{fields.place}.hv:size is not a number of bytes up to {IMAGE_LIMIT}")
    return value


def _said(fields: Fields, name: str) -> str:
    """A text for people: numbers and several lines are accepted, and long ones are cut. Nothing depends on it."""
    value = fields.values.get(name)
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        return ""
    text = value[:4096] if isinstance(value, str) else str(value)[:64] if abs(value) < 10**18 else ""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:1024]


def _time(fields: Fields, name: str) -> int:
    """Seconds since the epoch of `%Y-%m-%dT%H:%M:%SZ`."""
    text = fields.text(name, _TIME, limit=32)
    try:
        return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
    except (ValueError, OverflowError):
        raise Refused(f"{fields.place}.{name} is {text}, which is not a date") from None


def one_line(name: str) -> str:
    """A certificate's name in OpenSSL's one-line form. Other spellings of addresses and non-ASCII letters are converted."""
    encoded = "".join(chr(byte) if byte < 128 else f"\\x{byte:02X}" for byte in name.strip().encode(errors="replace"))
    return _EMAIL.sub("/emailAddress=", encoded)


def compare(one: str, other: str) -> int:
    """Below zero where the one version is older than the other: number by number, `1.9` before `1.10`, `1` the same as `1.0`."""
    first, second = _numbers(one), _numbers(other)
    return (first > second) - (first < second)


def _numbers(version: str) -> list[int]:
    numbers = [int(part) for part in re.split("[.-]", version)]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers


def render(images: ImageList) -> bytes:
    """The list as JSON."""
    x509 = {
        "hv:dn": images.endorser,
        "hv:ca": images.authority,
        "hv:email": images.email,
        "dc:creator": images.creator,
    }
    return json.dumps(
        {
            "hv:imagelist": {
                "dc:identifier": images.identifier,
                "dc:title": images.title,
                "dc:description": images.description,
                "dc:source": images.source,
                "dc:date:created": format_time(images.created),
                "dc:date:expires": format_time(images.expires),
                "hv:version": images.version,
                "hv:uri": images.uri,
                "hv:endorser": {"hv:x509": x509},
                "hv:images": [{"hv:image": _rendered(image)} for image in images.images],
            }
        },
        indent=1,
    ).encode()


def _rendered(image: ListedImage) -> dict[str, object]:
    rendered: dict[str, object] = {
        "dc:identifier": image.identifier,
        "dc:title": image.title,
        "dc:description": image.description,
        "hv:uri": image.uri,
        "hv:version": image.version,
        "hv:size": image.size,
        "hv:hypervisor": "QEMU",
        "hv:format": image.format,
        "sl:arch": "x86_64",
        "sl:os": image.os,
        "sl:osversion": image.os_version,
        "sl:comments": "",
    }
    rendered |= {f"sl:checksum:{name}": value for name, value in image.checksums.items()}
    return rendered | ({"dc:date:expires": format_time(image.expires)} if image.expires else {})
