"""An image's manifest and config: read strictly, written canonically; bytes in, bytes out.

docs/reference/image-format.md describes the format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from dayfly.errors import Refused
from dayfly.guest.boot import BootMode
from dayfly.image.fields import Fields, decode, encode
from dayfly.image.reference import is_digest
from dayfly.values import dataclass, field

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
ARTIFACT_TYPE = "application/vnd.dayfly.image.v1"
TITLE = "org.opencontainers.image.title"

MANIFEST_LIMIT = 4 * 1024**2
CONFIG_LIMIT = 4 * 1024**2
LAYER_LIMIT = 64
BLOB_LIMIT = 1024**4
SCHEMA = 1
_WORD_LIMIT = 128 * 1024

_MEDIA_TYPE = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_LAYER_TYPE = r"application/vnd\.dayfly\.image\.(root|kernel|modules|boot-modules|disk)\.v1\.([a-z0-9]+)"
_WORD = r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}"
_OS_ID = r"[a-z0-9][a-z0-9._-]{0,63}"
_USER = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,31})?|"
_VARIABLE = r"(?s:([A-Za-z_][A-Za-z0-9_]{0,255})=(.*))"
_TIME = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z"
_COMMAND_LINE = r"[\x20-\x7e]{0,1024}"
_DIGEST = r"sha256:[0-9a-f]{64}"
_OPTIONAL_DIGEST = r"(?:sha256:[0-9a-f]{64})?"


class Role(StrEnum):
    """What a layer is for."""

    ROOT = "root"
    KERNEL = "kernel"
    MODULES = "modules"
    BOOT_MODULES = "boot-modules"
    DISK = "disk"


FORMATS: Mapping[Role, frozenset[str]] = {
    Role.ROOT: frozenset({"erofs", "squashfs"}),
    Role.KERNEL: frozenset({"elf"}),
    Role.MODULES: frozenset({"erofs", "squashfs"}),
    Role.BOOT_MODULES: frozenset({"cpio"}),
    Role.DISK: frozenset({"qcow2"}),
}
_FILE_NAMES = {
    Role.ROOT: "root.{}",
    Role.KERNEL: "vmlinux",
    Role.MODULES: "modules.{}",
    Role.BOOT_MODULES: "boot-modules.{}",
    Role.DISK: "disk.{}",
}
_SMALL = {Role.KERNEL: 256 * 1024**2, Role.BOOT_MODULES: 256 * 1024**2}


def layer_type(role: Role, form: str) -> str:
    """The media type of a layer: `application/vnd.dayfly.image.root.v1.erofs`."""
    return f"application/vnd.dayfly.image.{role}.v1.{form}"


@dataclass(frozen=True)
class Descriptor:
    """A descriptor: the media type, digest and size of a blob."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def role(self) -> Role | None:
        """What the layer is for; None for a layer that is not Dayfly's."""
        match = re.fullmatch(_LAYER_TYPE, self.media_type)
        return Role(match[1]) if match else None

    @property
    def form(self) -> str:
        """The layer's format: the filesystem's type, `elf` or `cpio`."""
        return self.media_type.rpartition(".")[2]

    def render(self) -> dict[str, object]:
        """The descriptor as JSON values."""
        rendered: dict[str, object] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return rendered | ({"annotations": dict(self.annotations)} if self.annotations else {})


def layer(role: Role, form: str, digest: str, size: int) -> Descriptor:
    """The descriptor of a layer, with the file name under which `oras pull` stores it."""
    return Descriptor(layer_type(role, form), digest, size, {TITLE: _FILE_NAMES[role].format(form)})


def parse_descriptor(fields: Fields, *, annotated: bool = True) -> Descriptor:
    """Read a descriptor; without `annotated`, its annotations are ignored. Raises `Refused`."""
    digest = fields.values.get("digest")
    if not isinstance(digest, str) or not is_digest(digest):
        raise Refused(f"{fields.place}.digest is not a sha256 digest")
    return Descriptor(
        fields.text("mediaType", _MEDIA_TYPE, limit=255),
        digest,
        fields.number("size", 0, BLOB_LIMIT),
        fields.table("annotations", entries=256, limit=4096) if annotated else {},
    )


@dataclass(frozen=True)
class OperatingSystem:
    """The values in the image's /etc/os-release."""

    id: str
    version: str = ""
    pretty_name: str = ""


@dataclass(frozen=True)
class Kernel:
    """The image's kernel: its release (as in `uname -r`) and the image's words for its command line. Both are empty for a whole
    disk.
    """

    version: str = ""
    command_line: str = ""


