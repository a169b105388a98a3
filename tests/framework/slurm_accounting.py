"""What a Slurm's accounting needs: a MariaDB that listens on a socket in its folder alone, and slurmdbd."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
from pathlib import Path

_SYSTEM_TABLES = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
_SLURMDBD_CONF = """\
AuthInfo=socket={munge}
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageUser=root
LogFile={folder}/log/slurmdbd
PidFile={folder}/slurmdbd.pid
"""
_SLURM_CONF = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={munge}
AccountingStoreFlags=job_comment
JobAcctGatherFrequency=1
"""
USER = "nobody"


def slurm_conf(port: int, munge: Path) -> str:
    """The lines for slurm.conf."""
    return _SLURM_CONF.format(port=port, munge=munge)


def become() -> list[str]:
    """What makes a command the database's user's."""
    owner = pwd.getpwnam(USER)
    return ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]


def database(folder: Path) -> list[str]:
    """Make an empty database in a new folder; the command that serves it, at `folder/socket`."""
    folder.mkdir(mode=0o700)
    os.chown(folder, pwd.getpwnam(USER).pw_uid, -1)
    served = [*become(), "mariadbd", "--no-defaults", f"--datadir={folder}", "--innodb-buffer-pool-size=64M"]
    tables = [Path("/usr/share/mysql", name).read_text() for name in _SYSTEM_TABLES]
    script = "\n".join(["CREATE DATABASE mysql;", "USE mysql;", "SET @auth_root_socket=NULL;", *tables])
    subprocess.run([*served, "--bootstrap"], input=script.encode(), check=True, capture_output=True)
    return [*served, "--skip-networking", "--skip-grant-tables", f"--socket={folder}/socket", f"--pid-file={folder}/pid"]


def write_slurmdbd_conf(folder: Path, port: int, munge: Path) -> None:
    """slurmdbd.conf, beside slurm.conf."""
    path = folder / "slurmdbd.conf"
    path.touch(mode=0o600)
    path.write_text(_SLURMDBD_CONF.format(host=socket.gethostname().partition(".")[0], port=port, folder=folder, munge=munge))
