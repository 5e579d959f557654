"""Reads what clients of this dialect send as a form: pictures to edit, and fields that are all text."""

import base64
import json
from typing import Any, Final

from flux_endpoint.api.dialects.openai.requests import ImagesRequest, read_request, request_of
from flux_endpoint.core.errors import InvalidParameter, InvalidRequest
from flux_endpoint.core.source_picture import MASK_BY_TRANSPARENCY

# Two pictures, and what is around them.
EDIT_LIMIT_BYTES: Final = 41 * 2**20
# Clients write one picture in either way.
_IMAGES: Final = ("image", "image[]")
_MASK: Final = "mask"
# What is text even if it looks like a number.
_TEXTS: Final = frozenset(("prompt", "negative_prompt", "model", "size", "user"))
# Parts of a form, of which lists are made by their order.
_LORAS: Final = {"loras[][path]": "path", "loras[][scale]": "scale"}
_MAX_FIELDS: Final = 100


def read_edit(data: bytes, content_type: str) -> ImagesRequest:
    """What a body of `/images/edits` asks for.

    Args:
        data: the body.
        content_type: of the body; a form, or JSON with URLs as pictures.

    Raises:
        InvalidRequest: it is wrong; the text names the field and its limit.
    """
    if content_type.partition(";")[0].strip().lower() == "application/json":
        asked = read_request(data)
    else:
        asked = request_of(_fields_of(*_parts_of(data, content_type)))
    if not asked.inputs.get("image"):
        raise InvalidParameter("image", "is required: the picture to edit")
    return asked


def _fields_of(texts: list[tuple[str, str]], files: list[tuple[str, bytes]]) -> dict[str, Any]:
    """A form as the JSON object that it stands for."""
    fields: dict[str, Any] = {name: _value(name, text) for name, text in texts if name not in _LORAS}
    if loras := _list_of(texts):
        fields["loras"] = loras
    for name, data in files:
        if name not in (*_IMAGES, _MASK):
            raise InvalidParameter(name[:60], "is not taken here: one image can be sent, and one mask")
        name = _MASK if name == _MASK else _IMAGES[0]
        if name in fields:
            raise InvalidParameter(name, "must be one picture")
        media_type = MASK_BY_TRANSPARENCY if name == _MASK else ""
        fields[name] = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    if _MASK in fields:
        # What is masked is drawn anew as a whole.
        fields.setdefault("strength", 1.0)
    return fields


def _value(name: str, text: str) -> Any:
    """The value that a text stands for."""
    if name in _TEXTS:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) else text


def _list_of(texts: list[tuple[str, str]]) -> list[dict[str, Any]]:
    columns = {key: [_value(key, text) for name, text in texts if name == part] for part, key in _LORAS.items()}
    paths, scales = columns["path"], columns["scale"]
    if scales and len(scales) != len(paths):
        raise InvalidParameter("loras", "must have a path for each scale")
    return [{"path": str(path)} | ({"scale": scales[number]} if scales else {}) for number, path in enumerate(paths)]


def _parts_of(data: bytes, content_type: str) -> tuple[list[tuple[str, str]], list[tuple[str, bytes]]]:
    """The texts and the files of a form, by name and in their order."""
    # Here and not above: JSON is what nearly all clients send.
    from python_multipart import create_form_parser
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import Field, File

    texts: list[tuple[str, str]] = []
    files: list[tuple[str, bytes]] = []

    def take_field(field: Field) -> None:
        name, value = field.field_name or b"", field.value or b""
        if len(texts) == _MAX_FIELDS:
            raise InvalidRequest(f"Invalid request: the form has more than {_MAX_FIELDS} fields")
        try:
            texts.append((name.decode(), value.decode()))
        except UnicodeDecodeError:
            raise InvalidParameter(name.decode("ascii", "replace")[:60], "must be UTF-8") from None

    def take_file(file: File) -> None:
        file.file_object.seek(0)
        files.append(((file.field_name or b"").decode("utf-8", "replace"), file.file_object.read()))

    # In memory, where the whole body is already.
    config = {"MAX_MEMORY_FILE_SIZE": EDIT_LIMIT_BYTES}
    try:
        parser = create_form_parser({"Content-Type": content_type.encode()}, take_field, take_file, config)
        parser.write(data)
        parser.finalize()
    except (FormParserError, ValueError, KeyError):
        raise InvalidRequest("Invalid request: the body must be multipart/form-data") from None
    return texts, files
