"""Reads the settings from environment and command line, and says in one line what is wrong with them."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from flux_endpoint.core.errors import SettingsError
from flux_endpoint.settings import Settings, WorkerSettings
from flux_endpoint.settings.fields import CONTRADICTION, PREFIX


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """One row of the settings table.

    Attributes:
        name: without the prefix, in capitals.
        default: as text; empty when unset.
        allowed: what may stand in it, in words.
    """

    name: str
    default: str
    description: str
    allowed: str

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return PREFIX + self.name

    @property
    def option(self) -> str:
        """Name of the command line option."""
        return "--" + self.name.lower().replace("_", "-")


def list_settings(kind: type[BaseSettings] = Settings) -> list[SettingInfo]:
    """All settings of the gateway (or of `WorkerSettings`), in the order of their definition."""
    return [
        SettingInfo(
            name=name.upper(),
            default="" if field.default is None else str(field.default),
            description=field.description or "",
            allowed=str(_extra(kind, name)["allowed"]),
        )
        for name, field in kind.model_fields.items()
    ]


_S = TypeVar("_S", bound=BaseSettings)


def load_settings(kind: type[_S], options: Mapping[str, Any] | None = None) -> _S:
    """Read the environment, with command line options on top.

    Args:
        kind: `Settings` or `WorkerSettings`.
        options: values by field name; None means not given.

    Raises:
        SettingsError: an unknown name or a bad value; its one line says which and what is allowed.
    """
    _refuse_unknown_names(os.environ)
    try:
        return kind(**{name: value for name, value in (options or {}).items() if value is not None})
    except ValidationError as error:
        raise SettingsError(_explain(kind, error)) from None


def _refuse_unknown_names(environment: Mapping[str, str]) -> None:
    # Both kinds in one set: a worker and a gateway may be started from one shell.
    known = sorted({info.name for kind in (Settings, WorkerSettings) for info in list_settings(kind)})
    for variable in sorted(environment):
        name = variable.upper().removeprefix(PREFIX)
        if variable.upper().startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else f"known after {PREFIX} are {', '.join(known)}"
            raise SettingsError(f"unknown setting {variable}: {hint}")


def _explain(kind: type[BaseSettings], error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    name = str(problem["loc"][0]) if problem["loc"] else ""
    info = next(info for info in list_settings(kind) if info.name == name.upper())
    shown = "has a value that is not allowed" if _extra(kind, name)["secret"] else f"is {problem['input']!r}"
    allowed = problem["msg"] if problem["type"] == CONTRADICTION else info.allowed
    return f"setting {info.variable} (option {info.option}) {shown}; allowed: {allowed}"


def _extra(kind: type[BaseSettings], name: str) -> Mapping[str, Any]:
    extra = kind.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return extra
