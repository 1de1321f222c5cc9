"""Installs the files that an embedder needs: built and checked once, into a folder."""

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from reflexio_server.index.e5_install import E5
from reflexio_server.index.embedder import ModelMissing
from reflexio_server.index.loading import load_embedder
from reflexio_server.index.minilm_install import MINILM
from reflexio_server.index.model_files import MANIFEST_FILE
from reflexio_server.index.packages import InstallFailed, alone
from reflexio_server.index.recipe import Recipe, Report

_WORK_PREFIX = "building-"
_RECIPES = (MINILM, E5)


def is_installed(model_dir: Path, embedder: str) -> bool:
    """Whether the files that an embedder needs are there, byte by byte as they were installed."""
    recipe = _recipe_of(embedder)
    return recipe is not None and recipe.files.find_fault(model_dir) is None


def install_model(model_dir: Path, report: Report, embedder: str = "minilm") -> None:
    """Make sure that `model_dir` holds all that an embedder needs, and a manifest of it.

    Returns quickly if it does already, and then needs no right to write there. The manifest is written last, so a
    killed install leaves nothing that loads; the next one clears its remains away. Installs at the same time wait for
    one another.

    Args:
        model_dir: the folder of models; made if absent. MiniLM takes 113 MB there, and 400 MB meanwhile; e5 takes
            130 MB in a folder of its own below, and twice as much meanwhile.
        report: called with a sentence for each step as it begins.
        embedder: a name of an embedder.

    Raises:
        InstallFailed: what the model is built from is not to be had, or a file's hash is wrong.
        OSError: the folder cannot be written.
    """
    recipe = _recipe_of(embedder)
    if recipe is None:
        try:
            load_embedder(embedder, model_dir)
        except ModelMissing as error:
            raise InstallFailed(str(error)) from None
        report(f"The embedder {embedder} needs nothing but its package, which is there.")
        return
    folder = model_dir / recipe.files.folder
    if _find_fault(recipe, model_dir) is None:
        report(f"The model in {folder} is complete.")
        return
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder, report):
        if _find_fault(recipe, model_dir) is None:
            report(f"The model in {folder} is complete.")
            return
        for remains in folder.glob(f"{_WORK_PREFIX}*"):
            shutil.rmtree(remains)
        # Inside the folder, hence on the same disk: os.replace is then one step.
        with TemporaryDirectory(prefix=_WORK_PREFIX, dir=folder) as work:
            recipe.build(Path(work), report)
            _move(recipe, Path(work), folder)
    report(f"The model in {folder} is ready.")


def _recipe_of(embedder: str) -> Recipe | None:
    """How an embedder's files are made; None where they come with a package, and nothing is to be made."""
    return next((recipe for recipe in _RECIPES if embedder in recipe.embedders), None)


def _find_fault(recipe: Recipe, model_dir: Path) -> str | None:
    """What is wrong with the installed model, which is also loaded: a manifest of damaged files vouches for them."""
    fault = recipe.files.find_fault(model_dir)
    if fault is None:
        try:
            for name in recipe.embedders:
                load_embedder(name, model_dir)
        except ModelMissing as error:
            return str(error)
    return fault


def _move(recipe: Recipe, work: Path, folder: Path) -> None:
    recipe.files.write_manifest(work, recipe.source)
    names = (*recipe.files.names, MANIFEST_FILE)
    for name in names:
        (work / name).chmod(0o644)  # whatever the umask: others may read them, and only the owner change them
    # An old manifest must not vouch for new files; the new one comes when all of them are there.
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    for name in names:
        os.replace(work / name, folder / name)
