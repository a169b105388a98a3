"""The settings of the site and the user: `/etc/dayfly/settings.toml`, then `~/.config/dayfly/settings.toml`, the user's over the
site's.

A site's file counts only if only root could have written it. `whose` says which settings a user's file may have: trusted images,
the policy's place and batch jobs are always the site's; the programs that are executed and the share of a host that they may use
are the site's if it has a file (docs/decisions/0122). In paths of a user's own folders, `{user}` is the user's name, so that a
site can place them where users cannot make folders. All errors of a file are reported at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from enum import IntEnum
from pathlib import Path

from dayfly import disknames, files
from dayfly.errors import FieldError, FileErrors, Refused
from dayfly.units import parse_duration, parse_size
from dayfly.values import dataclass, field, replace

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from typing import Any

SITE_FILE = Path("/etc/dayfly", disknames.SETTINGS_FILE)
POLICY_FILE = Path("/etc/dayfly", disknames.POLICY_FILE)
"""The default file of the site's policy; it need not exist."""
CPU_MODELS = ("auto", "x86-64-v2", "x86-64-v3", "max", "host")
ROOT = frozenset({0})
"""The uids that may own the site's settings."""
_LIMIT = 1024 * 1024


def home() -> str:
    """The home directory, from HOME or else from the passwd database; empty if neither has an absolute path."""
    value = os.environ.get("HOME", "")
    if value.startswith("/"):
        return value
    import pwd  # noqa: PLC0415 (most processes have a HOME)

    try:
        value = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""
    return value if value.startswith("/") else ""


def xdg(variable: str, fallback: str) -> Path:
    """A base folder of the XDG Base Directory Specification: from the variable if it is an absolute path, else below home.

    This is the only place that decides where a user's folders are. Raises `Refused` if there is no home directory.
    """
    value = os.environ.get(variable, "")
    if value.startswith("/"):
        return Path(value)
    below = home()
    if not below:
        who = f"HOME is not an absolute path, and the passwd database has no home directory for user {os.getuid()}"
        raise Refused(f"there is no place for your files: {who}", f"set HOME, or {variable}")
    return Path(below, fallback)


@dataclass(frozen=True)
class Queue:
    """The settings of one queue (a partition in Slurm). Empty: those of all queues in `Settings`."""

    vm: str = ""
    image: str = ""
    images: tuple[str, ...] = ()
    memory: int = 0


@dataclass(frozen=True)
class Settings:
    """All settings, with their defaults. Sizes are in bytes, times in seconds."""

    library_system: Path = Path("/var/lib/dayfly", disknames.LIBRARY)
    library_user: Path = field(default_factory=lambda: xdg("XDG_DATA_HOME", ".local/share") / "dayfly" / disknames.LIBRARY)
    library_cache: Path | None = None
    records_folder: Path = field(default_factory=lambda: xdg("XDG_STATE_HOME", ".local/state") / "dayfly" / disknames.RECORDS)
    cache_folder: Path = field(default_factory=lambda: xdg("XDG_CACHE_HOME", ".cache") / "dayfly")
    templates_system: Path = Path("/var/lib/dayfly", disknames.TEMPLATES)
    templates_user: Path = field(default_factory=lambda: xdg("XDG_CACHE_HOME", ".cache") / "dayfly" / disknames.TEMPLATES)
    templates_limit: int = 8 * 1024**3
    scratch_folder: Path = Path("/var/tmp")  # noqa: S108 (files there have no name)
    scratch_size: int = 8 * 1024**3
    machine_cpus: int = 1
    machine_memory: int = 512 * 1024**2
    machine_accelerator: str = "auto"
    machine_cpu_model: str = "auto"
    machine_qemu: str = "qemu-system-x86_64"
    machine_boot_timeout: float = 180.0
    job_grace: float = 10.0
    build_mirror: str = ""
    policy_system: Path | None = None
    policy_user: Path | None = None
    trust_weak_lists: bool = False
    batch_vm: str = "on-request"
    batch_image: str = ""
    batch_images: tuple[str, ...] = ()
    batch_memory: int = 0
    batch_shares: tuple[str, ...] = ()
    batch_overhead: int = 256 * 1024**2
    batch_comment: bool = True
    batch_requeues: int = 2
    batch_checked_accounts: bool = False
    batch_own_templates: bool = False
    batch_native_parallel: bool = True
    batch_queues: Mapping[str, Queue] = field(default_factory=dict)


def _path(value: object) -> Path:
    text = value if isinstance(value, str) else ""
    if text == "~" or text.startswith("~/"):
        text = f"{home()}{text[1:]}"
    if not text.startswith("/"):
        raise Refused(f"{value!r} is not an absolute path")
    return Path(text)


