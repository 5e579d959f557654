"""Reads what clients of this dialect send: some forty fields each time, most of them for other models."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from flux_endpoint.api.dialects.inputs import picture_url, submissions_of
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import InvalidParameter, InvalidRequest
from flux_endpoint.core.image_formats import PNG
from flux_endpoint.core.input_kinds import FloatRange, IntRange
from flux_endpoint.core.other_names import printable
from flux_endpoint.core.raw_json import decode_json
from flux_endpoint.core.submission import Submission

DEFAULT_SIDE: Final = 512
DEFAULT_FORMAT: Final = PNG
PICTURES: Final = IntRange(minimum=1, maximum=10, default=1)
MODEL_OPTION: Final = "sd_model_checkpoint"
# What clients send unless somebody says otherwise: made for other models, and no wish.
_CLIENTS_CFG: Final = 7
_CLIENTS_STEPS: Final = 20
_CFG: Final = FloatRange(minimum=0.0, maximum=10.0, default=_CLIENTS_CFG)
# Of what is not known; who sends more has sent something else.
_MAX_TOLD: Final = 10
# What makes another picture, by the values that ask for nothing: it is refused, not left out.
_NOT_TAKEN: Final[Mapping[str, tuple[object, ...]]] = {
    "enable_hr": (None, False),
    "script_name": (None, "", "None"),
    "controlnet_units": (None, []),
}
# Where nothing starts from a picture.
_PICTURES_OF_NO_USE: Final[Mapping[str, tuple[object, ...]]] = {"init_images": (None, []), "mask": (None, "")}
_NOT_TAKEN_WITH_PICTURE: Final[Mapping[str, tuple[object, ...]]] = {"inpainting_mask_invert": (None, 0, False)}
# As the web UI has it.
_STRENGTH: Final = 0.75
# What FLUX cannot do and a picture can do without, by the values that ask for nothing.
_WITHOUT_EFFECT: Final[Mapping[str, tuple[object, ...]]] = {
    "tiling": (None, False),
    "restore_faces": (None, False),
    "styles": (None, []),
    "subseed_strength": (None, 0),
    "refiner_checkpoint": (None, "", "None"),
}
# Sent each time, for samplers and folders that there are not.
_NOT_HEEDED: Final = frozenset(
    (
        *("sampler_name", "sampler_index", "scheduler", "eta", "s_churn", "s_tmax", "s_tmin", "s_noise"),
        *("s_min_uncond", "subseed", "seed_resize_from_h", "seed_resize_from_w", "denoising_strength"),
        *("firstphase_width", "firstphase_height", "hr_scale", "hr_upscaler", "hr_second_pass_steps", "hr_resize_x"),
        *("hr_resize_y", "hr_checkpoint_name", "hr_sampler_name", "hr_scheduler", "hr_prompt", "hr_negative_prompt"),
        *("hr_cfg", "hr_distilled_cfg", "hr_additional_modules", "do_not_save_samples", "do_not_save_grid"),
        *("save_images", "send_images", "script_args", "override_settings_restore_afterwards"),
        *("resize_mode", "mask_blur", "mask_blur_x", "mask_blur_y", "mask_round", "inpainting_fill"),
        *("inpaint_full_res", "inpaint_full_res_padding", "initial_noise_multiplier", "image_cfg_scale"),
        *("include_init_images", "latent_mask"),
        *("disable_extra_networks", "refiner_switch_at", "comments", "force_task_id", "infotext"),
    )
)
_READ_HERE: Final = frozenset(
    (
        *("init_images", "mask", "batch_size", "n_iter", "cfg_scale", "distilled_cfg_scale"),
        *("override_settings", "alwayson_scripts"),
    )
)
# Name and strength; a second one, of the text encoder, is not heeded by FLUX.
_LORA: Final = re.compile(r"<lora:([^:>]+)(?::([^:>]*))?(?::[^>]*)?>")


@dataclass(frozen=True, slots=True)
class PicturesRequest:
    """What one body asks for.

    Attributes:
        sent: the body.
        model: as the client named it for this request; None for what it has chosen before.
        inputs: what is for FLUX.
        pictures: how many.
        warnings: what was asked for and will not be.
    """

    sent: Mapping[str, Any]
    model: str | None
    inputs: Mapping[str, Any]
    pictures: int
    warnings: tuple[str, ...]

    def submissions(self, spec: EndpointSpec) -> list[Submission]:
        """One request for a job per picture; their seeds follow one another.

        Raises:
            InvalidParameter: the first field that is wrong, with its limit.
        """
        inputs, warnings = dict(self.inputs), list(self.warnings)
        most = spec.input_schema["properties"]["num_inference_steps"]["maximum"]
        if inputs.get("steps") == _CLIENTS_STEPS > most:
            del inputs["steps"]
            warnings.append(f"steps {_CLIENTS_STEPS} is what clients send by default: the model draws with its own")
        try:
            made = submissions_of(spec, inputs, self.pictures)
        except InvalidParameter as error:
            raise _in_the_prompt(error) if "loras" in self.inputs else error from None
        return [replace(one, warnings=(*warnings, *one.warnings)) for one in made]


def read_request(data: bytes, from_picture: bool) -> PicturesRequest:
    """What a body of `txt2img`, or with a picture to start from of `img2img`, asks for. Null counts as absent.

    Raises:
        InvalidRequest: it is wrong; the text names the field.
    """
    sent = object_in(data)
    not_taken = {**_NOT_TAKEN, **(_NOT_TAKEN_WITH_PICTURE if from_picture else _PICTURES_OF_NO_USE)}
    for name, harmless in not_taken.items():
        if sent.get(name) not in harmless:
            raise InvalidParameter(name, "is not taken here: pictures are drawn once and at their size")
    fields = {name: value for name, value in sent.items() if value is not None}
    settings = fields.get("override_settings", {})
    scripts = fields.get("alwayson_scripts", {})
    for name, value in (("override_settings", settings), ("alwayson_scripts", scripts)):
        if not isinstance(value, Mapping):
            raise InvalidParameter(name, "must be an object")
    for name, script in scripts.items():
        if _does_something(script):
            raise InvalidParameter("alwayson_scripts", f"cannot have '{name[:60]}': there is no such script here")
    asked_in_vain = [name for name, harmless in _WITHOUT_EFFECT.items() if sent.get(name) not in harmless]
    warnings = [f"{name} has no effect on FLUX" for name in asked_in_vain]
    unknown = [name for name in settings if name != MODEL_OPTION][:_MAX_TOLD]
    warnings += [f"override_settings.{printable(name)} is not known here" for name in unknown]
    own = {*not_taken, *_WITHOUT_EFFECT, *_NOT_HEEDED, *_READ_HERE}
    inputs = {name: value for name, value in fields.items() if name not in own}
    preset: dict[str, Any] = {"image_format": DEFAULT_FORMAT.name}
    preset |= _pictures(fields) if from_picture else {"width": DEFAULT_SIDE, "height": DEFAULT_SIDE}
    batches = [PICTURES.read(name, {name: 1} | fields) for name in ("batch_size", "n_iter")]
    pictures = PICTURES.read("batch_size", {"batch_size": batches[0] * batches[1]})
    asked = preset | inputs | _guidance(fields) | _loras(inputs.get("prompt"))
    return PicturesRequest(sent, model_in(settings), asked, pictures, tuple(warnings))


def _loras(prompt: object) -> dict[str, Any]:
    """LoRAs as this program's users write them, between the words of a prompt: `<lora:film:0.8>`."""
    tags = _LORA.findall(prompt) if isinstance(prompt, str) else []
    if not tags or not isinstance(prompt, str):
        return {}
    try:
        loras = [{"path": path, "scale": float(scale or 1)} for path, scale in tags]
    except ValueError:
        raise InvalidParameter("prompt", "has a LoRA whose strength is no number: <lora:name:0.8>") from None
    return {"prompt": " ".join(_LORA.sub("", prompt).split()), "loras": loras}


