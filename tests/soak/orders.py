"""Orders of pictures through Runpod's Python SDK, by customers who do not give up."""

import random
import time
import warnings
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, Final

import requests

from tests.servers import DEV, SCHNELL
from tests.soak.journal import TERMINAL, Journal

# Beyond this an order is lost, whatever comes later.
PATIENCE_S: Final = 300.0
_PROMPTS: Final = ("a red house", "a lake at dawn", "a boat in fog", "two trees", "a blue door")
_REST_S: Final = 0.5


def draw_wishes(rng: random.Random, distinct: int) -> list[tuple[str, dict[str, Any]]]:
    """Endpoints and inputs, no two equal; all at 256 x 256."""
    wishes = []
    for number in range(distinct):
        steps = rng.choice([1, 2, 4, 8])
        given = {"prompt": rng.choice(_PROMPTS), "seed": number, "width": 256, "height": 256}
        given |= {"num_inference_steps": steps, "image_format": rng.choice(["png", "jpeg"])}
        wishes.append((rng.choice([DEV, SCHNELL]), given))
    return wishes


class Customer:
    """Orders pictures, one after another; safe to share between threads.

    Args:
        journal: notes what was promised.
        url: of the load balancer.
        key: an API key.
    """

    def __init__(self, journal: Journal, url: str, key: str) -> None:
        self._journal, self._key = journal, key
        self._runpod = _load_runpod(url)
        # How each job ended, as it was told.
        self.told: dict[str, str] = {}
        self.repeats = 0
        # Nobody is to wait any more.
        self.is_over = False

    def order(self, endpoint_id: str, given: dict[str, Any], name: str, is_sync: bool) -> None:
        """Order one picture and wait for it; whatever breaks on the way is tried again.

        Args:
            endpoint_id: what draws it.
            given: the input.
            name: of the order: under it the same request is one job, however often it is sent.
            is_sync: by `/runsync`, not `/run`.
        """
        endpoint = self._runpod.Endpoint(endpoint_id, api_key=self._key)
        client = endpoint.rp_client
        client.headers["Idempotency-Key"] = name
        began_s, end_s = self._journal.now_s(), time.monotonic() + PATIENCE_S
        verb = "runsync?wait=20000" if is_sync else "run"
        body = {"input": given}
        job = self._insist(name, end_s, partial(client.post, f"{endpoint_id}/{verb}", body, timeout=40))
        if job is None:
            return
        self._journal.promise("official", job["id"], endpoint_id)
        while job is not None and job["status"] not in TERMINAL:
            time.sleep(_REST_S)
            job = self._insist(name, end_s, partial(client.get, f"{endpoint_id}/status/{job['id']}", timeout=20))
        if job is not None:
            self.told[job["id"]] = job["status"]
            self._journal.waited("official", "order", began_s, self._journal.now_s() - began_s, 200)

    def _insist(self, name: str, end_s: float, call: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        while time.monotonic() < end_s and not self.is_over:
            try:
                return call()
            except requests.HTTPError as error:
                # What a server answers while it cannot reach what it needs; anything else is no weather.
                if error.response.status_code < 500:
                    self._journal.surprise("official", f"order {name}: {error.response.text[:300]} ({error})")
                    return None
            except requests.RequestException:
                pass
            self.repeats += 1
            time.sleep(_REST_S)
        self._journal.surprise("official", f"order {name} was not answered within {PATIENCE_S:.0f} s")
        return None


def _load_runpod(url: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import runpod
    runpod.endpoint_url_base = f"{url}/v2"
    return runpod
