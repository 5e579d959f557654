"""Pictures as clients of this dialect ask for them: held until they are drawn, watched and stopped by others."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from flux_endpoint import __version__
from flux_endpoint.api.dialects.a1111.requests import PicturesRequest, read_request
from flux_endpoint.api.dialects.a1111.words import DIALECT
from flux_endpoint.api.dialects.drawing import TOO_LATE, bytes_of, drawn, naming, problem_of
from flux_endpoint.api.dialects.models import endpoint_of, model_name, picture_models
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Call
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.infotext import SAMPLER, infotext
from flux_endpoint.core.job import Job, JobStatus
from flux_endpoint.core.progress import PREVIEW, read_progress
from flux_endpoint.core.raw_json import write_json
from flux_endpoint.service.endpoint import Endpoint

# As with other clients that are held: those that give up do so after 600 s.
_LONGEST_S: Final = 590.0
_OPEN: Final = (JobStatus.IN_PROGRESS, JobStatus.IN_QUEUE)
_PAGE: Final = 100
_SOFTWARE: Final = f"flux-endpoint {__version__}"


async def txt2img(call: Call, key: ApiKey) -> Response:
    """Draw pictures and answer when they are done, PNG as bare base64. A client that hangs up cancels them.

    `batch_size` times `n_iter` pictures; their seeds follow one another. `cfg_scale` 7 and, where the model takes
    fewer, `steps` 20 count as absent: clients send them for other models. `distilled_cfg_scale` is FLUX's guidance.
    `override_settings.sd_model_checkpoint` names a model.
    """
    return await _draw(call, key, from_picture=False)


async def img2img(call: Call, key: ApiKey) -> Response:
    """The same from a picture, the only one of `init_images`: as a `data:` URL, a URL or bare base64.

    `denoising_strength` (0.75) says how much of it is lost, and white in `mask` where. Without `width` and `height`
    the result has its shape.
    """
    return await _draw(call, key, from_picture=True)


async def _draw(call: Call, key: ApiKey, *, from_picture: bool) -> Response:
    data = await call.read_body()
    asked = await call.services.bodies.read(data, read_request, from_picture)
    endpoint = endpoint_of(call.services.endpoints, key, asked.model or key.chosen_model)
    with naming({"image": "init_images"}):
        ended = await drawn(call, endpoint, DIALECT, asked.submissions(endpoint.spec), _LONGEST_S)
    if not all(job.status.is_terminal for job in ended):
        raise HTTPException(503, TOO_LATE)
    done = [job for job in ended if job.status is JobStatus.COMPLETED]
    failures = [problem_of(job) for job in ended if job.status is not JobStatus.COMPLETED]
    if not done:
        is_stopped = all(job.status is JobStatus.CANCELLED for job in ended)
        raise HTTPException(409 if is_stopped else 500, failures[0])
    return json_reply(await _answer(call, endpoint, asked, done, failures))


async def progress(call: Call, key: ApiKey) -> Response:
    """How far the pictures are that the key has asked for in this dialect, with a preview if there is one."""
    jobs = await _open_jobs(call, key)
    running = [job for _, job in jobs if job.status is JobStatus.IN_PROGRESS]
    told = (read_progress(running[-1].progress) if running else None) or {"step": 0, "total": 0}
    _, _, preview = str(told.get(PREVIEW, "")).partition(",")
    state = {
        "skipped": False,
        "interrupted": False,
        "stopping_generation": False,
        "job": running[-1].id if running else "",
        "job_count": len(jobs),
        "job_timestamp": "0",
        "job_no": 0,
        "sampling_step": told["step"],
        "sampling_steps": told["total"],
    }
    return json_reply(
        {
            "progress": told["step"] / told["total"] if told["total"] else 0.0,
            "eta_relative": told.get("eta_ms", 0) / 1_000,
            "state": state,
            "current_image": preview or None,
            "textinfo": None,
        }
    )


async def interrupt(call: Call, key: ApiKey) -> Response:
    """Stop all pictures that the key has asked for in this dialect; who waits for them gets an error."""
    for endpoint, job in await _open_jobs(call, key):
        await endpoint.cancel(job.id)
    return json_reply({})


async def _open_jobs(call: Call, key: ApiKey) -> list[tuple[Endpoint, Job]]:
    """The key's own jobs of this dialect that have not ended, newest first."""
    endpoints = call.services.endpoints
    found = []
    for spec in picture_models(endpoints.specs):
        endpoint = endpoints.opened(spec.endpoint_id, key)
        cursor = None
        while True:
            page, cursor = await endpoints.store.recent(spec.endpoint_id, _OPEN, _PAGE, cursor, key.id)
            # Listings know no progress.
            found += [(endpoint, await endpoint.status(job.id)) for job in page if job.dialect == DIALECT]
            if cursor is None:
                break
    return found


async def _answer(
    call: Call, endpoint: Endpoint, asked: PicturesRequest, jobs: Sequence[Job], failures: Sequence[str]
) -> JsonObject:
    images, warnings = [], [*failures]
    for job in jobs:
        shown = endpoint.spec.present(job, "")
        data = await bytes_of(call, shown)
        if data is None:
            raise HTTPException(500, "the worker keeps its pictures elsewhere: they cannot be sent in the answer")
        images.append(base64.b64encode(data).decode())
        warnings += shown.get("warnings", ())
    info = _info(model_name(endpoint.spec), jobs)
    if warnings:
        info["warnings"] = list(dict.fromkeys(warnings))
    return {"images": images, "parameters": asked.sent, "info": write_json(info)}


def _info(model: str, jobs: Sequence[Job]) -> JsonObject:
    made: list[Mapping[str, Any]] = [job.input for job in jobs if isinstance(job.input, Mapping)]
    first = made[0]
    return {
        "prompt": first["prompt"],
        "all_prompts": [one["prompt"] for one in made],
        "negative_prompt": first["negative_prompt"],
        "all_negative_prompts": [one["negative_prompt"] for one in made],
        "seed": first["seed"],
        "all_seeds": [one["seed"] for one in made],
        "width": first["width"],
        "height": first["height"],
        "sampler_name": SAMPLER,
        "cfg_scale": first["true_cfg_scale"] if first["negative_prompt"] else 1.0,
        "distilled_cfg_scale": first["guidance"],
        "steps": first["num_inference_steps"],
        "batch_size": len(made),
        "sd_model_name": model,
        "infotexts": [
            infotext({**one, "steps": one["num_inference_steps"], "model": model, "software": _SOFTWARE})
            for one in made
        ],
    }
