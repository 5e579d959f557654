"""How clients see this server, as far as that is known before they ask."""

from collections.abc import Sequence
from dataclasses import dataclass

from flux_endpoint.core.outbound import Network


@dataclass(frozen=True, slots=True)
class Front:
    """How clients see this server.

    Attributes:
        local_url: how this machine reaches it, without a slash at the end.
        public_url: how every client reaches it, without a slash at the end; None: each as it asked.
        trusted_proxies: whose `X-Forwarded-Proto`, `-Host` and `-Prefix` are believed.
        cors_origins: of whose pages a browser may call; "*" for all.
        dialects: names of the wire formats that are spoken beside the first; None for all that there are.
    """

    local_url: str = "http://127.0.0.1:8000"
    public_url: str | None = None
    trusted_proxies: Sequence[Network] = ()
    cors_origins: Sequence[str] = ()
    dialects: Sequence[str] | None = None

    def base_url_of(self, job_origin: str | None) -> str:
        """What the links to a job's picture start with where no request is at hand.

        Args:
            job_origin: what they started with when the job came.
        """
        return self.public_url or job_origin or self.local_url
