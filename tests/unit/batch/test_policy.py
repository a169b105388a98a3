import pytest

from dayfly.batch.jobshell.policy import allowed, image, rules
from dayfly.batch.jobshell.request import Request
from dayfly.errors import Refused
from dayfly.settings import Queue, Settings

NOTHING, IMAGE, NONE = Request(("a",)), Request(("a",), image="el:9"), Request(("a",), image="none")


def test_a_queue_goes_over_what_is_said_of_all() -> None:
    settings = Settings(batch_vm="always", batch_image="a:1", batch_queues={"q": Queue(vm="never", images=("b:*",))})
    assert rules(settings, "q") == Queue("never", "a:1", ("b:*",))
    assert rules(settings, "other") == Queue("always", "a:1", ())


@pytest.mark.parametrize(
    ("request_", "vm", "parallel", "expected"),
    [
        (NOTHING, "on-request", False, ""),
        (NOTHING, "always", False, "debian:12"),
        (NOTHING, "always", True, ""),
        (NOTHING, "never", False, ""),
        (IMAGE, "on-request", False, "el:9"),
        (IMAGE, "always", True, "el:9"),
        (NONE, "on-request", False, ""),
        (NONE, "never", False, ""),
        (Request(("a",), network="nat"), "on-request", False, "debian:12"),
    ],
)
def test_who_gets_which(request_: Request, vm: str, parallel: bool, expected: str) -> None:
    assert image(request_, Queue(vm, "debian:12"), "q", parallel=parallel) == expected


@pytest.mark.parametrize(("request_", "vm"), [(IMAGE, "never"), (NONE, "always")])
def test_who_is_refused(request_: Request, vm: str) -> None:
    with pytest.raises(Refused):
        image(request_, Queue(vm, "debian:12"), "q", parallel=False)


def test_no_default_image() -> None:
    with pytest.raises(Refused, match="names no image"):
        image(NOTHING, Queue("always"), "q", parallel=False)


DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("wanted", "pattern", "meant"),
    [
        ("debian:12", "debian:*", "system/debian:12"),
        ("debian", "debian:latest", "system/debian:latest"),
        ("system/debian:12", "debian:12", "system/debian:12"),
        ("user/mine:1", "user/*", "user/mine:1"),
        (DIGEST, "sha256:*", f"system/{DIGEST}"),
    ],
)
def test_allowed(wanted: str, pattern: str, meant: str) -> None:
    assert allowed(wanted, ["el:9", pattern]) == meant


@pytest.mark.parametrize("wanted", ["debian:13", "user/debian:12", "debian:12.1", DIGEST, f"debian@{DIGEST}"])
def test_not_allowed(wanted: str) -> None:
    with pytest.raises(Refused, match="not allowed"):
        allowed(wanted, ["debian:12"])


def test_everything_is_allowed_where_nothing_is_said() -> None:
    assert allowed("user/x:1", []) == "user/x:1"


def test_jobs_with_several_tasks_are_refused_where_the_site_wants_nothing_to_run_natively() -> None:
    """How many tasks it has is the job's word."""
    always = Queue("always", "debian:12")
    assert image(NOTHING, always, "q", parallel=True) == ""
    with pytest.raises(Refused, match="has several tasks"):
        image(NOTHING, always, "q", parallel=True, native_parallel=False)
    assert image(NOTHING, always, "q", parallel=False, native_parallel=False) == "debian:12"
    assert image(NOTHING, Queue("on-request"), "q", parallel=True, native_parallel=False) == ""
