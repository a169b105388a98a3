"""Pushes and pulls images as OCI artifacts: bit for bit, and only the blobs that are missing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from dayfly import files, process
from dayfly.errors import Corrupt, DayflyError, NotFound, Refused
from dayfly.image import blobs
from dayfly.image.blobs import Part
from dayfly.image.copying import copy
from dayfly.image.layout import Index, Layout, render_index
from dayfly.image.library import Entering, Library
from dayfly.image.manifest import CONFIG_LIMIT, MANIFEST_LIMIT, MANIFEST_TYPE, Descriptor, Manifest, parse_config, parse_manifest
from dayfly.image.origin import Origin
from dayfly.image.reference import DEFAULT_TAG, Name, Reference
from dayfly.image.trust import cosign
from dayfly.image.trust.cosign import Signature
from dayfly.image.work import remove_tree, resumable_folder, sweep, work_folder
from dayfly.imagebuild import signatures
from dayfly.imagebuild.containerimage.source import Source, Transport
from dayfly.imagebuild.containerimage.source import parse as parse_source
from dayfly.imagebuild.filesystem import Progress
from dayfly.imagebuild.skopeo import SLACK, Access, Skopeo
from dayfly.units import format_size

_NAME = "image"
_BLOBS = "blobs"
_AGAIN = "run the same command again; it resumes"


@dataclass(frozen=True)
class Remote:
    """An image in a registry, and the access to it."""

    source: Source
    access: Access

    def named(self, digest: str = "") -> str:
        """The image's address for skopeo, by this digest or as the user wrote it."""
        digest = digest or self.source.digest
        return f"docker://{self.source.repository}{f'@{digest}' if digest else f':{self.source.tag or DEFAULT_TAG}'}"


def parse(text: str) -> Source:
    """Read the address of an image in a registry. Raises `Refused`."""
    if not text.startswith(f"{Transport.REGISTRY}:"):
        raise Refused(f"{text[:200]!r} is not an address in a registry", "write docker://HOST/NAME:TAG")
    return parse_source(text)


def push(library: Library, reference: Reference, remote: Remote, workplace: Library, progress: Progress) -> str:
    """Push an image to a registry and return its digest. What the registry already has is not sent again.

    `workplace` is a writable library. Raises as `Library.open`, `NotFound`, `Refused`, `DayflyError`.
    """
    process.find("skopeo", "skopeo")
    _check_tag(remote.source)
    workplace.create()
    sweep(workplace.layout)
    with library.open(reference) as image, work_folder(workplace.layout) as work:
        size = library.layout.blob(image.digest).stat().st_size
        _, manifest, _ = library.inspect(Reference(None, image.digest, None))
        layout = Layout(work.path / "layout")
        layout.create(public=False)
        for digest in {image.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)}:
            layout.blob(digest).symlink_to(library.layout.blob(digest).absolute())
        files.write(layout.index, render_index(Index().adding(image.digest, size, _NAME)))
        total = sum(blob.size for blob in (manifest.config, *manifest.layers))
        progress(f"registry: sending what {remote.source.host} is missing of {format_size(total)}")
        skopeo = Skopeo(work.path, remote.access, remote.source.host, "send to", "accepted nothing", _AGAIN)
        words = ["copy", "--quiet", "--preserve-digests", *skopeo.options("dest-"), f"oci:layout:{_NAME}", remote.named()]
        skopeo.send(words, "output")
        if found := _signatures(library, image.digest):
            progress(f"registry: sending its signatures, {len(found)}")
            signatures.send(skopeo, remote.source.repository, image.digest, found)
        return image.digest


def _signatures(library: Library, digest: str) -> list[Signature]:
    try:
        return cosign.signatures(library, digest)
    except NotFound:
        return []


