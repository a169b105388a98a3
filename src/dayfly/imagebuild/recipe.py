"""Recipes: the text that an image is built from, read strictly, with all errors reported at once.

docs/reference/recipe.md describes them.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import unquote

from dayfly import files
from dayfly.errors import FieldError, FileErrors, NotFound, Refused
from dayfly.guest.boot import BootMode
from dayfly.image.fields import encode
from dayfly.image.manifest import command_line_problem
from dayfly.image.reference import Name, parse_name
from dayfly.imagebuild.archives import DISTRIBUTIONS
from dayfly.imagebuild.recipe_reader import Reader, shown
from dayfly.machine.config import Network
from dayfly.units import format_time

_LIMIT = 1024**2
_FILE_LIMIT = 64 * 1024**2
VARIANTS = ("essential", "apt", "minbase", "buildd", "important", "standard")

_RELEASE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_RPM_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_RPM_PACKAGE = re.compile(r"[A-Za-z0-9@][A-Za-z0-9+._~^:-]{0,255}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_URL = re.compile(r"(https?://[A-Za-z0-9.:-]+|file://)(/[A-Za-z0-9._~%$+@=,:-]+)+/?")
_COMPONENT = re.compile(r"[a-z][a-z0-9-]{0,31}")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{1,127}(=[0-9A-Za-z.+:~-]{1,127})?")
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_MODE = re.compile(r"0?[0-7]{3,4}")
_OWNER = re.compile(r"([a-z_][a-z0-9_-]{0,30}|\d{1,5})(?::([a-z_][a-z0-9_-]{0,30}|\d{1,5}))?")
_PATH = re.compile(r"(/[^/\x00-\x1f\x7f:]+)+")
_FORBIDDEN = ("/dev", "/proc", "/sys", "/run", "/tmp")  # noqa: S108 (places in the image that are mounted over)
_LAST_ID = 65533
_KEY_LIMIT = 256 * 1024
RPM = "rpm"
"""The distribution whose packages come from the recipe's own repositories."""
_PACKAGES = ((_PACKAGE, (), "the name of a package, or NAME=VERSION"), (_RPM_PACKAGE, (), "a package, NAME-VERSION or @GROUP"))
_RELEASES = ((_RELEASE, None, "a release's code name, like bookworm"), (_RPM_RELEASE, None, "the value of $releasever, like 9"))
"""Indexed by whether it is an RPM distribution."""
_KERNEL_PACKAGE = "linux-image-"
_SYSTEM_PACKAGES = ("systemd-sysv", "udev", "kmod", "dbus")
"""What an image needs to boot its own init; Debian's systemd only recommends them. Without udev, devices have the kernel's owners
and modes; without kmod, there are no device nodes to load modules by; without dbus, systemctl does not work for users.
"""
_MOST_STEPS = 100
_STEP_LIMIT = 65536


@dataclass(frozen=True)
class RecipeFile:
    """A file to add to the image. `owner` and `group` are names of the image's accounts, or numbers."""

    path: str
    content: bytes
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"


@dataclass(frozen=True)
class RecipeUser:
    """An account to add to the image, with a group of its own and a home directory."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecipeMachine:
    """The machine for a recipe's steps. Memory and scratch are in bytes; 0: as in the settings."""

    network: Network = Network.NONE
    memory: int = 0
    scratch: int = 0


@dataclass(frozen=True)
class Repository:
    """A repository for dnf. `check`: signatures of packages are checked with `key`."""

    name: str
    url: str
    key: bytes = b""
    check: bool = True


