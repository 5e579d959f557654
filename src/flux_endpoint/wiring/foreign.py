"""The environment in which Runpod's worker SDK serves an endpoint here (contract section 5.1)."""

from typing import Final
from urllib.parse import quote

from flux_endpoint.core.errors import SettingsError
from flux_endpoint.settings import WorkerSettings
from flux_endpoint.worker.process import new_worker_id

# The SDK appends `&...`, so its URLs must have a query already.
_QUERY: Final = "?gpu=unknown"
_ID: Final = "$ID"
_WORKER: Final = "$RUNPOD_POD_ID"


def environment(settings: WorkerSettings, endpoint_id: str) -> dict[str, str]:
    """The variables, by name.

    Raises:
        SettingsError: there is no worker token.
    """
    if settings.worker_token is None:
        raise SettingsError("setting FLUX_ENDPOINT_WORKER_TOKEN (option --token) is missing; see workers create")
    url = f"{settings.gateway.rstrip('/')}/v2/{quote(endpoint_id, safe=',')}"
    return {
        "RUNPOD_WEBHOOK_GET_JOB": f"{url}/job-take/{_ID}{_QUERY}",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{url}/job-done/{_WORKER}/{_ID}{_QUERY}",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{url}/job-stream/{_WORKER}/{_ID}{_QUERY}",
        "RUNPOD_WEBHOOK_PING": f"{url}/ping/{_WORKER}{_QUERY}",
        "RUNPOD_AI_API_KEY": settings.worker_token.get_secret_value(),
        # Without it the SDK sends no pings, and its jobs would be taken back at the end of the first lease.
        "RUNPOD_POD_ID": settings.worker_id or new_worker_id(),
        "RUNPOD_ENDPOINT_ID": endpoint_id,
        # The SDK's checks at the start want a GPU and a connection to a public address.
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }
