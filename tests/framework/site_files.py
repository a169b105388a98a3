"""The files of a site in /etc/dayfly, as a command sees them that has an /etc of its own."""

from __future__ import annotations

import os

from tests.framework.site import Site


def site_policy(site: Site, text: str, mode: int = 0o644, owner: int = 0) -> list[str]:
    """A command that sees an /etc with this policy of the site."""
    return site_file(site, "policy.toml", text, mode, owner)


def site_file(site: Site, name: str, text: str, mode: int = 0o644, owner: int = 0) -> list[str]:
    """A command that sees an /etc with this file of Dayfly's, and those of earlier calls."""
    over = site.folder / "work/etc"
    (over / "dayfly").mkdir(parents=True, exist_ok=True)
    for folder in (over, over / "dayfly"):
        os.chown(folder, 0, 0)
        folder.chmod(0o755)
    path = over / "dayfly" / name
    path.write_text(text)
    path.chmod(mode)
    os.chown(path, owner, owner)
    script = f'mount -t overlay etc -o lowerdir={over}:/etc /etc && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


def site_settings(site: Site, more: str = "") -> list[str]:
    """A command that sees settings of the site: those that its user's file may not say then, and more."""
    site.configure(machine_qemu=None, machine_accelerator=None, scratch_folder=None, scratch_size=None)
    machine = f'[machine]\naccelerator = "tcg"\nqemu = "{site.qemu}"\n'
    return site_file(site, "settings.toml", f'{machine}[scratch]\nfolder = "{site.scratch}"\nsize = "1G"\n{more}')
