"""Earlier pictures, comparing them, and files that give their parameters back."""

import base64
import json
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from flux_endpoint.core.exif import exif_block
from flux_endpoint.core.image_formats import IMAGE_FORMATS
from flux_endpoint.engine.png import SIGNATURE, png_chunk
from tests.browser.actions import SMALL, draw, thumbnails, values
from tests.browser.conftest import Visitor
from tests.servers import Server

DROP = """async ([name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name, { type }));
  for (const kind of ["dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true }));
  }
}"""


def test_earlier_pictures_survive_a_reload_and_load_back(page: Page) -> None:
    draw(page, prompt="a sunset", seed=11)
    draw(page, prompt="a lake", seed=12, width=320)
    page.reload()
    expect(thumbnails(page)).to_have_count(2)
    expect(thumbnails(page).locator("img")).to_have_count(2)
    thumbnails(page).nth(1).click()
    expect(page.locator(".frame img[data-kind=picture]")).to_be_visible()
    assert values(page, "prompt", "seed", "width") == {"prompt": "a sunset", "seed": "11", "width": "256"}
    expect(thumbnails(page).nth(1)).to_have_attribute("aria-current", "true")
    page.click("#actions >> [title=Remove]")
    expect(thumbnails(page)).to_have_count(1)
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#clear")
    expect(thumbnails(page)).to_have_count(0)
    page.reload()
    expect(page.locator("#earlier-note")).to_have_text("They are kept in this browser.")


def test_a_page_left_before_the_thumbnail_was_made_makes_it_later(visitor: Visitor) -> None:
    page = visitor.visit()
    page.evaluate("() => { HTMLImageElement.prototype.decode = () => new Promise(() => {}); }")
    draw(page)
    expect(thumbnails(page)).to_have_count(1)
    expect(thumbnails(page).locator("img")).to_have_count(0)
    page.close()
    expect(thumbnails(visitor.visit()).locator("img")).to_have_count(1)


def test_expired_pictures_say_so(page: Page, server: Server) -> None:
    draw(page)
    name = page.locator(".frame img").get_attribute("src").rpartition("/")[2]
    (file,) = (server.data_dir / "images").rglob(name)
    file.unlink()
    # As after a week: nor does the browser have it any more.
    page.context.new_cdp_session(page).send("Network.clearBrowserCache")
    page.reload()
    expect(page.locator(".frame .words")).to_contain_text("This picture has expired")
    expect(thumbnails(page)).to_have_text("expired")
    thumbnails(page).click()
    expect(page.locator("#prompt")).to_have_value(SMALL["prompt"])


def test_two_pictures_are_compared_with_a_slider(page: Page) -> None:
    draw(page, prompt="a sunset")
    draw(page, prompt="a lake")
    page.click("#actions >> [title=Compare]")
    thumbnails(page).nth(1).click()
    expect(page.locator("#compare-left-text")).to_contain_text("a lake")
    expect(page.locator("#compare-right-text")).to_contain_text("a sunset")
    slider = page.locator("#compare-range")
    expect(slider).to_be_focused()
    page.keyboard.press("Home")
    expect(page.locator("#compare-left")).to_have_css("clip-path", "inset(0px 100% 0px 0px)")
    page.keyboard.press("End")
    expect(page.locator("#compare-right")).to_have_css("clip-path", "inset(0px 0px 0px 100%)")
    page.keyboard.press("Escape")
    expect(page.locator("#compare-dialog")).to_be_hidden()


def test_whoever_shall_choose_a_picture_may_leave_it(page: Page) -> None:
    draw(page)
    page.click("#actions >> [title=Compare]")
    expect(page.locator("#earlier-note")).to_have_text("Choose the picture to compare with.")
    page.click("text=Do not compare")
    expect(page.locator("#stop-picking")).to_be_hidden()
    expect(page.locator("#earlier-note")).to_be_empty()
    expect(page.locator("#actions >> [title=Compare]")).to_be_focused()


@pytest.mark.parametrize("image_format", IMAGE_FORMATS)
@pytest.mark.parametrize("prompt", ["a lake", 'Ein Häuschen: "quoted"\nand 山 🌄'], ids=["ascii", "unicode"])
def test_a_dropped_picture_gives_its_parameters_back(
    page: Page, server: Server, image_format: str, prompt: str
) -> None:
    wanted = {
        **SMALL,
        "prompt": prompt,
        "negative_prompt": "Übel, boats",
        "seed": 77,
        "guidance": 3.5,
        "true_cfg_scale": 4,
    }
    body = {"input": wanted | {"image_format": image_format}}
    job = server.client.post("/runsync", json=body).json()
    data = httpx.get(job["output"]["image_url"]).content
    page.evaluate(DROP, [f"picture.{image_format}", f"image/{image_format}", base64.b64encode(data).decode()])
    expect(page.locator("#prompt")).to_have_value(prompt)
    assert values(page, *wanted) == {name: str(value) for name, value in wanted.items()}
    assert page.input_value("#image_format") == image_format
    expect(page.locator("#veil")).to_be_hidden()


def test_a_file_from_before_gives_its_parameters_back_too(page: Page, tmp_path: Path) -> None:
    texts = {"prompt": "an old house", "steps": "9", "seed": "7", "software": "flux-endpoint 0.1.0"}
    chunks = [png_chunk(b"tEXt", f"{name}\0{text}".encode()) for name, text in texts.items()]
    exif = exif_block(texts["software"], json.dumps(texts), 8, 8)
    for name, data in {"a.png": SIGNATURE + b"".join(chunks), "a.jpg": b"\xff\xd8\xff" + exif}.items():
        page.fill("#prompt", "")
        (tmp_path / name).write_bytes(data)
        page.set_input_files("#file", tmp_path / name)
        expect(page.locator("#prompt")).to_have_value("an old house")
        assert values(page, "num_inference_steps", "seed") == {"num_inference_steps": "9", "seed": "7"}


@pytest.mark.parametrize(
    "content",
    [b"no picture", b"\x89PNG\r\n\x1a\n" + b"\xff" * 40, b"\xff\xd8\xff\xe1\x00\x20Exif\0\0MM\0*" + b"\xff" * 9],
)
def test_a_strangers_file_is_refused_with_its_name(page: Page, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "holiday.png"
    file.write_bytes(content)
    page.set_input_files("#file", file)
    expect(page.locator("#form-error")).to_have_text("holiday.png carries no parameters of a picture made here.")
