"""`flux-endpoint verify`: what a picture's file claims, and whether it holds."""

import json
from dataclasses import asdict
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from flux_endpoint.core.errors import SettingsError
from flux_endpoint.core.image_formats import IMAGE_FORMATS, ImageFormat, either, format_of
from flux_endpoint.core.marks import parameters_in, source_type_in
from flux_endpoint.core.text import printable
from flux_endpoint.engine.credentials import (
    INVALID,
    NOT_INSTALLED,
    TRUSTED,
    UNTRUSTED,
    VALID,
    credential_in,
    is_installed,
)

_SENTENCES: Final = {
    TRUSTED: "holds: unchanged since it was signed, by somebody trusted",
    VALID: "holds: unchanged since it was signed; whether to trust the signer is not checked",
    UNTRUSTED: "does not hold: unchanged since it was signed, but by nobody trusted",
    INVALID: "does not hold: changed since it was signed, or never right",
    "none": "none: nobody vouches for what the file says",
    "unchecked": "not checked",
}


class _Verdict(IntEnum):
    """Exit codes; 2 is a mistake on the command line, as everywhere."""

    HOLDS = 0
    BROKEN = 1
    UNSIGNED = 3
    UNCHECKED = 4


def verify(
    file: Annotated[Path, typer.Argument(help="A picture.", show_default=False)],
    trust: Annotated[
        Path | None,
        typer.Option(
            "--trust", help="PEM of the certificates of those who are trusted: whoever else signed is refused."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what a picture's file claims of itself, and whether it holds. Nothing is asked over the network.

    Only a signature (C2PA) holds or breaks; source type and parameters are what the file says.

    Exit codes: 0, signed and unchanged since (with --trust: by somebody trusted); 1, changed, or signed by nobody
    trusted; 2, no picture; 3, not signed; 4, not checked, because the extra `c2pa` is not installed.

    Examples:
    - `flux-endpoint verify picture.png`

    - `flux-endpoint verify picture.png --trust authorities.pem --json`
    """
    try:
        data = file.read_bytes()
        anchors = None if trust is None else trust.read_bytes()
    except OSError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}") from None
    image_format = format_of(data)
    if image_format is None:
        raise SettingsError(f"{file} is no {either([name.upper() for name in IMAGE_FORMATS])}")
    told: dict[str, Any] = {
        "file": str(file),
        "format": image_format.name,
        "source_type": source_type_in(data),
        "parameters": parameters_in(data),
    }
    told["c2pa"], verdict = _judge(data, image_format, anchors)
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
    else:
        _show(told)
    raise typer.Exit(verdict)


def _judge(data: bytes, image_format: ImageFormat, anchors: bytes | None) -> tuple[dict[str, Any], _Verdict]:
    if not is_installed():
        return {"state": "unchecked", "problems": [NOT_INSTALLED]}, _Verdict.UNCHECKED
    credential = credential_in(data, image_format, anchors)
    if credential is None:
        return {"state": "none"}, _Verdict.UNSIGNED
    return asdict(credential), _Verdict.HOLDS if credential.state in (TRUSTED, VALID) else _Verdict.BROKEN


def _show(told: dict[str, Any]) -> None:
    c2pa = told["c2pa"]
    signer = ", ".join(c2pa[name] for name in ("issuer", "name") if c2pa.get(name))
    lines = {
        "source type": (told["source_type"] or "not told").rpartition("/")[2],
        **{name: value for name, value in told["parameters"].items() if value != ""},
        "signature": _SENTENCES[c2pa["state"]],
        "signed by": signer,
        "signed with": c2pa.get("generator"),
        "signed source type": (c2pa.get("source_type") or "").rpartition("/")[2],
        "problems": ", ".join(c2pa.get("problems", ())),
    }
    print(f"{told['file']}: {told['format']}")
    for name, value in lines.items():
        if value:
            print(f"  {printable(name):20} {printable(str(value))}")
