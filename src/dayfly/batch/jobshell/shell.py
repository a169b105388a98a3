"""The job shell: the batch system's process for a job becomes the job, or runs it in a machine.

On the hot path of every job: nothing heavy is imported here.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dayfly import inherited, process
from dayfly import settings as site
from dayfly.batch.jobshell import policy
from dayfly.batch.jobshell.allocation import Host, shape
from dayfly.batch.jobshell.job import BatchJob
from dayfly.batch.jobshell.request import Request, parse, variables
from dayfly.errors import Refused
from dayfly.guest.boot import BootMode
from dayfly.job.description import Folder, JobDescription, hides_image, parse_folder
from dayfly.job.start import run
from dayfly.machine.config import BOOT_CHOICES, Network
from dayfly.notices import Notify
from dayfly.provision.host import host_memory
from dayfly.settings import Settings
from dayfly.values import replace

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from typing import NoReturn

    from dayfly.batch.jobshell.report import Calls, Reporter
    from dayfly.job.usage import UsageRecord

_OURS = (
    b"HOME",
    b"USER",
    b"LOGNAME",
    b"XDG_CONFIG_HOME",
    b"XDG_DATA_HOME",
    b"XDG_STATE_HOME",
    b"XDG_CACHE_HOME",
    b"DAYFLY_SETTINGS",
)
"""The variables of the job that Dayfly uses too: the places of the user's settings, images and records."""


def serve(
    words: Sequence[str],
    read: Callable[[Request, Mapping[bytes, bytes]], BatchJob],
    calls: Callable[[BatchJob, Mapping[bytes, bytes]], Calls],
    notify: Notify,
) -> int:
    """Run the job that the hook's `words` describe. Returns its status, negative for death by a signal.

    `read` and `calls` are the batch system's. Without a machine this process becomes the job, and this does not return.
    Raises `DayflyError`.
    """
    request = parse(words)
    environment = inherited.environment() if request.environment < 0 else variables(_content(request.environment))
    for name in _OURS:
        if name in environment:
            os.environb[name] = environment[name]
    settings = site.load(Path(request.settings) if request.settings else None, required=bool(request.settings))
    job = read(request, environment)
    request = job.request or request
    environment = {**job.defaults, **{name: value for name, value in environment.items() if name not in job.internal}}
    process.lower_limits(job.limits)
    rule, queue = policy.rules(settings, job.queue), job.queue or "this queue"
    image = policy.image(request, rule, queue, parallel=job.parallel, native_parallel=settings.batch_native_parallel)
    guarded = rule.vm == "always" and bool(image)
    if request.task_prolog:
        from dayfly.batch.jobshell import prolog  # noqa: PLC0415 (few sites have one)

        environment = prolog.run(request.task_prolog, environment, guarded=guarded)
    if not image:
        _become(job.command or request.command, environment, job.not_executed, notify)
    if job.several_programs:
        raise Refused("a machine runs one program, but this step has several", "start each program as a step of its own")
    policy.within(job.allocation.memory, rule, queue)
    if not job.outlives_parent:
        process.die_with_parent()
    if job.script_by_name:
        from dayfly.batch.jobshell import script  # noqa: PLC0415 (few batch systems need it)

        job = replace(job, command=script.on_stdin(job.command or request.command))
    reporters: list[Reporter] = []

    def report(record: UsageRecord) -> None:
        if not reporters:
            from dayfly.batch.jobshell.report import Reporter  # noqa: PLC0415 (imported while the job runs)

            reporters.append(Reporter(calls(job, environment), job, settings, notify))
        reporters[0].report(record)

    described = description(request, job, image, environment, settings, rule.memory)
    described = replace(described, guarded=guarded and not settings.batch_own_templates)
    status = run(described, settings, notify, report).status
    wanted = reporters[0].status if reporters else None
    return status if wanted is None else wanted