@dataclass(frozen=True)
class Recipe:
    """What an image is built from. `kernel` is the Debian release that the kernel comes from; empty if a package contains it.

    `run` are shell scripts that are run in a machine of the image so far. `repositories` are the sources of packages of an
    RPM distribution.
    """

    name: Name
    distribution: str
    release: str
    date: int
    packages: tuple[str, ...] = ()
    variant: str = "minbase"
    components: tuple[str, ...] = ("main",)
    boot: BootMode = BootMode.AGENT
    kernel: str = ""
    command_line: str = ""
    default_user: str = ""
    files: tuple[RecipeFile, ...] = ()
    users: tuple[RecipeUser, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    run: tuple[str, ...] = ()
    machine: RecipeMachine = RecipeMachine()
    repositories: tuple[Repository, ...] = ()

    @property
    def created(self) -> str:
        """The date, as in the image's config."""
        return format_time(self.date)

    @property
    def digest(self) -> str:
        """The same for equivalent recipes, regardless of their layout."""
        plain = {
            **vars(self),
            "name": str(self.name),
            "files": [{**vars(file), "content": hashlib.sha256(file.content).hexdigest()} for file in self.files],
            "users": [vars(user) for user in self.users],
            "machine": vars(self.machine),
            "repositories": [
                {**vars(repository), "key": hashlib.sha256(repository.key).hexdigest()} for repository in self.repositories
            ],
        }
        for name, value in (("run", ()), ("machine", vars(RecipeMachine())), ("repositories", [])):
            if plain[name] == value:  # so that recipes without a newer field keep their digest
                del plain[name]
        return f"sha256:{hashlib.sha256(encode(plain)).hexdigest()}"


def shipped() -> Mapping[str, Path]:
    """The recipes that come with Dayfly, by image name."""
    folder = Path(__file__).parent / "recipes"
    names = {path: path.stem.replace("-", ":", 1) for path in sorted(folder.glob("*.toml"))}
    return {name: path for path, name in names.items()}


def find(text: str) -> Recipe:
    """The recipe in a file, or the one of this name that comes with Dayfly. Raises `NotFound` or `FileErrors`."""
    known = shipped()
    if text in known:
        return load(known[text])
    if "/" not in text and not text.endswith(".toml") and not Path(text).exists():
        raise NotFound(f"there is no recipe {text}", f"give a file, or one of {', '.join(known)}")
    return load(Path(text))


def load(path: Path) -> Recipe:
    """Read a recipe. Raises `FileErrors` with all errors in it."""
    try:
        content = files.read(path, _LIMIT)
    except OSError as error:
        raise FileErrors(path, [FieldError("file", f"cannot be read: {error.strerror}")]) from error
    except Refused as error:
        raise FileErrors(path, [FieldError("file", error.message)]) from error
    return parse(content, path)


def parse(content: bytes, path: Path) -> Recipe:
    """Read a recipe's text; its source files are relative to the folder of `path`. Raises `FileErrors`."""
    try:
        table = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError too
        raise FileErrors(path, [FieldError("syntax", str(error))]) from error
    reader = Reader(table, "", [])
    recipe = _recipe(reader, path.parent)
    if recipe is None or reader.errors:
        raise FileErrors(path, reader.errors)
    return recipe


_FIELDS = (
    *("name", "distribution", "release", "date", "packages", "variant", "components", "boot", "default_user"),
    *("kernel", "files", "users", "environment", "labels", "run", "machine", "repository"),
)


def _recipe(reader: Reader, folder: Path) -> Recipe | None:
    reader.only(*_FIELDS)
    distribution = reader.choice("distribution", (*DISTRIBUTIONS, RPM))
    rpm = distribution == RPM
    packages = reader.texts("packages", *_PACKAGES[rpm])
    kernel, command_line = _kernel(reader, packages)
    boot = BootMode(reader.choice("boot", ("agent", "system"), "agent") or "agent")
    name = _image_name(reader)
    users = tuple(_user(inner) for inner in reader.sections("users"))
    found = tuple(_file(inner, folder) for inner in reader.sections("files"))
    _check_twice(reader, "users", [user.name for user in users])
    _check_twice(reader, "users", [str(user.uid) for user in users])
    _check_twice(reader, "files", [file.path for file in found])
    recipe = Recipe(
        name=name or Name("none"),
        distribution=distribution,
        release=reader.text("release", *_RELEASES[rpm]),
        date=_date(reader),
        packages=packages if rpm or boot is BootMode.AGENT else _with_system(packages),
        variant=reader.choice("variant", VARIANTS, "minbase"),
        components=reader.texts("components", _COMPONENT, ("main",)),
        boot=boot,
        kernel=kernel,
        command_line=command_line,
        default_user=reader.text("default_user", _ACCOUNT, ""),
        files=found,
        users=users,
        environment=reader.pairs("environment", _VARIABLE, 32768),
        labels=reader.pairs("labels", None, 4096),
        run=_run(reader),
        machine=_machine(reader, needed=rpm),
        repositories=_repositories(reader, folder) if rpm else (),
    )
    _check_kind(reader, recipe)
    return None if reader.errors else recipe


def _with_system(packages: tuple[str, ...]) -> tuple[str, ...]:
    """These Debian packages, plus the missing ones that a complete system needs."""
    named = {package.partition("=")[0] for package in packages}
    return (*packages, *(package for package in _SYSTEM_PACKAGES if package not in named))


def _run(reader: Reader) -> tuple[str, ...]:
    """The steps; equal ones are allowed."""
    values = reader.table.get("run", [])
    if not isinstance(values, list):
        reader.wrong("run", "is not a list", 'write run = ["apt-get update", "apt-get install -y gcc"]')
        return ()
    if len(values) > _MOST_STEPS:
        reader.wrong("run", f"has more than {_MOST_STEPS} steps", "combine several commands in one step")
    good = []
    for position, value in enumerate(values[:_MOST_STEPS]):
        if not isinstance(value, str) or not value.strip() or "\0" in value or len(value) > _STEP_LIMIT:
            reader.wrong(f"run[{position}]", f"cannot be {shown(value)}", f"a shell script of at most {_STEP_LIMIT} characters")
        else:
            good.append(value)
    return tuple(good)


def _check_kind(reader: Reader, recipe: Recipe) -> None:
    """Check the fields that only one kind of distribution can have."""
    if recipe.distribution != RPM:
        if "repository" in reader.table:
            reader.wrong("repository", "is for RPM distributions only", 'with distribution = "rpm"')
        return
    for name in ("variant", "components", "users"):
        if name in reader.table:
            reader.wrong(name, "is not for RPM distributions", "use a step of run" if name == "users" else "remove it")
    if not recipe.packages:
        reader.wrong("packages", "is empty", "list at least the distribution's release package, a shell, coreutils")
    for number, file in enumerate(recipe.files):
        if not all(name == "root" or name.isdecimal() for name in (file.owner, file.group)):
            reader.wrong(f"files[{number}].owner", "is a name", "RPM distributions accept only root or numbers")
    for number, repository in enumerate(recipe.repositories):
        if not repository.url.startswith("file:") and recipe.machine.network is Network.NONE:
            reader.wrong(f"repository[{number}].url", "needs a network", 'add [machine] network = "nat"')


def _repositories(reader: Reader, folder: Path) -> tuple[Repository, ...]:
    found = tuple(_repository(inner, folder) for inner in reader.sections("repository"))
    if not found:
        reader.wrong("repository", "is missing", "add [[repository]] with name, url and gpgkey")
    _check_twice(reader, "repository", [repository.name for repository in found])
    return found


def _repository(inner: Reader, folder: Path) -> Repository:
    inner.only("name", "url", "gpgkey", "gpgcheck")
    name = inner.text("name", _REPOSITORY, hint="letters, digits, - and _")
    url = inner.text("url", _URL, hint="http://…, https://…, or file:///… of a folder of this host")
    if {".", ".."} & set(unquote(url).split("/")):
        inner.wrong("url", f"cannot be {shown(url)}", "a path without . and ..")
    check = inner.table.get("gpgcheck", True)
    if not isinstance(check, bool):
        inner.wrong("gpgcheck", f"cannot be {shown(check)}", "true or false")
        check = True
    source = inner.text("gpgkey", re.compile(r"[^\x00]+"), "")
    if check and not source:
        inner.wrong("gpgkey", "is missing", "give the key's file, next to the recipe; gpgcheck = false accepts any package")
    if not check and source:
        inner.wrong("gpgkey", "has no effect with gpgcheck = false", "remove one of them")
    key = _attempt(inner, lambda: _read_source(folder, source, _KEY_LIMIT), "gpgkey") if source else b""
    return Repository(name, url, key, check)


def _machine(reader: Reader, *, needed: bool) -> RecipeMachine:
    inner = reader.section("machine")
    inner.only("network", "memory", "scratch")
    if inner.table and not needed and not reader.table.get("run"):
        reader.wrong("machine", "has no effect without run", "the machine is for the steps of run")
    return RecipeMachine(Network(inner.choice("network", Network, "none") or "none"), inner.size("memory"), inner.size("scratch"))


def _check_twice(reader: Reader, name: str, values: list[str]) -> None:
    for value in sorted({value for value in values if value and values.count(value) > 1}):
        reader.wrong(name, f"has {value[:200]} twice")


def _image_name(reader: Reader) -> Name | None:
    text = reader.text("name", None, hint="the image's name, like debian:12")
    try:
        return parse_name(text) if text else None
    except Refused as error:
        reader.wrong("name", error.message, "NAME:TAG, like debian:12")
        return None


def _date(reader: Reader) -> int:
    value = reader.table.get("date")
    hint = "a date like 2026-01-31: no file of the image will be newer"
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
    elif isinstance(value, date):
        moment = datetime(value.year, value.month, value.day, tzinfo=UTC)
    else:
        reader.wrong("date", "is missing" if value is None else f"cannot be {shown(value)}", hint)
        return 0
    if not 1980 <= moment.year < 2100:
        reader.wrong("date", f"cannot be in the year {moment.year}", hint)
        return 0
    return int(moment.timestamp())


def _kernel(reader: Reader, packages: tuple[str, ...]) -> tuple[str, str]:
    inner = reader.section("kernel")
    inner.only("release", "command_line")
    release = inner.text("release", _RELEASE, "")
    brought = [package for package in packages if package.startswith(_KERNEL_PACKAGE)]
    if release and brought:
        inner.wrong("release", f"the package {brought[0]} already contains a kernel", "remove one of them")
    if not release and not brought:
        inner.wrong("release", "is missing, and no package contains a kernel", 'add [kernel] release = "bookworm"')
    text = inner.text("command_line", None, "")
    problem = command_line_problem(text)
    if problem:
        inner.wrong("command_line", problem)
    return release, text


def _user(inner: Reader) -> RecipeUser:
    inner.only("name", "uid", "gid", "groups", "home", "shell")
    name = inner.text("name", _ACCOUNT, hint="lower-case letters, digits, - and _")
    uid = inner.number("uid", 1, _LAST_ID)
    return RecipeUser(
        name=name,
        uid=uid,
        gid=inner.number("gid", 1, _LAST_ID, uid),
        home=_checked_path(inner, "home", f"/home/{name}"),
        shell=_checked_path(inner, "shell", "/bin/bash"),
        groups=inner.texts("groups", _ACCOUNT),
    )


def _checked_path(inner: Reader, name: str, default: str | None = None) -> str:
    text = inner.text(name, _PATH, default, "an absolute path without ..")
    if {".", ".."} & set(text.split("/")) or len(text) > 1024 or len(text.encode(errors="replace")) > 1024:
        inner.wrong(name, f"cannot be {shown(text)}", "an absolute path without ..")
        return default or ""
    return text


def _file(inner: Reader, folder: Path) -> RecipeFile:
    inner.only("path", "content", "source", "mode", "owner")
    path = _checked_path(inner, "path")
    for place in _FORBIDDEN:
        if path == place or path.startswith(f"{place}/"):
            inner.wrong("path", f"{place} must be empty in an image", "something is mounted on it in every machine")
    match = _OWNER.fullmatch(inner.text("owner", _OWNER, "root:root", "USER:GROUP"))
    owner, group = match.groups() if match else ("root", "root")
    mode = inner.text("mode", _MODE, "0644", 'an octal number as text, like "0755"')
    return RecipeFile(path, _content(inner, folder), int(mode, 8), owner, group or owner)


def _content(inner: Reader, folder: Path) -> bytes:
    if ("content" in inner.table) == ("source" in inner.table):
        inner.wrong("content", "is missing" if "content" not in inner.table else "and source are both given", "use one of them")
        return b""
    if "content" in inner.table:
        return inner.text("content", None).encode(errors="replace")
    source = inner.text("source", re.compile(r"[^\x00]+"), hint="a path next to the recipe")
    return _attempt(inner, lambda: _read_source(folder, source)) if source else b""


def _attempt(inner: Reader, action: Callable[[], bytes], name: str = "source") -> bytes:
    try:
        return action()
    except OSError as error:
        inner.wrong(name, f"cannot be read: {error.strerror}")
    except Refused as error:
        inner.wrong(name, error.message, error.hint)
    return b""


def _read_source(folder: Path, source: str, limit: int = _FILE_LIMIT) -> bytes:
    root = folder.resolve()
    path = (root / source).resolve()
    if not path.is_relative_to(root):
        raise Refused(f"{source!r} is outside of the recipe's folder", "copy it into the folder")
    return files.read(path, limit)
