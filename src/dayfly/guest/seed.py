"""The seed for a disk's own cloud-init, which installs the agent: data source NoCloud, a CD with the label CIDATA.

Source: cloud-init's documentation, "NoCloud". It contains no secrets, and nothing about a job.
"""

from __future__ import annotations

from io import BytesIO

import pycdlib

LABEL = "CIDATA"
_USER_DATA = """\
#cloud-config
ssh_genkeytypes: [ed25519]
runcmd:
  - mkdir -p /run/dayfly/seed
  - mount -t iso9660 -o ro LABEL=CIDATA /run/dayfly/seed
  - cp /run/dayfly/seed/start /run/dayfly/seed/agent /run/dayfly
  - umount /run/dayfly/seed
  - sh /run/dayfly/start
"""
_NETWORK = "version: 1\nconfig: []\n"
"""No network is configured: the agent does so if a job has one, and services that wait for a network would wait in vain."""
# /run may be mounted noexec, and SELinux lets services start programs only from certain folders.
_START = """\
for module in virtio_console 9p 9pnet_virtio; do modprobe -q $module; done
agent=/usr/local/sbin/dayfly-agent
mkdir -p /usr/local/sbin
mv /run/dayfly/agent $agent
chmod 755 $agent
command -v restorecon > /dev/null && restorecon $agent
if [ -d /run/systemd/system ]; then
  cat > /run/systemd/system/dayfly-agent.service << 'END'
[Unit]
Description=Dayfly agent
DefaultDependencies=no

[Service]
ExecStart=/usr/local/sbin/dayfly-agent guest
KillMode=process
OOMScoreAdjust=-1000
Nice=-20
StandardInput=null
StandardOutput=null
StandardError=null
TasksMax=infinity
LimitNOFILE=1048576
END
  systemctl daemon-reload
  systemctl --no-block start dayfly-agent.service
else
  setsid $agent guest < /dev/null > /dev/null 2>&1 &
fi
"""


def seed(agent: bytes, identity: str) -> bytes:
    """An ISO 9660 filesystem for the machine of this name, with the agent's program."""
    iso, target = pycdlib.PyCdlib(), BytesIO()
    iso.new(interchange_level=3, vol_ident=LABEL, rock_ridge="1.09")
    texts = {
        "user-data": _USER_DATA,
        "meta-data": f"instance-id: dayfly-{identity}\n",
        "network-config": _NETWORK,
        "start": _START,
    }
    files = {name: text.encode() for name, text in texts.items()} | {"agent": agent}
    for number, (name, content) in enumerate(files.items()):
        iso.add_fp(BytesIO(content), len(content), f"/FILE{number}.;1", rr_name=name)
    iso.write_fp(target)
    iso.close()
    return target.getvalue()