@dataclass(frozen=True)
class Parent:
    """The image whose machine an image was captured from: its digest, and its name at that time (may be empty)."""

    digest: str
    name: str = ""


@dataclass(frozen=True)
class ImageConfig:
    """An image's config. `created` is the date of the recipe or container image, or the time of the capture, and `size` that of
    the root's files (or of the disk), in bytes. `entrypoint` followed by `command` runs in `directory` if a job has no
    command.
    """

    os: OperatingSystem
    kernel: Kernel = Kernel()
    architecture: str = "amd64"
    boot: BootMode = BootMode.AGENT
    size: int = 0
    created: str = "1970-01-01T00:00:00Z"
    recipe: str = ""
    default_user: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    parent: Parent | None = None


def render_config(config: ImageConfig, layers: list[Descriptor]) -> bytes:
    """The config blob: an OCI image config whose member `dayfly` has the fields that OCI does not have.

    The layers are not archives, so the "uncompressed" digests that OCI requires are the layers' own.
    """
    process: dict[str, object] = {"Env": [f"{name}={value}" for name, value in sorted(config.environment.items())]}
    process |= {"Labels": dict(config.labels)} if config.labels else {}
    process |= {"User": config.default_user} if config.default_user else {}
    process |= {"Entrypoint": list(config.entrypoint)} if config.entrypoint else {}
    process |= {"Cmd": list(config.command)} if config.command else {}
    process |= {"WorkingDir": config.directory} if config.directory else {}
    own: dict[str, object] = {
        "schema": SCHEMA,
        "boot": str(config.boot),
        "os": {"id": config.os.id, "version": config.os.version, "prettyName": config.os.pretty_name},
        "size": config.size,
    }
    kernel = {"version": config.kernel.version, "commandLine": config.kernel.command_line}
    own |= {} if config.boot.by_firmware else {"kernel": kernel}
    own |= {"recipe": config.recipe} if config.recipe else {}
    own |= {"parent": {"digest": config.parent.digest, "name": config.parent.name}} if config.parent else {}
    return encode(
        {
            "architecture": config.architecture,
            "os": "linux",
            "created": config.created,
            "config": process,
            "rootfs": {"type": "layers", "diff_ids": [descriptor.digest for descriptor in layers]},
            "dayfly": own,
        }
    )


def parse_config(content: bytes, place: str = "config") -> ImageConfig:
    """Read a config blob. Raises `Refused`."""
    fields = decode(content, place)
    if not fields.has("dayfly"):
        raise Refused(f"{place} is not that of a Dayfly image")
    own = fields.section("dayfly")
    schema = own.number("schema", 1, 1_000_000)
    if schema != SCHEMA:
        raise Refused(f"{place} has the format {schema}, but this Dayfly supports only {SCHEMA}", "use a newer Dayfly")
    fields.one_of("os", ["linux"])
    boots = BootMode(own.one_of("boot", list(BootMode)))
    process, system, kernel = fields.section("config"), own.section("os"), own.section("kernel")
    return ImageConfig(
        os=_operating_system(system),
        kernel=Kernel() if boots.by_firmware else Kernel(kernel.text("version", _WORD), _command_line(kernel)),
        architecture=fields.one_of("architecture", ["amd64"]),
        boot=boots,
        size=own.number("size", 0, BLOB_LIMIT),
        created=fields.text("created", _TIME),
        recipe=own.text("recipe", _OPTIONAL_DIGEST, default=""),
        default_user=process.text("User", _USER, default=""),
        entrypoint=_words(process, "Entrypoint"),
        command=_words(process, "Cmd"),
        directory=directory(process),
        environment=_environment(process),
        labels=process.table("Labels", entries=256, limit=4096),
        parent=_parent(own),
    )


def _parent(own: Fields) -> Parent | None:
    if not own.has("parent"):
        return None
    parent = own.section("parent")
    return Parent(parent.text("digest", _DIGEST), parent.text("name", limit=512, default=""))


def os_problem(system: OperatingSystem) -> str:
    """What is wrong with the values of an os-release file (may be empty)."""
    try:
        _operating_system(Fields({"id": system.id, "version": system.version, "prettyName": system.pretty_name}, "os"))
    except Refused as error:
        return error.message
    return ""


def is_user(text: str) -> bool:
    """Whether this can be an image's default user."""
    return re.fullmatch(_USER, text) is not None


def _operating_system(system: Fields) -> OperatingSystem:
    return OperatingSystem(
        system.text("id", _OS_ID),
        system.text("version", limit=64, default=""),
        system.text("prettyName", limit=256, default=""),
    )


