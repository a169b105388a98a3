"""A keeper of a detached machine, made of the same parts as a job: `python -m tests.framework.keeper IMAGE READY`.

It writes the machine's identity to the descriptor READY when the machine is up, and ends the machine when it gets TERM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from dayfly import settings as site
from dayfly.guest.boot import BootMode
from dayfly.image.library import OpenImage
from dayfly.image.search import Libraries
from dayfly.machine.config import Network, Shape
from dayfly.machine.instances import Instances
from dayfly.machine.machine import Machine
from dayfly.process import Lifetime
from dayfly.provision import probe
from dayfly.provision.cold import start_cold
from dayfly.provision.plan import Plan, configuration
from dayfly.settings import Settings


async def keep(image: OpenImage, settings: Settings, ready: int) -> None:
    config = configuration(
        image,
        identity=os.urandom(5).hex(),
        processor=probe.begin(settings, None, print).way,
        shape=Shape(1, 256 << 20),
        boot=BootMode.AGENT,
        shares=(),
        network=Network.NONE,
        lifetime=Lifetime.DETACHED,
    )
    with Instances().keeping(config):
        async with Machine(start_cold(Plan(image, config, 1 << 30), settings)) as machine:
            await machine.ready(120)
            ended = asyncio.ensure_future(machine.wait())
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.cancel)
            os.write(ready, config.identity.encode())
            os.close(ready)
            await asyncio.wait({ended})


def main() -> None:
    settings = site.load()
    with Libraries(settings).open(sys.argv[1]) as image:
        asyncio.run(keep(image, settings, int(sys.argv[2])))


if __name__ == "__main__":
    main()
