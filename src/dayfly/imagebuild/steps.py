"""The `run` steps of a recipe: they run in a machine of the image so far, never on the host. The machine's files become
the root.
"""

from __future__ import annotations

from dataclasses import replace

from dayfly.image.library import Library, Source
from dayfly.image.manifest import ImageConfig, Role
from dayfly.image.reference import LibraryKind, Reference
from dayfly.imagebuild import capture
from dayfly.imagebuild.capture import CaptureTarget
from dayfly.imagebuild.containerimage.rootfs import Root
from dayfly.imagebuild.context import BuildContext
from dayfly.imagebuild.filesystem import Progress
from dayfly.imagebuild.recipe import Recipe
from dayfly.machine.config import Shape
from dayfly.provision.scripts import Scripts, run_scripts
from dayfly.settings import Settings


def scripts(recipe: Recipe, settings: Settings, scripts: tuple[str, ...]) -> Scripts:
    """A recipe's scripts, with the machine that it describes."""
    machine = recipe.machine
    return Scripts(
        scripts=scripts,
        shape=Shape(settings.machine_cpus, machine.memory or settings.machine_memory),
        scratch=machine.scratch or settings.scratch_size,
        network=machine.network,
        environment=tuple(f"{name}={value}" for name, value in recipe.environment.items()),
    )


def perform(context: BuildContext, recipe: Recipe, config: ImageConfig, layers: dict[Role, Source]) -> Root:
    """The root after a recipe's steps. The image so far, `config` and `layers`, is in a temporary library.

    Raises as `dayfly.provision.scripts.run_scripts`, and as `dayfly.imagebuild.capture.root`.
    """
    library = Library(context.work.path / "before")
    digest = library.add(config, layers, None)
    within = replace(context.settings, library_user=library.layout.folder)  # for the site's policy, the image is the user's own
    progress = context.progress
    with (
        library.open(Reference(None, digest, LibraryKind.USER)) as image,
        capture.archived(context.work, context.namespace) as target,
    ):
        progress(f"run: starting a machine for {len(recipe.run)} steps")
        wanted = scripts(recipe, context.settings, recipe.run)
        run_scripts(image, within, wanted, target.archive, lambda number, line: progress(f"run {number}: {line}"), progress)
        return after(target, "steps", config.directory, context.date, progress)


def after(at: CaptureTarget, name: str, directory: str, date: int, progress: Progress) -> Root:
    """The root of the files in an archive, made in a folder of this name. No file is newer than `date`."""
    return capture.root(replace(at, namespace=at.namespace.inner(name)), directory, date, progress, latest=date)
