"""Print the phases and resources of the last job named `demo`, from the output of `dayfly usage list --json`."""

from __future__ import annotations

import json
import sys

from dayfly.units import format_duration, format_size

STEPS = {
    "spawned": "QEMU spawned",
    "restored": "cloned from the template",
    "hello": "guest kernel booted",
    "ready": "root mounted, agent ready",
    "started": "job started",
    "first_byte": "first byte of the job's output",
    "exited": "job ended",
    "gone": "machine gone",
}


def main() -> None:
    """Read the records and print a table."""
    record = [record for record in json.load(sys.stdin) if record["name"] == "demo"][-1]
    phases, used, machine = record["phases"], record["used"], record["machine"]
    print(f"{'after':>9}")
    for step, text in STEPS.items():
        if step in phases:
            print(f"{format_duration(phases[step]):>9}  {text}")
    print(
        f"\nmachine: {machine['cpus']} CPU, {format_size(machine['memory'])}, {machine['accelerator']}, {machine['start']} start"
    )
    print(f"CPU: {format_duration(used['cpu_host'])} on the host; the job's peak memory: {format_size(used['peak_memory'] or 0)}")
    print(f"Nothing of the machine is left. Its record: dayfly usage show {record['id']}")


if __name__ == "__main__":
    main()
