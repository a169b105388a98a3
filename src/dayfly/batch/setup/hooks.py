"""What the hooks that `dayfly batch setup` renders have in common. Pure."""

from __future__ import annotations

import shlex
from importlib import resources

from dayfly.settings import USER, USERS_OWN, Settings

WISHES = ("image", "boot", "network", "share")
"""What a job can ask for: `vm_image`, `DAYFLY_IMAGE`, `VMImage`, as its batch system writes it."""
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
"""Where Dayfly, and what it calls, finds programs, whatever the job's variable says."""
ENVIRONMENT = {"PATH": PATH, "LC_ALL": "C.UTF-8", "PYTHONNOUSERSITE": "1", "PYTHONSAFEPATH": "1"}
"""All that the job shell has of an environment. Python imports nothing from the user's own folders."""
_WORDS = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
HAND_OVER = f"exec 3< <(exec /bin/cat /proc/self/environ); exec /usr/bin/env -i {_WORDS}"
"""What stands in bash before the job shell's command: the job's variables go along as an open file, since they are the job's.
A PYTHONHOME of the user's is nothing for the job shell. The bash is a privileged one (`-p`): it runs no BASH_ENV, and knows no
functions, of the user's.
"""


def made_by(system: str) -> str:
    """What stands at the beginning of each whole file that `dayfly batch setup` makes: whose it is."""
    return f"Made by `dayfly batch setup {system}`"


def filled(package: str, name: str, **words: str) -> str:
    """A script of a package with words in it replaced, HAND_OVER among them."""
    content = resources.files(package).joinpath(name).read_text()
    for word, value in {**words, "HAND_OVER": HAND_OVER}.items():
        content = content.replace(word, value)
    return content


def always(settings: Settings) -> tuple[str, ...]:
    """The queues all of whose jobs have machines; `*`: every queue."""
    if settings.batch_vm == "always":
        return ("*",)
    return tuple(sorted(name for name, queue in settings.batch_queues.items() if queue.vm == "always"))


def users_folders(settings: Settings, user: str) -> str:
    """Lines of a shell script of root's that makes the folders named after a job's user; empty where the settings have none.

    `user` is the shell's variable. What is below the folder of that name is the user's to make: root would follow links.
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
    """The folder with `{user}` in its name that a path is in; empty: none."""
    before, found, after = path.partition(USER)
    return before + found + after.partition("/")[0] if found else ""