def _size(value: object) -> int:
    return parse_size(value if isinstance(value, str) else repr(value))


def _size_or_none(value: object) -> int:
    return 0 if value in (0, "0") else _size(value)


def _duration(value: object) -> float:
    return parse_duration(value if isinstance(value, str) else repr(value))


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1024:
        raise Refused(f"{value!r} is not a number from 1 to 1024")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Refused(f"{value!r} is neither true nor false")
    return value


def _few(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 100:
        raise Refused(f"{value!r} is not a number from 0 to 100")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or "\n" in value:
        raise Refused(f"{value!r} is not a line of text")
    return value


def _accelerator(value: object) -> str:
    if value not in ("auto", "kvm", "tcg"):
        raise Refused(f"{value!r} is not an accelerator", "auto, kvm or tcg")
    return str(value)


def _cpu_model(value: object) -> str:
    if value not in CPU_MODELS:
        raise Refused(f"{value!r} is not a CPU model", "one of " + ", ".join(CPU_MODELS))
    return str(value)


def _vm(value: object) -> str:
    if value not in ("always", "on-request", "never"):
        raise Refused(f"{value!r} is not a rule for when a job gets a machine", "always, on-request or never")
    return str(value)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Refused(f"{value!r} is not a list", 'write it like ["debian:12", "debian:13"]')
    return tuple(map(_text, value))


_QUEUE_READERS: Mapping[str, Callable[[object], object]] = {"vm": _vm, "image": _text, "images": _texts, "memory": _size_or_none}


def _queues(value: object) -> Mapping[str, Queue]:
    if not isinstance(value, dict) or not all(isinstance(queue, dict) for queue in value.values()):
        raise Refused("is not a table of queues", "write a table [batch.queues.NAME] for each queue")
    queues: dict[str, Queue] = {}
    for name, said in value.items():
        unknown = said.keys() - _QUEUE_READERS.keys()
        if unknown:
            raise Refused(f"{name}: {min(unknown)}: no such setting", ", ".join(_QUEUE_READERS))
        try:
            read = {key: _QUEUE_READERS[key](inner) for key, inner in said.items()}
        except Refused as error:
            raise Refused(f"{name}: {error.message}", error.hint) from error
        queues[name] = Queue(**read)  # type: ignore[arg-type]  # _QUEUE_READERS gives each field its type
    return queues


_READERS: Mapping[str, Callable[[object], object]] = {
    "library.system": _path,
    "library.user": _path,
    "library.cache": _path,
    "records.folder": _path,
    "cache.folder": _path,
    "templates.system": _path,
    "templates.user": _path,
    "templates.limit": _size_or_none,
    "scratch.folder": _path,
    "scratch.size": _size,
    "machine.cpus": _count,
    "machine.memory": _size,
    "machine.accelerator": _accelerator,
    "machine.cpu_model": _cpu_model,
    "machine.qemu": _text,
    "machine.boot_timeout": _duration,
    "job.grace": _duration,
    "build.mirror": _text,
    "policy.system": _path,
    "policy.user": _path,
    "trust.weak_lists": _flag,
    "batch.vm": _vm,
    "batch.image": _text,
    "batch.images": _texts,
    "batch.memory": _size_or_none,
    "batch.shares": _texts,
    "batch.overhead": _size,
    "batch.comment": _flag,
    "batch.requeues": _few,
    "batch.checked_accounts": _flag,
    "batch.own_templates": _flag,
    "batch.native_parallel": _flag,
    "batch.queues": _queues,
}
USERS_OWN = ("library_user", "records_folder", "cache_folder", "templates_user", "scratch_folder")
"""The paths that `{user}` may be in."""
USER = "{user}"
"""The placeholder for the user's name in paths of the user's folders."""


class Whose(IntEnum):
    """Who may set a setting; higher levels may set it too."""

    USER = 0
    HOST = 1
    """The site, if it has a settings file; otherwise the host is the user's own."""
    SITE = 2


_SITES = frozenset({"library.system", "templates.system", "policy.system", "trust.weak_lists"})
_HOSTS = frozenset(
    {
        "machine.qemu",  # a program that is executed on the host
        "machine.accelerator",  # the isolation of machines: QEMU does not promise it for emulation
        "scratch.folder",  # which of the host's disks they fill
        "scratch.size",
        "templates.limit",
        "job.grace",  # how long a job may continue after the policy's time
    }
)


def whose(place: str) -> Whose:
    """Who may set this setting."""
    if place in _SITES or place.startswith("batch."):
        return Whose.SITE
    return Whose.HOST if place in _HOSTS else Whose.USER


def parse(text: str, base: Settings, *, path: object, by: Whose) -> Settings:
    """Read the text of a settings file over `base`; `by` is its owner. Raises `FileErrors` with all errors in it."""
    return replace(base, **_values(text, path=path, by=by))


def _values(text: str, *, path: object, by: Whose) -> dict[str, Any]:
    """The values in a settings file by field name; a test compares their types. Raises as `parse`."""
    import tomllib  # noqa: PLC0415 (most machines have no settings file, and every job would pay for the import)

    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError too
        raise FileErrors(path, [FieldError("syntax", str(error))]) from error
    values: dict[str, Any] = {}
    errors: list[FieldError] = []
    for place, value in _flat(tables):
        reader = _READERS.get(place)
        if reader is None:
            errors.append(FieldError(place, "unknown setting", _nearest(place)))
        elif whose(place) > by:
            errors.append(FieldError(place, "can be set only in the site's settings", f"set it in {SITE_FILE}"))
        else:
            try:
                values[place.replace(".", "_")] = reader(value)
            except Refused as error:
                errors.append(FieldError(place, error.message, error.hint))
    if errors:
        raise FileErrors(path, errors)
    return values


def _flat(tables: Mapping[str, object]) -> list[tuple[str, object]]:
    flat: list[tuple[str, object]] = []
    for name, value in tables.items():
        if isinstance(value, dict):
            flat.extend((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            flat.append((name, value))
    return flat


def _nearest(place: str) -> str:
    import difflib  # noqa: PLC0415 (only for an error's hint)

    near = difflib.get_close_matches(place, _READERS, n=1)
    return f"did you mean {near[0]}?" if near else "docs/reference/settings.md lists them"


def load(
    site_file: Path | None = None,
    user_file: Path | None = None,
    *,
    user: str = "",
    owners: Collection[int] = ROOT,
    required: bool = False,
) -> Settings:
    """The effective settings. `DAYFLY_SETTINGS` names another file instead of the user's.

    `user` is the user for `{user}` in paths (empty: the caller). The site's file must belong to one of its `owners`, and
    nobody else may be able to write it; a `required` one must exist. Raises `FileErrors`, and `Refused` if a default needs a
    home directory and there is none.
    """
    named = os.environ.get("DAYFLY_SETTINGS", "")
    values: dict[str, Any] = {}
    by = Whose.HOST
    text = _sites(site_file or SITE_FILE, owners)
    if text is not None:
        values, by = _values(text, path=site_file or SITE_FILE, by=Whose.SITE), Whose.USER
    elif required:
        raise FileErrors(site_file or SITE_FILE, [FieldError("file", "does not exist", "the batch system's hook names it")])
    user_file = user_file or (Path(named) if named else _users_file())
    text = _users(user_file) if user_file is not None else None
    if user_file is not None and text is not None:
        values |= _values(text, path=user_file, by=by)
    elif named:
        raise FileErrors(named, [FieldError("file", "does not exist", "DAYFLY_SETTINGS names it")])
    return _of_user(Settings(**values), user)


def _sites(path: Path, owners: Collection[int]) -> str | None:
    """The text of the site's file; None if there is none. Raises `FileErrors` if other users can write it."""
    try:
        content = files.read_owned(str(path), owners, _LIMIT)
    except Refused as error:
        raise FileErrors(path, [FieldError("file", error.message, error.hint)]) from error
    return None if content is None else content.decode(errors="replace")


def _users_file() -> Path | None:
    """The path of the user's file; None if there is no home directory."""
    try:
        return xdg("XDG_CONFIG_HOME", ".config") / "dayfly" / disknames.SETTINGS_FILE
    except Refused:
        return None


def _users(path: Path) -> str | None:
    """The text of the user's file, which may be /dev/null or a pipe; None if there is none. Raises `FileErrors`."""
    try:
        with path.open("rb") as file:
            content = file.read(_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        hint = f"is HOME ({home() or 'not set'}) your directory?" if isinstance(error, PermissionError) else ""
        raise FileErrors(path, [FieldError("file", f"cannot be read: {error.strerror}", hint)]) from error
    if len(content) > _LIMIT:
        raise FileErrors(path, [FieldError("file", f"is larger than {_LIMIT} bytes")])
    return content.decode(errors="replace")


def _of_user(settings: Settings, user: str) -> Settings:
    """The settings with the user's name in the paths."""
    paths = {name: str(getattr(settings, name)) for name in USERS_OWN}
    named = {name: path for name, path in paths.items() if USER in path}
    if not named:
        return settings
    user = user or _caller()
    return replace(settings, **{name: Path(path.replace(USER, user)) for name, path in named.items()})  # type: ignore[arg-type]


def _caller() -> str:
    import pwd  # noqa: PLC0415 (few settings need it)

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
