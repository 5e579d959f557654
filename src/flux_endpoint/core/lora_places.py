"""LoRAs that lie elsewhere, on the hub or at a URL: how they are named, and which of them an operator allows."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import unquote, urlsplit

from flux_endpoint.core.errors import CheckpointError, InvalidParameter
from flux_endpoint.core.outbound import require_url

SETTING: Final = "FLUX_ENDPOINT_LORA_SOURCES"
ENDINGS: Final = (".safetensors", ".sft")
# Of one file that is fetched. LoRAs of rank 128 for all layers of FLUX.1 have 1.3 GB.
MAX_FETCHED_BYTES: Final = 2_000_000_000
_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_HUB_NAME: Final = re.compile(rf"({_PART}/{_PART})(?:/((?:{_PART}/)*{_PART}))?")
_HUB_PATTERN: Final = re.compile(r"[A-Za-z0-9_.*?-]+/[A-Za-z0-9_.*?-]+")
_HOST_PATTERN: Final = re.compile(r"[a-z0-9_.*?-]+(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository of the hub.

    Attributes:
        repository: `owner/name`.
        file: its path there; None for the only LoRA that the repository has.
    """

    repository: str
    file: str | None


def hub_file(name: str) -> HubFile | None:
    """What a name means on the hub: `owner/name`, or a file of it; None for a name that is neither."""
    match = _HUB_NAME.fullmatch(name)
    if match is None or (match[2] is not None and not match[2].lower().endswith(ENDINGS)):
        return None
    return HubFile(match[1], match[2])


def is_url(name: str) -> bool:
    """Whether a name of a LoRA is a URL, of whatever kind."""
    return "://" in name


def file_name_of(url: str) -> str:
    """What the file at a URL is called; `lora.safetensors` where the URL does not say."""
    last = unquote(urlsplit(url).path).rpartition("/")[2]
    return last if last.lower().endswith(ENDINGS) and last.isprintable() else "lora.safetensors"


def told_name(name: str) -> str:
    """A name as files and logs have it: of a URL without what may be secret."""
    if not is_url(name):
        return name
    parts = urlsplit(name)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass(frozen=True, slots=True)
class LoraSources:
    """Where LoRAs may be fetched from. Empty, as it is by default: nowhere.

    Attributes:
        repositories: patterns of `owner/name`, with `*` and `?`.
        hosts: patterns of hosts, or of `host:port`; in lower case.
    """

    repositories: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    def check(self, name: str) -> None:
        """Refuse what may not be fetched.

        Args:
            name: as a client wrote it: a URL, or one for which `hub_file` has an answer.

        Raises:
            CheckpointError: the operator does not allow it, or it is no https URL.
        """
        found = hub_file(name)
        if found is not None:
            if not any(fnmatchcase(found.repository, pattern) for pattern in self.repositories):
                raise CheckpointError(f"this server does not fetch '{found.repository}' from the hub: {_why(self)}")
            return
        try:
            parts = urlsplit(require_url("path", name))
        except InvalidParameter as error:
            raise CheckpointError(f"'{told_name(name)}' {error.problem}") from None
        if parts.scheme != "https" or parts.username is not None or parts.fragment:
            raise CheckpointError(f"'{told_name(name)}' must start with https://, without user, password or fragment")
        host = (parts.hostname or "").rstrip(".")
        places = host, f"{host}:{parts.port or 443}"
        if not any(fnmatchcase(place, pattern) for place in places for pattern in self.hosts):
            raise CheckpointError(f"this server does not fetch LoRAs from {host}: {_why(self)}")


NOWHERE: Final = LoraSources()


def parse_lora_sources(text: str) -> LoraSources:
    """Read the setting LORA_SOURCES: `owner/name` and hosts, with `*` and `?`, joined by commas.

    Raises:
        ValueError: an entry is neither; the text names it.
    """
    entries = [part.strip() for part in text.split(",") if part.strip()]
    repositories = tuple(entry for entry in entries if _HUB_PATTERN.fullmatch(entry))
    hosts = tuple(entry.lower() for entry in entries if entry not in repositories)
    for host in hosts:
        if not _HOST_PATTERN.fullmatch(host):
            raise ValueError(f"'{host}' is no owner/name of the hub, and no host")
    return LoraSources(repositories, hosts)


def _why(sources: LoraSources) -> str:
    allowed = ", ".join((*sources.repositories, *sources.hosts)) or "nothing"
    return f"setting {SETTING} allows {allowed}"
