"""What a warm start imports: each module is CPU time of every job (docs/decisions/0030, 0180)."""

from __future__ import annotations

import pytest

from tests.framework.imports import imported
from tests.framework.site import IMAGE, Site

UNUSED = (
    "ast dataclasses dis gettext hashlib inspect ipaddress linecache locale ntpath qemu qemu.qmp random shutil ssl _ssl tempfile "
    "textwrap tokenize uuid dayfly.policy.rules_file dayfly.image.trust.state dayfly.image.trust.judging "
    "dayfly.image.inspection dayfly.imagebuild dayfly.job.capture dayfly.app.save dayfly.cli.toplevel dayfly.cli.image "
    "dayfly.machine.snapshot.save dayfly.provision.templates.creation dayfly.batch"
)


@pytest.mark.usefixtures("own_library")
def test_a_warm_start_imports_what_a_job_needs(site: Site) -> None:
    """From a library of its own: a start reads an image's files again when somebody has made a link to one of them."""
    assert site.run("true", options=("--no-share",)).status == 0  # there is a template afterwards
    modules = imported(["run", IMAGE, "--no-share", "--", "true"], site.environment())
    assert site.records()[-1]["machine"]["start"] == "template"
    assert {"dayfly.job.supervise", "asyncio"} <= modules
    assert not modules & set(UNUSED.split())
