"""The rule with which a bucket deletes old pictures by itself, as its vendor's command takes it."""

import json
import math
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from flux_endpoint.core.errors import SettingsError
from flux_endpoint.core.periods import MS_PER_DAY
from flux_endpoint.core.source_picture import SOURCE_LIFE_MS

_ID: Final = "flux-endpoint-pictures"


@dataclass(frozen=True, slots=True)
class LifecycleRule:
    """A rule for a bucket.

    Attributes:
        text: JSON.
        command: that sets it, when the text is in `lifecycle.json`; it replaces the rules that the bucket has.
        is_for_all: whether it deletes whatever is in the bucket, because the pictures have no prefix of their own.
    """

    text: str
    command: str
    is_for_all: bool


def lifecycle_rule(image_store_url: str, retention_days: float) -> LifecycleRule:
    """The rule for the bucket that a URL names: it deletes what nobody can need any more, never sooner.

    It cannot tell pictures that clients have sent from others, and jobs may wait to be drawn from these: where the
    retention is shorter, they decide. Vendors count whole days, and some run at midnight: the gateway's own sweep is
    what keeps to the hour.

    Raises:
        SettingsError: the URL names no bucket.
    """
    place = urlsplit(image_store_url)
    bucket, prefix = place.netloc, place.path.strip("/")
    prefix = f"{prefix}/" if prefix else ""
    days = math.ceil(max(retention_days, SOURCE_LIFE_MS / MS_PER_DAY))
    rule: dict[str, Any]
    match place.scheme:
        case "s3":
            expiry = {"ID": _ID, "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": days}}
            rule = {"Rules": [expiry]}
            command = (
                f"aws s3api put-bucket-lifecycle-configuration --bucket {bucket} "
                "--lifecycle-configuration file://lifecycle.json"
            )
        case "gs":
            condition = {"age": days} | ({"matchesPrefix": [prefix]} if prefix else {})
            rule = {"rule": [{"action": {"type": "Delete"}, "condition": condition}]}
            command = f"gcloud storage buckets update gs://{bucket} --lifecycle-file=lifecycle.json"
        case "az":
            definition = {
                "actions": {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": days}}},
                "filters": {"blobTypes": ["blockBlob"], "prefixMatch": [f"{bucket}/{prefix}"]},
            }
            rule = {"rules": [{"name": _ID, "enabled": True, "type": "Lifecycle", "definition": definition}]}
            command = (
                "az storage account management-policy create --policy @lifecycle.json --account-name ACCOUNT "
                "--resource-group GROUP"
            )
        case _:
            raise SettingsError(
                "a lifecycle rule is for buckets: IMAGE_STORE_URL must be s3://, gs:// or az://; pictures in a folder "
                "are deleted by the server itself"
            )
    # A container of Azure is named in the rule: others of the account are left alone.
    return LifecycleRule(json.dumps(rule, indent=2), command, is_for_all=not prefix)
