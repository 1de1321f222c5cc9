"""`reflexio-server model use`: lets another embedding model take over where several servers share a store."""

import click

from reflexio_server.cli.options import open_database
from reflexio_server.cli.settings import STORE, settings_options
from reflexio_server.config import Settings
from reflexio_server.index.embedder import ModelMissing
from reflexio_server.index.loading import EMBEDDER_NAMES, load_embedder
from reflexio_server.storage import embedders


@click.command()
@click.argument("name", type=click.Choice(EMBEDDER_NAMES))
@settings_options(*STORE, "model_dir")
def use(settings: Settings, name: str) -> None:
    """Let another embedding model take over a store in PostgreSQL; servers may be running.

    The server that leads embeds everything anew in the background, and until that is complete the model before goes on
    answering; `index status` tells how far it is. Install the model where servers run first (`model install`): each
    loads it when it is live. Then give them the new --embedder. Naming the model in use takes a change back.

    With SQLite a server is started with another --embedder instead.
    """
    if settings.database is None:
        raise click.UsageError(
            "this is for PostgreSQL, --database-url-file: with SQLite, start with another --embedder"
        )
    try:
        model = load_embedder(name, settings.model_dir)
    except ModelMissing as error:
        raise click.ClickException(str(error)) from None
    with open_database(settings, create=True, owning=False) as (database, _), database.write() as conn:
        before = embedders.state(conn)
        number = embedders.register(conn, model.model_id, model.dimensions)
        state = embedders.choose(conn, number)
        live = embedders.model_id(conn, state.live)
    if state.live != number:
        click.echo(f"{model.model_id} is to take over from {live}: `index status` tells how far it is.")
    elif before is None:
        click.echo(f"{live} is the model of this store.")
    else:
        back = ", and no other is to take over any more" if before.next is not None else ""
        click.echo(f"{live} is in use{back}.")