def pull(remote: Remote, name: Name | None, library: Library, limit: int, progress: Progress) -> str:
    """Pull an image of at most `limit` bytes from a registry into a library, under this name if any, and return its digest.

    What the library has is not fetched. Blobs that a failed or killed pull had fetched stay in `.dayfly`, and are not fetched
    again, until the image is pulled or garbage is collected. Everything is compared with its digest and size before it enters
    the library. Raises `NotFound`, `Refused` if it is not a Dayfly image or too large, `Corrupt`, `DayflyError`.
    """
    process.find("skopeo", "skopeo")
    library.create()
    sweep(library.layout)
    source = remote.source
    with work_folder(library.layout) as work, contextlib.ExitStack() as until_entered:
        progress(f"registry: looking for {source}")
        descriptor, manifest = _manifest(Skopeo(work.path, remote.access, source.host, again=_AGAIN), remote)
        wanted = _descriptors(descriptor, manifest)
        total = _total(remote, wanted, limit)
        folder = until_entered.enter_context(resumable_folder(library.layout, descriptor.digest.removeprefix("sha256:")))
        missing = [blob for blob in wanted if not _held(library.layout, blob, until_entered)]
        store = _tidied(folder, missing)
        for blob in wanted:
            if blob not in missing:
                _blob(store, blob).symlink_to(library.layout.blob(blob.digest).absolute())
        left = [blob for blob in missing if not _blob(store, blob).exists()]
        if left:
            size = format_size(sum(blob.size for blob in left))
            progress(f"registry: fetching {len(left)} of {len(wanted)} blobs, {size}")
            _fetch(Skopeo(folder, remote.access, source.host, again=_AGAIN), remote, descriptor.digest, total)
        for blob in missing:
            if wrong := _wrong(_blob(store, blob), blob):
                raise Corrupt(f"{source.host} sent a blob that {wrong}: {blob.digest}")
        parse_config(files.read(_blob(store, manifest.config), CONFIG_LIMIT), f"the config of {source}")
        contents = {blob.digest: Part(_blob(store, blob), 0, blob.size) for blob in missing}
        origin = Origin.now(source, descriptor.digest).annotations()
        progress("image: adding it to the library")
        library.enter([Entering(descriptor.digest, descriptor.size, name, contents, origin)], lambda _: True)
        _fetch_signatures(
            Skopeo(work.path, remote.access, source.host, again=_AGAIN), remote, descriptor.digest, library, progress
        )
        return descriptor.digest


def _fetch_signatures(skopeo: Skopeo, remote: Remote, digest: str, library: Library, progress: Progress) -> None:
    """Fetch an image's signatures too. A failure is only reported: the signatures are verified later."""
    try:
        found = signatures.fetch(skopeo, remote.source.repository, digest)
    except DayflyError as error:
        progress(f"registry: its signatures cannot be fetched: {error.message}")
        return
    if found:
        cosign.attach(library, digest, found)
        progress(f"registry: it is signed; `dayfly trust verify {digest[:19]}` shows by whom")


def pull_through(folder: Path, remote: Remote, name: Name, library: Library, limit: int, progress: Progress) -> str:
    """As `pull`, but fetched into a library in a shared folder first, where it stays, without a name, for other hosts.

    If several pull an image at once, one fetches it, and the others wait for it. What is taken from the folder is compared
    with the digests from the registry, so the result is right whatever the folder holds. Users who may write there must be
    trusted all the same: files are made and removed in it with the rights of the user who pulls.
    """
    cache = Library(folder)
    digest = pull(remote, None, cache, limit, progress)
    progress(f"image: adding it to the library from {folder}")
    return copy(cache, Reference(None, digest), library, name, Origin.now(remote.source, digest).annotations())


def relay(source: Remote, target: Source, workplace: Library, limit: int, progress: Progress) -> str:
    """Copy an image of at most `limit` bytes from a registry to another, with the same kind of access, and return its digest.
    Nothing is stored here.

    What the target already has is not sent again. `workplace` is a writable library. Raises as `pull` and `push`.
    """
    process.find("skopeo", "skopeo")
    _check_tag(target)
    workplace.create()
    sweep(workplace.layout)
    with work_folder(workplace.layout) as work:
        progress(f"registry: looking for {source.source}")
        descriptor, manifest = _manifest(Skopeo(work.path, source.access, source.source.host, again=_AGAIN), source)
        total = _total(source, _descriptors(descriptor, manifest), limit)
        progress(f"registry: sending what {target.host} is missing of {format_size(total)}")
        hosts = f"{source.source.host} and {target.host}"
        skopeo = Skopeo(work.path, source.access, hosts, "copy between", "transferred nothing", _AGAIN)
        options = [*skopeo.options("src-"), *skopeo.options("dest-")]
        there = Remote(target, source.access).named()
        words = ["copy", "--quiet", "--preserve-digests", *options, source.named(descriptor.digest), there]
        skopeo.send(words, "output", most=2 * total + SLACK * 8)
        if found := signatures.fetch(skopeo, source.source.repository, descriptor.digest):
            progress(f"registry: sending its signatures, {len(found)}")
            signatures.send(skopeo, target.repository, descriptor.digest, found)
        return descriptor.digest


