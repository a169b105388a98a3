"""The time that checking the site's policy and the signed lists adds to each job before QEMU is spawned.

Usage: python -m bench.asking [--runs N]. Each run is a new interpreter that has already imported the modules of every job. The
additional time is measured, including additional imports. The last figure needs openssl.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.figures import Figure, show, show_host
from dayfly import disknames
from dayfly.image.layout import Layout
from dayfly.image.trust import state
from dayfly.image.trust.smime import certificate, sign
from dayfly.units import format_time

RULES = 10
IMAGES = 50
TOML = "import tomllib\n"

POLICY = """
import os, sys, time
from pathlib import Path
import dayfly.job.start
from dayfly.settings import Settings
from dayfly.image.reference import LibraryKind
settings = Settings(policy_system=Path(sys.argv[1]), library_user=Path(sys.argv[2]))
for name in [name for name in sys.modules if name.startswith(("dayfly.policy.rules", "dayfly.policy.permission"))]:
    del sys.modules[name]
begun = time.perf_counter()
from dayfly.image.trust.provenance import Standing
from dayfly.job import permission
from dayfly.policy.rules import Wish, decide
image = permission.known(LibraryKind.USER, ("debian:12",), "sha256:0", {}, Standing(), settings)
wish = Wish("none", 1, 1 << 29, permission.shared([(sys.argv[2], False)]))
for policy in permission.policies(settings):
    decide(policy, permission.caller(named=policy.names_people), image, wish)
print((time.perf_counter() - begun) * 1000)
"""
LISTS = """
import sys, time
from pathlib import Path
import dayfly.job.start
from dayfly.image.layout import Layout
from dayfly.image.trust.provenance import standing
begun = time.perf_counter()
standing(Layout(Path(sys.argv[1])), "sha256:" + "7".zfill(64), "debian:12")
print((time.perf_counter() - begun) * 1000)
"""


def milliseconds(code: str, runs: int, *arguments: object, before: str = "") -> tuple[float, ...]:
    """The milliseconds that the code prints, from one new interpreter for each run."""
    command = [sys.executable, "-c", before + code, *map(str, arguments)]
    return tuple(float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(runs))


def library(folder: Path) -> Layout:
    """A library that follows one list."""
    key, pem = folder / "key.pem", folder / "cert.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(pem), "-subj", "/CN=Ada"]
    subprocess.run(["openssl", *words], check=True, capture_output=True)
    layout, now = Layout(folder / "library"), int(time.time())
    layout.trust.mkdir(parents=True)
    signer, issuer, _ = certificate(pem.read_bytes())
    accepted = state.Accepted(
        *("1", now, now + 10**6, now, signer, issuer, "a" * 64, "b" * 64, format_time(now)),
        watched={str(pem): state.fingerprint(str(pem))},
    )
    state.signed_path(layout, accepted).write_bytes(sign(b"{}", pem, key))
    entry = state.Entry("site", "image", "debian:12", "sha512:" + "0" * 128, "1", "list:x", signer, now, now + 10**6)
    follows = state.Subscription("file:///x", "x", (signer,), issuer, (str(pem),), (), accepted)
    known = state.State({"site": follows}, {f"sha256:{number:064}": (entry,) for number in range(IMAGES)})
    (layout.trust / disknames.TRUST_STATE).write_bytes(state.render(known))
    return layout


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    show_host()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        policy = folder / "policy.toml"
        where = (policy, folder)
        no_list = Figure("no list", milliseconds(LISTS, runs, folder), "ms")
        none = Figure("no policy", milliseconds(POLICY, runs, *where), "ms")
        rules = [f'[[rule]]\naction = "deny"\nuser = "u{number}"\nimage = ["a:*", "b:{number}"]\n' for number in range(RULES - 1)]
        policy.write_text("".join(rules) + '[[rule]]\naction = "allow"\nlibrary = "own"\nlimits = { cpus = 4 }\n')
        figures = [
            Figure(f"{RULES} rules, with settings in a file too", milliseconds(POLICY, runs, *where, before=TOML), "ms"),
            Figure(f"{RULES} rules, without any other TOML file", milliseconds(POLICY, runs, *where), "ms"),
        ]
        show(none, figures)
        layout = library(folder)
        listed = Figure(f"a list of {IMAGES} images", milliseconds(LISTS, runs, layout.folder), "ms")
        (folder / "cert.pem").touch()
        changed = Figure("a certificate file has changed", milliseconds(LISTS, runs, layout.folder), "ms")
        show(no_list, [listed, changed])


if __name__ == "__main__":
    main()
