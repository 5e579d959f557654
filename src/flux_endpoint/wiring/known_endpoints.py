"""Which endpoints there are, for commands that name some."""

from collections.abc import Collection

from flux_endpoint.core.endpoint import FLUX_ENDPOINTS
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.settings import Settings


def require_known(settings: Settings, endpoint_ids: Collection[str]) -> None:
    """Refuse the id of an endpoint that no server with these settings could serve.

    Raises:
        SettingsError: there is no such endpoint; names the first, and all there are. Or ENDPOINTS_FILE is wrong.
    """
    known = list(FLUX_ENDPOINTS)
    if settings.endpoints_file is not None:
        # Here and not above: see `wiring/gateway.py`.
        from flux_endpoint.wiring.endpoints_file import read_endpoints_file

        known += [endpoint.endpoint_id for endpoint in read_endpoints_file(settings.endpoints_file, FLUX_ENDPOINTS)]
    for endpoint_id in endpoint_ids:
        if endpoint_id not in known:
            hint = "" if settings.endpoints_file else "; name those of your own with --endpoints-file"
            raise SettingsError(f"--endpoint is '{endpoint_id}'; there are {', '.join(known)}{hint}")
