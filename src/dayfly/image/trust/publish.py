"""Publishes a signed list: the images as files, and the list that names them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dayfly import disknames, files
from dayfly.errors import Refused
from dayfly.image import archive
from dayfly.image.library import Library
from dayfly.image.reference import Reference
from dayfly.image.trust.imagelist import FORMAT, ImageList, ListedImage, parse, render
from dayfly.image.trust.smime import certificate, sign
from dayfly.image.trust.subscriptions import Progress
from dayfly.values import replace

LIST_NAME = disknames.PUBLISHED_LIST
_CERTIFICATE_LIMIT = 1024 * 1024


@dataclass(frozen=True)
class Endorser:
    """The signer, by PEM files, and the list's text about them."""

    certificate: Path
    key: Path
    passphrase: Path | None = None
    email: str = ""
    creator: str = ""


@dataclass(frozen=True)
class About:
    """The metadata of a list. `base` is the address of the folder with the list and its images; `seconds` is how long the list is
    valid.
    """

    identifier: str
    base: str
    seconds: float
    version: str = ""
    title: str = ""
    description: str = ""
    source: str = ""


def publish(
    images: Sequence[tuple[Library, Reference]], endorser: Endorser, about: About, folder: Path, progress: Progress
) -> ImageList:
    """Write a list and its images into a folder, the list last. Raises `DayflyError`."""
    signer, issuer, until = certificate(files.read(endorser.certificate, _CERTIFICATE_LIMIT))
    now = int(time.time())
    if until < now + about.seconds:
        end = time.strftime("%Y-%m-%d", time.gmtime(until))
        raise Refused(f"the certificate is valid only until {end}", "give a shorter time with --expires")
    if len({str(reference) for _, reference in images}) != len(images):
        raise Refused("an image is given twice", "give each image once")
    empty = ImageList(
        identifier=about.identifier,
        version=about.version or time.strftime("%Y%m%d%H%M%S", time.gmtime(now)),
        created=now,
        expires=now + int(about.seconds),
        endorser=signer,
        authority=issuer,
        images=(),
        title=about.title or about.identifier,
        description=about.description,
        source=about.source,
        uri=f"{about.base.rstrip('/')}/{LIST_NAME}",
        email=endorser.email,
        creator=endorser.creator,
    )
    _signed(empty, endorser)  # fail before files are written if the list cannot be signed or read back
    listed = tuple(_listed(library, reference, about, empty.version, folder, progress) for library, reference in images)
    signed_at = int(time.time())
    made = replace(empty, images=listed, created=signed_at, expires=signed_at + int(about.seconds))
    files.write(folder / LIST_NAME, _signed(made, endorser))
    return made


def _signed(images: ImageList, endorser: Endorser) -> bytes:
    content = render(images)
    if parse(content) != images:
        raise Refused("the list could not be read back", "check its version, texts and addresses")
    return sign(content, endorser.certificate, endorser.key, endorser.passphrase)


def _listed(library: Library, reference: Reference, about: About, version: str, folder: Path, progress: Progress) -> ListedImage:
    digest, _, config = library.inspect(reference)
    names = library.names(digest)
    title = str(reference.name) if reference.name and not reference.digest else next(iter(names), digest)
    file = f"{title.replace(':', '-')}-{digest[7:19]}.oci.tar"
    progress(f"{title}: writing {folder / file}")
    packed = archive.pack(library, Reference(None, digest, None), folder / file)
    return ListedImage(
        identifier=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{about.identifier}/{title}")),
        title=title,
        uri=f"{about.base.rstrip('/')}/{file}",
        version=version,
        size=packed.size,
        checksums=packed.checksums,
        format=FORMAT,
        description=f"{title}, {digest}",
        os=config.os.id,
        os_version=config.os.version,
    )
