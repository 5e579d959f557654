"""What clients ask before they draw: models, samplers, options; and what a picture was made with."""

import base64
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from flux_endpoint.api.dialects.a1111.requests import MODEL_OPTION, model_in, object_in
from flux_endpoint.api.dialects.models import endpoint_of, model_name, opened_models
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Call
from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.errors import InvalidParameter, NotFound
from flux_endpoint.core.image_formats import IMAGE_FORMATS, PNG, either, format_of
from flux_endpoint.core.infotext import SAMPLER
from flux_endpoint.core.marks import INFOTEXT_KEYWORD, infotext_in
from flux_endpoint.core.png_texts import texts_in

# All that there are none of, and the one sampler there is.
_LISTS: Final[Mapping[str, Any]] = {
    "samplers": [{"name": SAMPLER, "aliases": [SAMPLER.lower()], "options": {}}],
    "schedulers": [{"name": "simple", "label": "Simple", "aliases": [], "default_rho": -1, "need_inner_model": False}],
    "scripts": {"txt2img": [], "img2img": []},
    "cmd-flags": {},
    "embeddings": {"loaded": {}, "skipped": {}},
} | {
    name: []
    for name in (
        "upscalers",
        "sd-vae",
        "sd-modules",
        "latent-upscale-modes",
        "face-restorers",
        "prompt-styles",
    )
}


async def options(call: Call, key: ApiKey) -> Response:
    """The options that there are: which model is drawn with where a request names none."""
    opened = {spec.endpoint_id: model_name(spec) for spec in opened_models(call.services.endpoints.specs, key)}
    first = next(iter(opened.values()), None)
    return json_reply({MODEL_OPTION: opened.get(key.chosen_model or "", first), "samples_format": "png"})


async def set_options(call: Call, key: ApiKey) -> Response:
    """Choose a model for all requests of this key that name none; other options are not kept."""
    data = await call.read_body()
    model = model_in(await call.services.bodies.read(data, object_in))
    if model is not None:
        endpoint = endpoint_of(call.services.endpoints, key, model)
        await call.services.accounts.choose_model(key, endpoint.spec.endpoint_id)
    return json_reply({})


async def models(call: Call, key: ApiKey) -> Response:
    """The models that the key opens."""
    return json_reply(
        [
            {
                "title": model_name(spec),
                "model_name": model_name(spec),
                "hash": None,
                "sha256": None,
                "filename": f"{model_name(spec)}.safetensors",
                "config": None,
            }
            for spec in opened_models(call.services.endpoints.specs, key)
        ]
    )


async def loras(call: Call, key: ApiKey) -> Response:
    """The LoRAs that a prompt may name, of all models that the key opens."""
    names = dict.fromkeys(name for spec in opened_models(call.services.endpoints.specs, key) for name in spec.loras)
    return json_reply([{"name": name, "alias": name, "path": name, "metadata": {}} for name in names])


async def listing(_call: Call, _key: ApiKey, name: str) -> Response:
    """What there is of a kind: samplers and schedulers; of most kinds nothing."""
    if name not in _LISTS:
        raise NotFound(f"there is no list of '{name[:40]}'; there are {', '.join(sorted(_LISTS))}")
    return json_reply(_LISTS[name])


async def png_info(call: Call, _key: ApiKey) -> Response:
    """The texts in a picture: `info` is that of A1111, or else all of them."""
    data = await call.read_body()
    texts = await call.services.bodies.read(data, _texts_of)
    info = texts.get(INFOTEXT_KEYWORD) or "\n".join(f"{name}: {text}" for name, text in texts.items())
    return json_reply({"info": info, "items": texts, "parameters": texts})


async def refresh(_call: Call, _key: ApiKey) -> Response:
    """Nothing: models are chosen when a server starts."""
    return json_reply(None)


def _texts_of(data: bytes) -> dict[str, str]:
    image = object_in(data).get("image")
    try:
        picture = base64.b64decode(image.rpartition(",")[2], validate=True) if isinstance(image, str) else b""
    except ValueError:
        picture = b""
    if format_of(picture) is None:
        raise InvalidParameter("image", f"must be {either(list(IMAGE_FORMATS))}, base64")
    if PNG.is_in(picture):
        return texts_in(picture)
    text = infotext_in(picture)
    return {} if text is None else {INFOTEXT_KEYWORD: text}
