"""What a gateway looks at before it takes requests."""

import pytest

from flux_endpoint.core.clock import SystemClock
from flux_endpoint.core.errors import ImagesRefused, SettingsError, StoreUnavailable
from flux_endpoint.core.outbound import OutboundRules
from flux_endpoint.service.images import ImageService
from flux_endpoint.wiring.gateway import require_place

pytestmark = pytest.mark.anyio


class Answering:
    def __init__(self, error):
        self.error = error

    async def check(self):
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ImagesRefused("no such bucket"), SettingsError, "no picture can be kept: no such bucket"),
        # It may pass, as a database that is away does: another exit code tells whoever starts the server.
        (StoreUnavailable("it did not answer"), StoreUnavailable, "^it did not answer"),
    ],
)
async def test_a_place_that_refuses_is_a_wrong_setting_and_one_that_is_away_is_not(error, kind, text):
    with pytest.raises(kind, match=text):
        await require_place(ImageService(Answering(error), SystemClock()), OutboundRules())