def _check_tag(target: Source) -> None:
    if target.digest:
        raise Refused("an image is pushed under a tag, not under a digest", "write docker://HOST/NAME:TAG")


def _descriptors(descriptor: Descriptor, manifest: Manifest) -> list[Descriptor]:
    """All descriptors of an image, each once."""
    return list({blob.digest: blob for blob in (descriptor, manifest.config, *manifest.layers)}.values())


def _total(remote: Remote, descriptors: list[Descriptor], limit: int) -> int:
    """An image's size in bytes. Raises `Refused` if it is above the limit."""
    total = sum(blob.size for blob in descriptors)
    if total > limit:
        more = f"more than the limit of {format_size(limit)}"
        raise Refused(f"{remote.source} is {format_size(total, limit)}, {more}", "--max-size raises it")
    return total


def _manifest(skopeo: Skopeo, remote: Remote) -> tuple[Descriptor, Manifest]:
    """The manifest in the registry."""
    words = ["inspect", "--raw", *skopeo.options(""), remote.named()]
    content = skopeo.receive(words, "manifest", most=16 * MANIFEST_LIMIT, largest=2 * MANIFEST_LIMIT)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if remote.source.digest and digest != remote.source.digest:
        raise Corrupt(f"{skopeo.host} sent a manifest other than {remote.source.digest}")
    return Descriptor(MANIFEST_TYPE, digest, len(content)), parse_manifest(content, f"the manifest of {remote.source}")


def _held(layout: Layout, blob: Descriptor, until_entered: contextlib.ExitStack) -> bool:
    """Whether a library has a blob, undamaged. Then it is locked against garbage collection."""
    try:
        descriptor = blobs.open_blob(layout, blob, blob.digest)
    except (NotFound, Corrupt):
        return False
    until_entered.callback(os.close, descriptor)
    return True


def _blob(store: Path, blob: Descriptor) -> Path:
    return store / blob.digest.removeprefix("sha256:")


def _tidied(folder: Path, missing: list[Descriptor]) -> Path:
    """The folder for fetched blobs, with only those earlier ones that are intact."""
    for path in folder.iterdir():
        if path.name != _BLOBS:
            remove_tree(path)
    store = folder / _BLOBS / "sha256"
    store.mkdir(parents=True, exist_ok=True)
    good = {_blob(store, blob) for blob in missing if not _wrong(_blob(store, blob), blob)}
    for path in store.iterdir():
        if path not in good:
            path.unlink()
    return store


def _wrong(path: Path, blob: Descriptor) -> str:
    """What is wrong with a fetched blob (may be empty)."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return "is missing"
    if not stat.S_ISREG(status.st_mode) or status.st_size != blob.size:
        return f"does not have {blob.size} bytes"
    with path.open("rb") as file:
        return "" if blobs.digest_of(file.fileno()) == blob.digest else "does not match its digest"


def _fetch(skopeo: Skopeo, remote: Remote, digest: str, total: int) -> None:
    """Have skopeo fetch what is missing into the folder of blobs. Each blob appears atomically."""
    shared = ["--dest-shared-blob-dir", _BLOBS]
    words = ["copy", "--quiet", "--preserve-digests", *skopeo.options("src-"), *shared, remote.named(digest), f"oci:got:{_NAME}"]
    skopeo.receive(words, "output", most=total + SLACK * 8, largest=total + SLACK)
