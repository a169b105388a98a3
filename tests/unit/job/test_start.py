"""What is imported when, on the way of a job's start."""

import sys

import pytest

from dayfly.job import start


@pytest.mark.parametrize("known", [True, False])
def test_the_rest_is_imported_and_openssl_is_not_hidden_for_good(monkeypatch: pytest.MonkeyPatch, *, known: bool) -> None:
    """A formatter has once taken this import for one that nobody needs."""
    monkeypatch.delitem(sys.modules, "dayfly.job.foreground", raising=False)
    if not known:
        monkeypatch.delitem(sys.modules, "ssl", raising=False)
    start._import_the_rest()
    assert "dayfly.job.foreground" in sys.modules
    assert sys.modules.get("ssl", start) is not None
