"""`flux-endpoint db`: the tables of the database."""

import typer

from flux_endpoint.commands.admin import Admin, ask
from flux_endpoint.commands.options import with_settings
from flux_endpoint.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Look after the database.")


@app.command("upgrade")
@with_settings(Settings, "data_dir", "database_url")
def upgrade(*, settings: Settings) -> None:
    """Bring the tables up to date with this version, or make them, and leave.

    Every server does so at its start. This is for whoever wants it done, or to fail, before any server of a new version
    is started; it waits for others that are at it.

    Example:
    - `FLUX_ENDPOINT_DATABASE_URL=postgresql://flux:...@db/flux flux-endpoint db upgrade`
    """

    async def nothing(admin: Admin) -> None:
        """Whoever opens a database brings it up to date."""

    ask(settings, nothing)
    print("the database is up to date")
