"""What a setting is: a field with a meaning, limits in words and a default, read from the environment."""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX: Final = "FLUX_ENDPOINT_"
# The kind of error whose text says what is allowed.
CONTRADICTION: Final = "contradiction"


class PrefixedSettings(BaseSettings):
    """Settings of one subject. `Settings` and `WorkerSettings` are made of them."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)


def setting(default: Any, description: str, allowed: str, *, is_secret: bool = False, **limits: Any) -> Any:
    """One field: what it means, and in words what may stand in it."""
    return Field(
        default=default, description=description, json_schema_extra={"allowed": allowed, "secret": is_secret}, **limits
    )


def contradiction(allowed: str) -> PydanticCustomError:
    """What a validator raises when a value does not go with that of another setting.

    Args:
        allowed: what may stand there instead; it names the other setting.
    """
    return PydanticCustomError(CONTRADICTION, "{allowed}", {"allowed": allowed})


def _fits_a_header(value: SecretStr) -> SecretStr:
    if not all("!" <= char <= "~" for char in value.get_secret_value()):
        raise ValueError("not printable")
    return value


def parts_of(value: str) -> list[str]:
    """The members of a list that is joined by commas."""
    return [part.strip() for part in value.split(",") if part.strip()]


Secret = Annotated[SecretStr, AfterValidator(_fits_a_header)]
