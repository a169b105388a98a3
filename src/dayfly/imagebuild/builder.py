"""Builds an image from a recipe, into a library."""

from __future__ import annotations

import time
from pathlib import Path

from dayfly import files
from dayfly.errors import NotFound, Refused
from dayfly.image.library import Library, OpenImage, Source
from dayfly.image.manifest import ImageConfig, Kernel, Role
from dayfly.image.reference import Name, Reference
from dayfly.image.work import sweep, work_folder
from dayfly.imagebuild import archives, filesystem, rpm, steps
from dayfly.imagebuild.boot import BootParts
from dayfly.imagebuild.containerimage.rootfs import Root
from dayfly.imagebuild.context import BuildContext, layers_of
from dayfly.imagebuild.filesystem import Progress
from dayfly.imagebuild.namespace import enter
from dayfly.imagebuild.recipe import RPM, Recipe, load
from dayfly.imagebuild.root import RootFacts, finish
from dayfly.settings import Settings


def _root(context: BuildContext, recipe: Recipe) -> tuple[Path, RootFacts, Path]:
    """The root filesystem's file, facts about it, and the archive that it was made from."""
    raw, sources = context.bootstrap(
        "packages", recipe.distribution, recipe.release, recipe.components, recipe.variant, recipe.packages
    )
    context.progress("root: finishing the files")
    finished = context.work.path / "root.tar"
    with files.reporting_full_disk(context.work.path), finished.open("xb") as target:
        facts = finish(raw, target, recipe, archives.image_source_lines(sources, recipe.components))
    context.progress("root: making the filesystem")
    return filesystem.from_archive(context.namespace, finished, recipe.date), facts, raw


def build(
    recipe: Recipe,
    library: Library,
    settings: Settings,
    progress: Progress,
    *,
    name: Name | None = None,
) -> str:
    """Build an image and add it to a library under this name, or the recipe's, and return its digest.

    What a build that fails or is killed leaves behind is removed by the next one. Raises `DayflyError` of many kinds, each
    with a hint.
    """
    if recipe.date > time.time():
        raise Refused(
            f"the recipe's date, {recipe.created}, is in the future",
            "no file of the image may be newer than the date: use today's or an earlier one",
        )
    library.create()
    sweep(library.layout)
    if recipe.distribution == RPM:
        return _build_rpm(recipe, library, settings, progress, name or recipe.name)
    with work_folder(library.layout) as work:
        context = BuildContext(settings, work, enter(work, settings.scratch_folder), progress, recipe.date)
        root, facts, archive = _root(context, recipe)
        parts, modules = context.debian_kernel(recipe.kernel) if recipe.kernel else (context.kernel_in(archive), None)
        made = Root(root, facts.size, facts.os)
        return _finished(recipe, made, parts, modules, context, library, name or recipe.name)


def _finished(
    recipe: Recipe,
    root: Root,
    parts: BootParts,
    modules: Path | None,
    context: BuildContext,
    library: Library,
    name: Name,
) -> str:
    """Run the steps, add the image of a root and a kernel to the library, and return its digest."""
    about = config(recipe, root, parts.version)
    layers = {Role.ROOT: Source(filesystem.FORM, root.path), **layers_of(parts, modules)}
    if recipe.run:
        made = steps.perform(context, recipe, about, layers)
        about, layers[Role.ROOT] = config(recipe, made, parts.version), Source(filesystem.FORM, made.path)
    context.progress("image: adding it to the library")
    return library.add(about, layers, name)


def _build_rpm(recipe: Recipe, library: Library, settings: Settings, progress: Progress, name: Name) -> str:
    with rpm_builder(library, settings, progress) as builder, work_folder(library.layout) as work:
        context = BuildContext(settings, work, enter(work, settings.scratch_folder), progress, recipe.date)
        root = rpm.root(context, recipe, builder)
        parts, modules = context.debian_kernel(recipe.kernel)
        return _finished(recipe, root, parts, modules, context, library, name)


def rpm_builder(library: Library, settings: Settings, progress: Progress) -> OpenImage:
    """The image with dnf, opened. It is built if the library does not have it, or has one of another recipe."""
    wanted = load(rpm.BUILDER)
    reference = Reference(wanted.name, "", library.kind)
    try:
        if library.inspect(reference)[2].recipe == wanted.digest:
            return library.open(reference)
    except NotFound:
        pass
    progress(f"packages: building {wanted.name}, which has dnf")
    build(wanted, library, settings, progress)
    return library.open(reference)


def config(recipe: Recipe, root: Root, kernel: str) -> ImageConfig:
    """The image's config."""
    return ImageConfig(
        os=root.os,
        kernel=Kernel(kernel, recipe.command_line),
        boot=recipe.boot,
        size=root.size,
        created=recipe.created,
        recipe=recipe.digest,
        default_user=recipe.default_user,
        environment=recipe.environment,
        labels=recipe.labels,
    )
