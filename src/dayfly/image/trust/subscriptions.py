"""Subscriptions to signed lists: subscribing, updating, removing. A failure changes nothing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from dayfly import disknames, files
from dayfly.errors import DayflyError, NoSpace, NotFound, Refused
from dayfly.image import archive
from dayfly.image.library import Entering, Library
from dayfly.image.reference import LibraryKind
from dayfly.image.trust.fetch import fetch
from dayfly.image.trust.imagelist import FORMAT, IMAGE_LIMIT, ImageList, ListedImage, compare, parse
from dayfly.image.trust.judging import day, weakness
from dayfly.image.trust.smime import SIGNED_LIMIT, Signed, verify
from dayfly.image.trust.state import Accepted, Entry, State, Subscription, changing, fingerprint, read, render, signed_path
from dayfly.image.work import sweep, work_folder
from dayfly.values import replace

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """A requested subscription. Empty `identifier` and `issuer`: those of the first version of the list."""

    name: str
    place: str
    endorsers: tuple[str, ...]
    authorities: tuple[str, ...]
    revocations: tuple[str, ...] = ()
    identifier: str = ""
    issuer: str = ""


@dataclass(frozen=True)
class Updated:
    """The result of an update: the accepted list, the images that it brought, and notes for the user."""

    accepted: Accepted
    entered: tuple[str, ...]
    notes: tuple[str, ...]


def subscribe(library: Library, wanted: Wanted, progress: Progress) -> Updated:
    """Subscribe to a list, and fetch its images. Raises `Refused` for a list that is not to be trusted; `DayflyError`."""
    prepare(library)
    with changing(library.layout) as versions:
        state = versions[-1]
        if wanted.name in state.lists:
            raise Refused(f"there is already a subscription {wanted.name}", "remove that one, or choose another --name")
        new = Subscription(
            place=wanted.place,
            identifier=wanted.identifier,
            endorsers=wanted.endorsers,
            issuer=wanted.issuer,
            authorities=wanted.authorities,
            revocations=wanted.revocations,
            accepted=Accepted(),
        )
        return _update(library, wanted.name, new, versions, progress)


def update(library: Library, name: str, progress: Progress) -> Updated:
    """Fetch a list again, and its new images. Raises `Refused` for a list that is not to be trusted; `DayflyError`."""
    prepare(library)
    with changing(library.layout) as versions:
        return _update(library, name, _subscription(versions[-1], name), versions, progress)


def remove(library: Library, name: str) -> list[str]:
    """Remove a subscription: the digests of the images that no list endorses now. Raises `NotFound`."""
    prepare(library)
    with changing(library.layout) as versions:
        state = versions[-1]
        _subscription(state, name)
        left = {other: subscription for other, subscription in state.lists.items() if other != name}
        stopped = _stopped(state, name, (), f"the list '{name}' was removed on {day(int(time.time()))}")
        versions.append(replace(state, lists=left, images=stopped))
    return [digest for digest, entries in stopped.items() if any(entry.list == name for entry in entries)]


def prepare(library: Library) -> None:
    """Make the folder if it is missing. Everybody may read the site's. Raises `Refused` if that is not permitted."""
    library.create()
    folder = library.layout.trust
    try:
        folder.mkdir(exist_ok=True)
        if library.kind is LibraryKind.SYSTEM:
            folder.chmod(0o755)
    except PermissionError as error:
        hint = "only its owner can change its subscriptions"
        raise Refused(f"the {library.title} cannot be changed: {error.strerror}", hint) from error
    if not os.access(folder, os.W_OK):
        raise Refused(f"the {library.title} cannot be changed", "only its owner can change its subscriptions")


def _subscription(state: State, name: str) -> Subscription:
    if name not in state.lists:
        known = f"subscriptions: {', '.join(sorted(state.lists))}" if state.lists else "`dayfly trust subscribe` makes one"
        raise NotFound(f"there is no subscription {name}", known)
    return state.lists[name]