def command_line_problem(text: str) -> str:
    """What is wrong with an image's words for the kernel command line (may be empty)."""
    if not re.fullmatch(_COMMAND_LINE, text):
        return "is longer than 1024 characters, or not printable ASCII"
    if any(word.startswith(("dayfly.", "init=", "rdinit=")) for word in text.replace('"', " ").split()):
        return "has words that are reserved for Dayfly: dayfly.*, init=, rdinit="
    return ""


def _command_line(kernel: Fields) -> str:
    text = kernel.text("commandLine", default="")
    problem = command_line_problem(text)
    if problem:
        raise Refused(f"{kernel.place}.commandLine {problem}")
    return text


def _environment(process: Fields) -> dict[str, str]:
    environment: dict[str, str] = {}
    for element in process.items("Env", 1024):
        match = re.fullmatch(_VARIABLE, element) if isinstance(element, str) and len(element) <= 32768 else None
        if match is None or not _passable(match[2]):
            raise Refused(f"{process.place}.Env: {str(element)[:100]!r} is not NAME=value")
        environment[match[1]] = match[2]
    return environment


def directory(process: Fields) -> str:
    """The working directory of an image's or a container image's own command: an absolute path, or empty. Raises `Refused`."""
    text = process.text("WorkingDir", default="")
    if text and (not text.startswith("/") or ".." in text.split("/")):
        raise Refused(f"{process.place}.WorkingDir is {text[:100]!r}, but must be an absolute path without ..")
    return text


def _words(process: Fields, name: str) -> tuple[str, ...]:
    """A command's words, which may have several lines."""
    words = []
    for element in process.items(name, 1024):
        if not isinstance(element, str) or len(element) > _WORD_LIMIT or not _passable(element):
            raise Refused(f"{process.place}.{name}: {str(element)[:100]!r} cannot be a word of a command")
        words.append(element)
    return tuple(words)


def _passable(text: str) -> bool:
    """Whether this can be an argument of a program: it has no NUL, and it can be encoded."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


@dataclass(frozen=True)
class Manifest:
    """One image: its config and its layers."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    def find(self, role: Role) -> Descriptor | None:
        """The layer with this role, if the image has one."""
        return next((descriptor for descriptor in self.layers if descriptor.role is role), None)


def render_manifest(manifest: Manifest) -> bytes:
    """The manifest's blob."""
    rendered: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": manifest.config.render(),
        "layers": [descriptor.render() for descriptor in manifest.layers],
    }
    return encode(rendered | ({"annotations": dict(manifest.annotations)} if manifest.annotations else {}))


def parse_manifest(content: bytes, place: str = "manifest") -> Manifest:
    """Read the manifest of a Dayfly image. Raises `Refused`, also for other manifests (of a container image, an index)."""
    if len(content) > MANIFEST_LIMIT:
        raise Refused(f"{place} is larger than the limit of {MANIFEST_LIMIT} bytes")
    fields = decode(content, place)
    fields.number("schemaVersion", 2, 2)
    if fields.values.get("mediaType", MANIFEST_TYPE) != MANIFEST_TYPE or fields.values.get("artifactType") != ARTIFACT_TYPE:
        raise Refused(f"{place} is not that of a Dayfly image", "`dayfly image import` imports container images")
    config = parse_descriptor(fields.section("config"))
    if config.media_type != CONFIG_TYPE or config.size > CONFIG_LIMIT:
        raise Refused(f"{place}.config is not an OCI image config of at most {CONFIG_LIMIT} bytes")
    layers = tuple(
        parse_descriptor(Fields.of(element, f"{place}.layers[{index}]"))
        for index, element in enumerate(fields.items("layers", LAYER_LIMIT))
    )
    _check_layers(layers, place)
    return Manifest(config, layers, fields.table("annotations", entries=256, limit=4096))


def _check_layers(layers: tuple[Descriptor, ...], place: str) -> None:
    roles = [descriptor.role for descriptor in layers]
    needed = {Role.DISK} if Role.DISK in roles else {Role.ROOT, Role.KERNEL}
    allowed = needed if Role.DISK in roles else set(Role)
    for role in Role:
        if not (role in needed) <= roles.count(role) <= (role in allowed):
            raise Refused(f"{place} has {roles.count(role)} layers of the type {role} instead of {int(role in allowed)}")
    for descriptor in layers:
        kind = descriptor.role
        if kind is None:
            continue
        if descriptor.form not in FORMATS[kind]:
            raise Refused(f"{place}: {kind} is {descriptor.form}, not {' or '.join(sorted(FORMATS[kind]))}")
        if descriptor.size > _SMALL.get(kind, BLOB_LIMIT):
            raise Refused(f"{place}: {kind} has {descriptor.size} bytes, more than the limit of {_SMALL[kind]}")
