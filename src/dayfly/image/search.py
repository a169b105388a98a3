"""A user's libraries: the site's first, then the user's own."""

from __future__ import annotations

from dayfly.errors import DayflyError, NotFound, Refused
from dayfly.image.layout import Entry, Index
from dayfly.image.library import Library, Listed, OpenImage
from dayfly.image.reference import LibraryKind, Name, Reference, parse
from dayfly.settings import Settings


class Libraries:
    """The site's library and the user's.

    The site's is trusted more: a name that both have means the site's image, and a notice says so.
    """

    def __init__(self, settings: Settings) -> None:
        self.system = Library(settings.library_system, LibraryKind.SYSTEM, weak_lists=settings.trust_weak_lists)
        self.user = Library(settings.library_user, LibraryKind.USER, weak_lists=settings.trust_weak_lists)

    def library(self, kind: LibraryKind) -> Library:
        """The library of a kind."""
        return self.system if kind is LibraryKind.SYSTEM else self.user

    def find(self, reference: Reference | str) -> tuple[Library, Entry, str]:
        """The image of a reference and its library, and a notice for the user (may be empty).

        Raises `NotFound`, `Refused` or `Corrupt`.
        """
        (library, _, entry), notice = self._search(parse(reference) if isinstance(reference, str) else reference)
        return library, entry, notice

    def _search(self, wanted: Reference) -> tuple[tuple[Library, Index, Entry], str]:
        """As `find`, with the index of the library."""
        if wanted.library is not None:
            return _look_up(self.library(wanted.library), wanted), ""
        found: list[tuple[Library, Index, Entry]] = []
        for library in (self.system, self.user):
            try:
                found.append(_look_up(library, wanted))
            except NotFound:
                continue
            except (DayflyError, OSError):
                if not found:  # the system's image can be run even if the user's library is damaged
                    raise
        if not found:
            raise NotFound(f"there is no image {wanted}", "`dayfly image list` shows the images, `dayfly image build` makes one")
        digests = {entry.descriptor.digest for _, _, entry in found}
        if len(digests) == 1:
            return found[0], ""
        if wanted.digest:
            raise Refused(f"{wanted.digest} is the beginning of {len(digests)} digests", "write more digits")
        return found[0], f"{wanted} is in both libraries: using the system library's; write user/{wanted} for yours"

    def both_have(self, name: Name) -> bool:
        """Whether both libraries have an image of this name, the same one or not."""
        return all(library.index().find(str(name)) is not None for library in (self.system, self.user))

    def open(self, reference: Reference | str) -> OpenImage:
        """Open an image to run it, see `Library.open`."""
        wanted = parse(reference) if isinstance(reference, str) else reference
        (library, index, _), notice = self._search(wanted)
        return library.open_in(index, wanted, notice)

    def warning(self, name: Name, target: LibraryKind) -> str:
        """A warning for a user who gives an image of this library that name (may be empty)."""
        if target is LibraryKind.SYSTEM or self.system.index().find(str(name)) is None:
            return ""
        return f"the system library has {name} too, and {name} means that image; write user/{name} for yours"

    def images(self) -> list[Listed]:
        """All images of both."""
        return [*self.system.images(), *self.user.images()]


def _look_up(library: Library, wanted: Reference) -> tuple[Library, Index, Entry]:
    index = library.index()
    return library, index, library.resolve_in(index, wanted)