def description(
    request: Request, job: BatchJob, image: str, environment: Mapping[bytes, bytes], settings: Settings, most: int = 0
) -> JobDescription:
    """The job in its machine, with at most `most` bytes of memory (0: no limit).

    Raises `Refused` if the request or the allocation does not allow it.
    """
    host = Host(len(os.sched_getaffinity(0)), host_memory(), os.cpu_count() or 1)
    return JobDescription(
        image=image,
        command=job.command or request.command,
        shape=shape(job.allocation, host, settings.batch_overhead, most),
        scratch=settings.scratch_size,
        directory=inherited.directory(os.fsdecode(environment.get(b"PWD", b""))),
        environment=tuple(name + b"=" + value for name, value in environment.items()),
        shares=_shares(request, job, settings),
        network=network(request.network),
        boot=boot(request.boot),
        name=job.identity.get("name", ""),
        batch={"system": job.system, **job.identity},
        account=job.account,
        as_signal=True,
    )


def _shares(request: Request, job: BatchJob, settings: Settings) -> tuple[Folder, ...]:
    """The shared folders: the site's that exist here, those that the job requests, and those of the batch system.

    Of the last, those that the machine sees anyway are left out: the number of shares is limited.
    """
    from_site = [parse_folder(text) for text in settings.batch_shares if os.path.isdir(text.removesuffix(":ro"))]  # noqa: PTH112
    asked = [parse_folder(text) for text in request.share.split(",") if text]
    here = os.getcwd()  # noqa: PTH109
    shared = [*from_site, *asked, *([] if hides_image(here) else [Folder(here)])]
    return (*from_site, *asked, *(folder for folder in job.folders if not _seen(folder, shared)))


def _seen(folder: Folder, shared: Sequence[Folder]) -> bool:
    """Whether a folder is shared already: it is one of the shared ones, or below a writable one without a link in its path."""
    if any(folder.path == other.path for other in shared):
        return True
    above = [other.path for other in shared if not other.readonly and folder.path.startswith(f"{other.path}/")]
    return bool(above) and os.path.realpath(folder.path) == folder.path


def boot(text: str) -> BootMode | None:
    """The boot mode of the machine; None: the image's. Raises `Refused`."""
    if text and text not in BOOT_CHOICES:
        raise Refused(f"{text!r} is not a boot mode", "agent or system")
    return BootMode(text) if text else None


def network(text: str) -> Network:
    """The machine's network. Raises `Refused`."""
    try:
        return Network(text or Network.NONE)
    except ValueError:
        raise Refused(f"{text!r} is not a network mode", "none or nat") from None


def _content(descriptor: int) -> bytes:
    """The content of an open file or pipe, which is closed."""
    with os.fdopen(descriptor, "rb") as file:
        if file.seekable():
            file.seek(0)
        return file.read()


def _become(command: Sequence[str], environment: Mapping[bytes, bytes], not_executed: str, notify: Notify) -> NoReturn:
    """Execute the job's command natively. If it cannot be executed, the error is that of the batch system."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these two
        signal.signal(number, signal.SIG_IGN if inherited.ignored(number) else signal.SIG_DFL)
    sys.stdout.flush()
    for descriptor in inherited.closed_streams():
        os.close(descriptor)
    try:
        if not_executed:
            program = _found(command[0], os.fsdecode(environment.get(b"PATH", b"")))
            os.execve(program, list(command), environment)
        os.execvpe(command[0], list(command), environment)
    except OSError as error:
        if not_executed:
            line = not_executed.format(program=program, error=error.strerror)
            os.write(2, os.fsencode(f"{line}\n"))
            os._exit(error.errno or 1)
        notify(f"{command[0]}: {error.strerror}")
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _found(program: str, path: str) -> str:
    """The file that slurmstepd executes: unlike execvp(3), the first of that name that is not a folder, executable or not."""
    if program.startswith("/"):
        return program
    if program.startswith("."):
        return f"{os.getcwd()}/{program}"  # noqa: PTH109
    candidates = (f"{folder}/{program}" for folder in path.split(":") if folder)
    return next((file for file in candidates if os.path.exists(file) and not os.path.isdir(file)), program)  # noqa: PTH110, PTH112