def _update(library: Library, name: str, subscription: Subscription, versions: list[State], progress: Progress) -> Updated:
    before = versions[-1]
    now = int(time.time())
    watched = {path: fingerprint(path) for path in (*subscription.authorities, *subscription.revocations)}
    progress(f"{name}: fetching {subscription.place}")
    sweep(library.layout)  # what a killed update left
    with work_folder(library.layout) as work, files.reporting_full_disk(work.path):
        message = _fetched(subscription.place, work.path / "list", SIGNED_LIMIT)
        signed = verify(message, subscription.authorities, subscription.revocations, weak=library.weak_lists)
        images = parse(signed.content)
        followed = check(subscription, images, signed, now)
        content = hashlib.sha256(signed.content).hexdigest()
        _check_version(images, content, subscription.accepted)
        there = {entry.descriptor.digest: entry.descriptor.size for entry in library.index().entries}
        here = {entry.checksum: (digest, size) for digest, size in there.items() for entry in before.images.get(digest, ())}
        examine = _Examiner(here, work.path, progress, only_https=subscription.place.startswith("https://"))
        found = {image.identifier: examine(image) for image in images.images if _ours(image)}
        digests = {identifier: one.digest for identifier, one in found.items()}
        accepted = _accepted(images, signed, now, hashlib.sha256(message).hexdigest(), content, watched)
        after = _after(there, before, name, replace(followed, accepted=accepted), images, digests)
        files.write(signed_path(library.layout, accepted), message)
        taken = _enter(library, list(found.values()), versions, after, name)
    skipped = [f"{image.title or image.identifier} is not an image for Dayfly" for image in images.images if not _ours(image)]
    notes = [f"{taken_name} is already another image here: the list's image has no name" for taken_name in taken]
    weak = [weakness(name, after.lists[name])] if accepted.weak else []
    return Updated(accepted, tuple(one.digest for one in found.values() if one.contents), (*weak, *notes, *skipped))


def _accepted(images: ImageList, signed: Signed, now: int, message: str, content: str, watched: Mapping[str, str]) -> Accepted:
    return Accepted(
        version=images.version,
        created=images.created,
        until=min(images.expires, signed.until),
        updated=now,
        endorser=signed.signer,
        issuer=signed.issuer,
        signed=message,
        content=content,
        title=images.title,
        watched=watched,
        weak=signed.weak,
    )


def _enter(library: Library, entering: list[Entering], versions: list[State], after: State, name: str) -> list[str]:
    """Enter the images. Their state is written first: an image is never there without its list."""
    before = versions[-1]
    path = library.layout.trust / disknames.TRUST_STATE
    existed = path.exists()
    files.write(path, render(after))
    try:
        ours = {digest for digest, entries in before.images.items() if any(entry.list == name for entry in entries)}
        taken = library.enter(entering, lambda digest: digest in ours and digest not in before.local)
    except BaseException:
        if existed:
            files.write(path, render(before))
        else:
            path.unlink()
        with contextlib.suppress(DayflyError, OSError):
            library.collect()
        raise
    versions.append(after)
    return taken


def _fetched(place: str, path: Path, limit: int) -> bytes:
    with path.open("xb") as file:
        fetch(place, file.fileno(), limit)
    return files.read(path, limit)


def check(subscription: Subscription, images: ImageList, signed: Signed, now: int) -> Subscription:
    """Compare a list with the subscription, and fill in what the subscription left open. Raises `Refused`."""
    if (images.endorser, images.authority) != (signed.signer, signed.issuer):
        says = f"the list says that {images.endorser} ({images.authority}) endorses it"
        raise Refused(f"{says}, but {signed.signer} ({signed.issuer}) signed it")
    if signed.signer not in subscription.endorsers:
        raise Refused(f"it is signed by {signed.signer}", f"trusted: {', '.join(subscription.endorsers)}")
    if subscription.issuer and signed.issuer != subscription.issuer:
        raise Refused(f"the signer's certificate is from {signed.issuer}", f"trusted: {subscription.issuer}")
    if subscription.identifier and images.identifier != subscription.identifier:
        raise Refused(f"it is the list {images.identifier}", f"the subscription is for {subscription.identifier}")
    if images.created > now:
        raise Refused(f"the list's date is in the future: {day(images.created)}", "check this host's clock")
    if images.expires <= now:
        raise Refused(f"the list expired on {day(images.expires)}")
    return replace(subscription, identifier=images.identifier, issuer=signed.issuer)


