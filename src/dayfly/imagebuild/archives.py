"""Where packages come from: the archive that apt is configured with, or the mirror of the settings.

`apt-get indextargets` reports what apt uses, so its source lists need not be parsed. `apt-helper` finds out which suites exist,
with the proxy that apt is configured with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dayfly import process
from dayfly.errors import DayflyError, NotFound, ProgramFailed

_FIELDS = ("ORIGIN", "LABEL", "CODENAME", "COMPONENT", "REPO_URI", "SIGNED_BY")
_FORMAT = "\t".join(f"$({name})" for name in _FIELDS)
_HELPER = "/usr/lib/apt/apt-helper"
_PASSED_ON = (
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::Retries",
)


@dataclass(frozen=True)
class Distribution:
    """The facts about a distribution's archive."""

    id: str
    origin: str
    keyring: str
    keyring_package: str


DISTRIBUTIONS = {
    "debian": Distribution(
        "debian",
        "Debian",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "debian-archive-keyring",
    ),
    "ubuntu": Distribution(
        "ubuntu",
        "Ubuntu",
        "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
        "ubuntu-keyring",
    ),
}


@dataclass(frozen=True)
class Target:
    """One package list that apt is configured with."""

    origin: str
    label: str
    codename: str
    component: str
    uri: str
    signed_by: str


@dataclass(frozen=True)
class Archive:
    """The base addresses of a distribution's archive, and the keyring that its signatures are checked with."""

    main: str
    security: str
    keyring: str


@dataclass(frozen=True)
class Suite:
    """One suite of a release, and the archive that has it."""

    uri: str
    name: str


def parse_targets(text: str) -> list[Target]:
    """Read the output of `apt-get indextargets`. A field that apt does not know is printed as `$(NAME)`."""
    targets = []
    for line in text.splitlines():
        values = line.split("\t")
        if len(values) == len(_FIELDS):
            known = ["" if value == f"$({name})" else value for name, value in zip(_FIELDS, values, strict=True)]
            origin, label, codename, component, uri, signed_by = known
            targets.append(Target(origin, label, codename, component, uri.rstrip("/"), signed_by))
    return targets


def _is_of(target: Target, distribution: Distribution) -> bool:
    if target.origin:
        return target.origin == distribution.origin
    return target.uri.rpartition("/")[2] in (distribution.id, f"{distribution.id}-security")


def _is_security(target: Target) -> bool:
    return target.label.endswith("-Security") or target.codename.endswith("-security") or target.uri.endswith("-security")


def choose(targets: Iterable[Target], distribution: Distribution, mirror: str) -> Archive:
    """The archive to build from: the settings' mirror, or the one that apt uses. Raises `NotFound` with a hint."""
    ours = [target for target in targets if _is_of(target, distribution)]
    main = mirror.rstrip("/") or next((target.uri for target in ours if not _is_security(target)), "")
    if not main:
        raise NotFound(
            f"apt on this host has no archive of {distribution.origin} configured",
            f"set build.mirror in the settings to a mirror of {distribution.origin}, or add one to apt's sources",
        )
    security = next((target.uri for target in ours if _is_security(target) and target.uri != main), "")
    if mirror:
        beside = f"{main.rpartition('/')[0]}/{distribution.id}-security"
        security = beside if distribution.id == "debian" else main
    signed_by = next((target.signed_by for target in ours if target.uri == main and target.signed_by.startswith("/")), "")
    return Archive(main, security or main, signed_by or distribution.keyring)


def suites(archive: Archive, release: str) -> list[tuple[Suite, bool]]:
    """The suites that a release may have, each with whether it is required."""
    return [
        (Suite(archive.main, release), True),
        (Suite(archive.main, f"{release}-updates"), False),
        (Suite(archive.security, f"{release}-security"), False),
    ]


def configured() -> list[Target]:
    """The targets that apt is configured with, even if its lists were never fetched."""
    process.find("apt-get", "apt")
    command = ["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"]
    found = parse_targets(process.run(command).output.decode(errors="replace"))
    return found or parse_targets(process.run([*command, "--no-release-info"]).output.decode(errors="replace"))


def check_keyring(archive: Archive, distribution: Distribution) -> None:
    """Raise `NotFound` if the keyring is not installed."""
    if not Path(archive.keyring).is_file():
        raise NotFound(
            f"the keyring of {distribution.origin}'s archive is not installed: {archive.keyring}",
            f"install the package {distribution.keyring_package}",
        )


def options() -> list[str]:
    """The options for downloads of this host's apt, for the apt that fills the image."""
    output = process.run(["apt-config", "dump", "--format", "%F=%v%n", *_PASSED_ON]).output.decode(errors="replace")
    return parse_options(output)


def parse_options(text: str) -> list[str]:
    """Lines of apt.conf(5) with the settings that are passed on."""
    pairs = (line.partition("=") for line in text.splitlines())
    return [f'{name} "{value}";' for name, _, value in pairs if name in _PASSED_ON and value and '"' not in value]


def available(archive: Archive, release: str, folder: Path) -> list[Suite]:
    """The suites of a release that the archive has. Raises `NotFound` if it has none, `DayflyError` if it does not answer."""
    return [suite for suite, required in suites(archive, release) if _exists(suite, required, folder)]


def _exists(suite: Suite, required: bool, folder: Path) -> bool:
    address = f"{suite.uri}/dists/{suite.name}/InRelease"
    command = [_HELPER, "download-file", address, str(folder / "InRelease")]
    try:
        process.find(_HELPER, "apt")
        process.run(command)
    except ProgramFailed as error:
        if "404" not in error.tail and "File not found" not in error.tail:
            raise DayflyError(
                f"{suite.uri} cannot be reached: {' / '.join(error.tail.splitlines()[-2:])}",
                "check whether apt-get update works here, or set build.mirror in the settings to another mirror",
            ) from error
        if required:
            raise NotFound(
                f"{suite.uri} has no release {suite.name}",
                "check the recipe's release, or set build.mirror in the settings to a mirror that has it",
            ) from error
        return False
    return True


def source_lines(found: Sequence[Suite], components: Sequence[str], keyring: str) -> list[str]:
    """Lines of sources.list(5)."""
    signed = f"[signed-by={keyring}] " if keyring else ""
    return [f"deb {signed}{suite.uri} {suite.name} {' '.join(components)}" for suite in found]


def image_source_lines(found: Sequence[Suite], components: Sequence[str]) -> list[str]:
    """The image's sources.list: the archive that it was built from, without a password in its address."""
    return source_lines([Suite(_without_password(suite.uri), suite.name) for suite in found], components, "")


def _without_password(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
