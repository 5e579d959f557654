"""Files that the page makes itself: how a picture formed as an animation, and a card to pass on."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image, ImageSequence
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.actions import draw
from tests.browser.conftest import DEADLINE_MS, Visitor
from tests.browser.test_access import check_access

# Two still pictures of 33 x 20 pixels, as the browser writes them, joined; the first is see-through where it says so.
_JOIN = """async ([firstColour, quality]) => {
  const { animated } = await import("./playground/animation.js");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [33, 20];
  const context = canvas.getContext("2d");
  const frames = [];
  for (const [colour, durationMs] of [[firstColour, 70], ["#0000ff", 300_000]]) {
    context.clearRect(0, 0, 33, 20);
    context.fillStyle = colour;
    context.fillRect(0, 0, 33, 20);
    const still = await new Promise((resolve) => canvas.toBlob(resolve, "image/webp", quality));
    frames.push({ file: new Uint8Array(await still.arrayBuffer()), durationMs });
  }
  const whole = new Uint8Array(await animated(frames, { width: 33, height: 20 }).arrayBuffer());
  return btoa(String.fromCharCode(...whole));
}"""

_NO_WEBP = """() => {
  HTMLCanvasElement.prototype.toBlob = (take) => take(new Blob([], { type: "image/png" }));
}"""


@pytest.mark.parametrize("quality", [0.5, 1], ids=["lossy", "lossless"])
@pytest.mark.parametrize("alpha", [255, 128], ids=["opaque", "see-through"])
def test_still_pictures_are_joined_to_an_animation(page: Page, quality: float, alpha: int) -> None:
    data = base64.b64decode(page.evaluate(_JOIN, [f"#ff0000{alpha:02x}", quality]))
    # What is read of it with care, too: RIFF says its own length.
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size, _count(image), image.info["loop"]) == ("WEBP", (33, 20), 2, 0)
        assert image.mode == ("RGB" if alpha == 255 else "RGBA")
        red, blue = (_frame(image, index) for index in range(2))
    assert red == (70, pytest.approx((255, 0, 0, alpha), abs=6))
    # The second takes the place of the first, and nothing of that shows through.
    assert blue == (300_000, pytest.approx((0, 0, 255, 255), abs=6))


def _count(image: Image.Image) -> int:
    return len(list(ImageSequence.Iterator(image)))


def _frame(image: Image.Image, index: int) -> tuple[int, Any]:
    """How long a frame is shown, in milliseconds, and the colour in its middle."""
    image.seek(index)
    image.load()
    return image.info["duration"], image.convert("RGBA").getpixel((16, 10))


def test_what_is_no_webp_is_not_joined(page: Page) -> None:
    joining = 'async () => (await import("./playground/animation.js")).animated([{ file: new Uint8Array(40) }], {})'
    with pytest.raises(Exception, match="not a WebP file"):
        page.evaluate(joining)


def _with_previews(route: Route) -> None:
    """As a slow worker tells it: two previews more than there would be, before all else."""
    reply = route.fetch(timeout=DEADLINE_MS)
    news = ""
    for shade in (0, 200):
        file = io.BytesIO()
        Image.new("RGB", (32, 32), (shade, 90, 90)).save(file, "JPEG")
        preview = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
        progress = {"step": 1, "total": 4, "percent": 25, "preview": preview}
        news += f"event: status\ndata: {json.dumps({'status': 'IN_PROGRESS', 'progress': progress})}\n\n"
    route.fulfill(response=reply, body=news + reply.text())


def test_how_a_picture_formed_is_saved_as_an_animation(page: Page) -> None:
    page.route("**/events/*", _with_previews)
    draw(page, seed=3)
    expect(page.locator("#film-text")).to_have_text("the picture")
    previews = int(page.get_attribute("#film-range", "max") or "")
    with page.expect_download() as saved:
        page.click("#film-save")
    assert saved.value.suggested_filename == "a-calm-sea-at-night-3-formed.webp"
    with Image.open(saved.value.path()) as image:
        assert (image.size, _count(image)) == ((256, 256), previews + 1)
        durations = [_frame(image, index)[0] for index in range(previews + 1)]
    # The picture stands last and longest.
    assert durations == [int(2_400 / previews + 0.5)] * previews + [2_000]
    expect(page.locator("#film-save")).to_be_focused()
    check_access(page)
    # As Safari does.
    page.evaluate(_NO_WEBP)
    page.click("#film-save")
    expect(page.locator("#film-text")).to_have_text("This browser cannot write WebP files.")


def test_a_card_holds_all_that_draws_the_picture_again(
    visitor: Visitor, browser: Browser, api_key: str, tmp_path: Path
) -> None:
    page = visitor.visit()
    prompt = 'a calm sea & "boats" <script>document.title=1</script>'
    draw(page, prompt=prompt, seed=7, negative_prompt="fog")
    with page.expect_download() as saved:
        page.click("#actions >> [title='Save as a card']")
    assert re.fullmatch(r"a-calm-sea-boats-script-document-7\.html", saved.value.suggested_filename)
    text = saved.value.path().read_text()
    assert api_key not in text
    # The picture's own file, with what it says of itself.
    (data,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert b"fluxEndpoint:parameters" in base64.b64decode(data)
    card = tmp_path / "card.html"
    card.write_text(text)
    asked: list[str] = []
    other = browser.new_context(color_scheme="dark").new_page()
    other.on("request", lambda request: asked.append(request.url))
    other.goto(card.as_uri())
    assert other.title() == prompt
    expect(other.locator("h1")).to_have_text(prompt)
    expect(other.locator("dl")).to_contain_text("7")
    assert other.locator("img").evaluate("async (image) => { await image.decode(); return image.naturalWidth }") == 256
    assert [url for url in asked if not url.startswith("data:")] == [f"file://{quote(str(card))}"]
    other.click("text=Python · requests")
    expect(other.locator("details[open] pre")).to_contain_text('"seed": 7')
    check_access(other)
    other.context.close()
    page.route("**/images/*", lambda route: route.fulfill(status=404))
    page.click("#actions >> [title='Save as a card']")
    expect(page.locator("#warnings")).to_have_text("This picture is no longer there.")
