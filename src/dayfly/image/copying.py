"""An image from one library to another, bit for bit."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from dayfly.errors import NotFound
from dayfly.image.blobs import Part
from dayfly.image.layout import REF_NAME
from dayfly.image.library import Entering, Library
from dayfly.image.reference import Name, Reference
from dayfly.image.trust import cosign


def copy(
    source: Library, reference: Reference, target: Library, name: Name | None, notes: Mapping[str, str] | None = None
) -> str:
    """Copy an image under this name and return its digest. An image that had the name loses it.

    `notes` about its origin replace those that it has (`dayfly.image.origin`). Its signatures are copied. What lists say
    about it, and which signatures were found valid, belongs to the source library and is not copied. The image's blobs are
    locked meanwhile, and each is compared with its digest again. Raises as `Library.open` and `Library.enter`.
    """
    entry = source.resolve(reference)
    with source.open(reference):
        _, manifest, _ = source.inspect(reference)
        descriptors = {blob.digest: blob for blob in (entry.descriptor, manifest.config, *manifest.layers)}
        contents = {digest: Part(source.layout.blob(digest), 0, blob.size) for digest, blob in descriptors.items()}
        if notes is None:
            notes = {key: value for key, value in entry.descriptor.annotations.items() if key != REF_NAME}
        entering = Entering(entry.descriptor.digest, entry.descriptor.size, name, contents, notes)
        try:
            target.enter([entering], lambda _: True)
        except FileNotFoundError as error:
            raise NotFound(f"{reference} was removed from the {source.title} just now") from error
    with contextlib.suppress(NotFound):
        cosign.attach(target, entry.descriptor.digest, cosign.signatures(source, entry.descriptor.digest))
    return entry.descriptor.digest