def _check_version(images: ImageList, content: str, accepted: Accepted) -> None:
    """Raises `Refused` for a list that is older than the accepted one, or differs from it with the same version."""
    order = compare(images.version, accepted.version) if accepted.version else 1
    if order < 0:
        raise Refused(f"version {images.version} is older than the accepted version {accepted.version}")
    if order == 0 and content != accepted.content:
        raise Refused(f"it differs from the accepted list, with the same version {images.version}")


def _ours(image: ListedImage) -> bool:
    return image.format == FORMAT


def _checksum(image: ListedImage) -> str:
    return next((f"{name}:{value}" for name, value in sorted(image.checksums.items(), reverse=True)), "")


@dataclass(frozen=True)
class _Examiner:
    """Fetches the images of a list that are not in the library, and checks every part of them.

    `here` are those in the library: digests and sizes by the checksums of their files.
    """

    here: Mapping[str, tuple[str, int]]
    work: Path
    progress: Progress
    only_https: bool

    def __call__(self, image: ListedImage) -> Entering:
        """What is to be entered; for an image that the library has by the same checksum, only its name. Raises `Refused`."""
        label = image.title or image.identifier
        if not image.checksums:
            raise Refused(f"{label} has no checksum on the list", "sl:checksum:sha512 or sl:checksum:sha256 is required")
        if _checksum(image) in self.here:
            return Entering(*self.here[_checksum(image)], image.name, {})
        path = self._fetched(image, label)
        try:
            return archive.examine(path, image.name)
        except Refused as error:
            raise Refused(f"{label}: {error.message}", error.hint) from error

    def _fetched(self, image: ListedImage, label: str) -> Path:
        if self.only_https and not image.uri.startswith("https://"):
            raise Refused(f"{label} is at {image.uri}", "a list that was fetched by https may only name images by https")
        free = os.statvfs(self.work)
        if free.f_bavail * free.f_frsize < 2 * image.size:
            raise NoSpace(f"no space left in {self.work.parent} for {label}", "make room for the file and for its content")
        self.progress(f"{label}: fetching {image.uri}")
        path = self.work / hashlib.sha256(image.identifier.encode()).hexdigest()
        with path.open("x+b") as file:
            size = fetch(image.uri, file.fileno(), min(image.size, IMAGE_LIMIT))
            if size != image.size:
                raise Refused(f"{label} has {size} bytes, but {image.size} on the list")
            sums = archive.checksums(file.fileno())
        for name, value in image.checksums.items():
            if sums[name] != value:
                raise Refused(f"{label} does not match the list: its {name} differs")
        return path


def _after(
    there: Collection[str],
    before: State,
    name: str,
    subscription: Subscription,
    images: ImageList,
    digests: Mapping[str, str],
) -> State:
    """The state after a list was accepted. `there` are the images that the library had before, `digests` those of the list."""
    accepted = subscription.accepted
    known = _stopped(
        before, name, set(digests.values()), f"it is not on the list '{name}' any more, since version {images.version}"
    )
    known = {digest: entries for digest, entries in known.items() if digest in there}
    local = {digest for digest in before.local if digest in there}
    for image in images.images:
        digest = digests.get(image.identifier)
        if digest is None:
            continue
        if digest not in before.images and digest in there:
            local.add(digest)
        others = tuple(entry for entry in known.get(digest, ()) if entry.list != name)
        entered = next((entry.entered for entry in known.get(digest, ()) if entry.list == name), accepted.updated)
        entry = Entry(
            list=name,
            identifier=image.identifier,
            title=image.title,
            checksum=_checksum(image),
            version=images.version,
            origin=f"list:{images.identifier}",
            endorser=accepted.endorser,
            entered=entered,
            until=min(image.expires, accepted.until) if image.expires else accepted.until,
        )
        known[digest] = (*others, entry)
    return replace(before, lists={**before.lists, name: subscription}, images=known, local=tuple(sorted(local)))


def _stopped(state: State, name: str, still: Collection[str], why: str) -> dict[str, tuple[Entry, ...]]:
    """The images, with those of one list that are not in `still` stopped."""
    return {
        digest: tuple(
            replace(entry, stopped=entry.stopped or why) if entry.list == name and digest not in still else entry
            for entry in entries
        )
        for digest, entries in state.images.items()
    }


def known(library: Library) -> State:
    """The state of a library's lists; empty if there is none. Raises `Corrupt`."""
    return read(library.layout) or State()
