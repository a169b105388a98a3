"""Signals reach the event loop in the order in which they came, and mean what they meant before when nobody listens any more."""

from __future__ import annotations

import subprocess
import sys

LISTEN = """
import asyncio, os, signal
from signal import SIGCONT, SIGINT, SIGTERM, SIGTSTP, SIGUSR1
from dayfly.job.signals import Listening

async def listen():
    loop, heard, enough = asyncio.get_running_loop(), [], asyncio.Event()
    def act(number):
        heard.append(number.name)
        if number == SIGTERM:
            enough.set()
    open_before = os.listdir("/proc/self/fd")
    listening = Listening(loop, [SIGTSTP, SIGCONT, SIGTERM, SIGUSR1, SIGINT], act)
    for number in (SIGTSTP, SIGCONT, SIGUSR1, SIGTSTP, SIGUSR1, SIGINT, SIGTERM):
        os.kill(os.getpid(), number)
    await asyncio.wait_for(enough.wait(), 30)
    print(*heard, flush=True)
    listening.stop()
    assert signal.set_wakeup_fd(-1) == -1
    assert signal.getsignal(SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(SIGINT) == signal.default_int_handler
    assert os.listdir("/proc/self/fd") == open_before

asyncio.run(listen())
os.kill(os.getpid(), SIGTERM)
"""


def test_signals_reach_the_loop_in_their_order() -> None:
    done = subprocess.run([sys.executable, "-c", LISTEN], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.stdout.split() == ["SIGTSTP", "SIGCONT", "SIGUSR1", "SIGTSTP", "SIGUSR1", "SIGINT", "SIGTERM"]
    assert done.returncode == -15  # nobody listens to it any more
