"""The common parts of the hooks that `dayfly batch setup` renders. Pure."""

from __future__ import annotations

import shlex
from importlib import resources

from dayfly.settings import USER, USERS_OWN, Settings

REQUESTS = ("image", "boot", "network", "share")
"""What a job can request: `vm_image`, `DAYFLY_IMAGE` or `VMImage`, depending on the batch system."""
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
"""The PATH of Dayfly and the programs that it calls, regardless of the job's PATH."""
ENVIRONMENT = {"PATH": PATH, "LC_ALL": "C.UTF-8", "PYTHONNOUSERSITE": "1", "PYTHONSAFEPATH": "1"}
"""The whole environment of the job shell. Python imports nothing from the user's own folders."""
_WORDS = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
HAND_OVER = f"exec 3< <(exec /bin/cat /proc/self/environ); exec /usr/bin/env -i {_WORDS}"
"""The prefix, in bash, of the job shell's command: the job's variables are passed as an open file, so that they do not affect the
job shell, as PYTHONHOME would. The bash is privileged (`-p`): it does not use the user's BASH_ENV or functions.
"""


def made_by(system: str) -> str:
    """The mark at the beginning of each file that `dayfly batch setup` makes."""
    return f"Made by `dayfly batch setup {system}`"


def filled(package: str, name: str, **words: str) -> str:
    """A script of a package with its placeholders replaced, HAND_OVER among them."""
    content = resources.files(package).joinpath(name).read_text()
    for word, value in {**words, "HAND_OVER": HAND_OVER}.items():
        content = content.replace(word, value)
    return content


def always(settings: Settings) -> tuple[str, ...]:
    """The queues whose jobs all have machines; `*`: every queue."""
    if settings.batch_vm == "always":
        return ("*",)
    return tuple(sorted(name for name, queue in settings.batch_queues.items() if queue.vm == "always"))


def users_folders(settings: Settings, user: str) -> str:
    """Lines of a shell script, run by root, that makes the folders named after a job's user; empty if the settings have none.

    `user` is the shell's variable. The user makes what is below the folder of that name: root would follow links.
    """
    tops = sorted({_top(str(getattr(settings, name))) for name in USERS_OWN} - {""})
    if not tops:
        return ""
    folders = " ".join(f'"${user}"'.join(shlex.quote(part) if part else "" for part in top.split(USER)) for top in tops)
    return f"""\
case ${user} in "" | . | .. | */*) exit 0 ;; esac
for folder in {folders}; do
	[ -d "$folder" ] || install -d -m 0700 -o "${user}" -g "$(id -g "${user}")" "$folder"
done
"""


def _top(path: str) -> str:
    """The part of a path up to the folder with `{user}` in its name; empty: none."""
    before, found, after = path.partition(USER)
    return before + found + after.partition("/")[0] if found else ""
