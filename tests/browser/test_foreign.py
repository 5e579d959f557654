"""Pictures that other programs made: their settings are loaded as far as they mean the same here."""

import io
import json
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Page, expect

from tests.browser.actions import values
from tests.browser.test_access import check_access

A1111 = """a (red:1.2) house, <lora:screenprint:0.8> <lora:film:1>
on a meadow
Negative prompt: fog, rain
Steps: 30, Sampler: DPM++ 2M, CFG scale: 5, Seed: 1960802277, Size: 770x512, Model: "some, model", Version: v1.10.1"""

INVOKE = {
    "generation_mode": "flux_txt2img",
    "positive_prompt": "a red house",
    "negative_prompt": None,
    "width": 768,
    "height": 512,
    "seed": 7,
    "steps": 60,
    "guidance": 3.5,
    "cfg_scale": 1,
    "scheduler": "euler",
    "model": {"key": "1", "name": "FLUX Dev", "base": "flux", "type": "main"},
    "loras": [{"model": {"name": "screenprint", "base": "flux"}, "weight": 0.8}],
}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}


# As its own example of FLUX has it: the seed, the steps and the guidance each stand in a node of their own.
COMFY = {
    "5": node("EmptySD3LatentImage", width=768, height=512, batch_size=1),
    "6": node("CLIPTextEncode", text="a red house", clip=["11", 0]),
    "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0]),
    "8": node("VAEDecode", samples=["13", 0], vae=["10", 0]),
    "12": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
    "13": node(
        "SamplerCustomAdvanced",
        noise=["25", 0],
        guider=["22", 0],
        sampler=["16", 0],
        sigmas=["17", 0],
        latent_image=["5", 0],
    ),
    "16": node("KSamplerSelect", sampler_name="euler"),
    "17": node("BasicScheduler", scheduler="simple", steps=20, denoise=1, model=["12", 0]),
    "22": node("BasicGuider", model=["12", 0], conditioning=["26", 0]),
    "25": node("RandomNoise", noise_seed=664_154_487_549_730),
    "26": node("FluxGuidance", guidance=3.5, conditioning=["6", 0]),
}
# The usual one of other models, with a prompt of what it must not show, and whose latents go around in a circle.
KSAMPLER = {
    "3": node(
        "KSampler",
        seed=7,
        steps=20,
        cfg=4.5,
        sampler_name="euler",
        denoise=1,
        model=["4", 0],
        positive=["6", 0],
        negative=["7", 0],
        latent_image=["5", 0],
    ),
    "4": node("CheckpointLoaderSimple", ckpt_name="any.safetensors"),
    "5": node("EmptyLatentImage", width=["8", 0], height=512, batch_size=1),
    "6": node("CLIPTextEncode", text=["9", 0], clip=["4", 1]),
    "7": node("CLIPTextEncode", text="fog", clip=["4", 1]),
    "8": node("PrimitiveInt", value=768),
    "9": node("PrimitiveString", value="a red house"),
}


def a_png(**texts: str) -> dict[str, Any]:
    info, file = PngInfo(), io.BytesIO()
    for name, text in texts.items():
        info.add_text(name, text)
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    return {"name": "theirs.png", "mimeType": "image/png", "buffer": file.getvalue()}


SIZED = {"width": "768", "height": "512"}
HOUSE = SIZED | {"prompt": "a red house", "guidance": "3.5"}


@pytest.mark.parametrize(
    ("file", "program", "found", "left"),
    [
        (
            a_png(parameters=A1111),
            "A1111",
            SIZED
            | {
                "prompt": "a (red:1.2) house\non a meadow",
                "negative_prompt": "fog, rain",
                "num_inference_steps": "30",
                "true_cfg_scale": "5",
                "seed": "1960802277",
                "guidance": "7.5",
            },
            ["Sampler DPM++ 2M", "Model some, model", "size 770 . 512", "LoRA film", "weights of words"],
        ),
        (
            a_png(invokeai_metadata=json.dumps(INVOKE), invokeai_graph="{}"),
            "InvokeAI",
            HOUSE | {"negative_prompt": "", "num_inference_steps": "28", "seed": "7"},
            ["scheduler euler", "model FLUX Dev", "steps 60"],
        ),
        (
            a_png(prompt=json.dumps(COMFY), workflow="{}"),
            "ComfyUI",
            HOUSE | {"num_inference_steps": "20", "seed": ""},
            ["sampler euler", "model flux1-dev.safetensors", "seed 664154487549730"],
        ),
        (
            a_png(prompt=json.dumps(KSAMPLER)),
            "ComfyUI",
            HOUSE | {"negative_prompt": "fog", "true_cfg_scale": "4.5", "guidance": "7.5", "seed": "7"},
            ["sampler euler", "model any.safetensors"],
        ),
    ],
    ids=["a1111", "invoke", "comfy", "comfy-ksampler"],
)
def test_settings_of_another_program_are_loaded_and_the_rest_is_told(
    page: Page, file: dict[str, Any], program: str, found: dict[str, str], left: list[str]
) -> None:
    page.set_input_files("#file", file)
    said = page.locator("#taken")
    expect(said).to_contain_text(f"Settings of theirs.png, made by {program}, are loaded.")
    assert values(page, *found) == found
    told = said.inner_text().partition("Not taken over: ")[2].replace("×", ".").removesuffix(".")  # noqa: RUF001
    assert all(one in told for one in left), told
    assert page.locator("#loras-scales label").all_inner_texts() == ["screenprint"] * (program != "ComfyUI")
    check_access(page)


def test_what_no_program_wrote_is_a_picture_to_start_from(page: Page) -> None:
    for texts in ({"prompt": "{"}, {"prompt": "{}"}, {"invokeai_metadata": "[]"}, {"parameters": ""}):
        page.set_input_files("#file", a_png(**texts))
        expect(page.locator("#source-name")).to_have_text("theirs.png")
        expect(page.locator("#taken")).to_be_empty()
        page.click("#source-remove")