def _in_the_prompt(error: InvalidParameter) -> InvalidParameter:
    if not error.field.startswith("loras"):
        return error
    if error.field == "loras":
        return InvalidParameter("prompt", f"has LoRAs, which {error.problem}")
    part = "strength" if error.field.endswith(".scale") else "name"
    return InvalidParameter("prompt", f"has a LoRA whose {part} {error.problem}")


def _pictures(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The picture to start from, and what is said of it."""
    images = fields.get("init_images")
    if not isinstance(images, list) or len(images) != 1 or not images[0]:
        raise InvalidParameter("init_images", "must be a list of one picture to start from")
    strength = fields.get("denoising_strength", _STRENGTH)
    mask = picture_url(fields["mask"]) if fields.get("mask") else None
    return {"image": picture_url(images[0]), "denoising_strength": strength} | ({} if mask is None else {"mask": mask})


def object_in(data: bytes) -> Mapping[str, Any]:
    """A body that is an object.

    Raises:
        InvalidRequest: it is none.
    """
    body = decode_json(data)
    if not isinstance(body, Mapping):
        raise InvalidRequest("Invalid request: the body must be a JSON object")
    return body


def model_in(settings: Mapping[str, Any]) -> str | None:
    """The model that some options name; None where they name none.

    Raises:
        InvalidParameter: it is no text.
    """
    model = settings.get(MODEL_OPTION)
    if model is None or model == "":
        return None
    if not isinstance(model, str):
        raise InvalidParameter(MODEL_OPTION, "must be a string")
    return model.partition(" [")[0].removesuffix(".safetensors")


def _guidance(fields: Mapping[str, Any]) -> dict[str, Any]:
    """FLUX's own guidance is the distilled one; beside it, `cfg_scale` is that of the negative prompt."""
    cfg, distilled = fields.get("cfg_scale"), fields.get("distilled_cfg_scale")
    if cfg is not None:
        # Wrong even where it does not count.
        _CFG.read("cfg_scale", fields)
    if distilled is not None:
        with_negative = fields.get("negative_prompt") and cfg not in (None, _CLIENTS_CFG)
        return {"guidance": distilled} | ({"true_cfg_scale": cfg} if with_negative else {})
    return {} if cfg in (None, _CLIENTS_CFG) else {"guidance": cfg}


def _does_something(script: object) -> bool:
    """Whether a script is asked for: clients send those that they know of with no arguments, or switched off."""
    arguments = script.get("args") if isinstance(script, Mapping) else script
    return arguments not in (None, [], [False], {})
