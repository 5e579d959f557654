"""A run that starts from a picture: chosen, dropped, pasted, or one that was drawn."""

import base64
import io
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.actions import badge, draw, fill, thumbnails, values
from tests.browser.test_access import check_access
from tests.browser.test_earlier import DROP

PASTE = DROP.replace('["dragover", "drop"]', '["paste"]').replace(
    "new DragEvent(kind, { dataTransfer, bubbles: true })",
    "new ClipboardEvent(kind, { clipboardData: dataTransfer, bubbles: true, cancelable: true })",
)

SLOWLY = """() => {
  const read = createImageBitmap;
  globalThis.createImageBitmap = (file) => new Promise((resolve) => {
    globalThis.go = async () => resolve(await read(file));
  });
}"""


def a_photo(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 90, 60)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("way", [DROP, PASTE], ids=["dropped", "pasted"])
def test_any_picture_can_be_started_from(page: Page, way: str) -> None:
    expect(page.locator("#source-open")).to_be_visible()
    page.evaluate(way, ["holiday.png", "image/png", base64.b64encode(a_photo(512, 320)).decode()])
    expect(page.locator("#source-name")).to_have_text("holiday.png")
    assert values(page, "width", "height") == {"width": "512", "height": "320"}
    check_access(page)
    # Neither the address nor the program holds megabytes.
    page.wait_for_url(re.compile("width=512"))
    assert "base64" not in page.url
    page.click("#tab-code")
    expect(page.locator("#code")).to_contain_text("a link to the picture")
    assert "base64" not in page.locator("#code").inner_text()
    page.click("#source-remove")
    expect(page.locator("#strength")).to_be_hidden()
    expect(page.locator("#source-open")).to_be_focused()


def test_a_picture_is_drawn_from_another(page: Page) -> None:
    draw(page, prompt="a red house on a meadow", seed=3)
    page.click("#actions >> [title='Start from it']")
    expect(page.locator("#source-name")).to_have_text("a red house on a meadow")
    # Nearly nothing of it is lost, whatever the prompt says.
    fill(page, prompt="a calm sea at night", strength=0)
    before = page.locator(".frame img").get_attribute("src")
    page.click("#run")
    expect(thumbnails(page).locator("img")).to_have_count(2)
    badge(page, "done")
    picture = page.locator(".frame img[data-kind=picture]")
    after = picture.get_attribute("src")
    assert after != before
    difference = page.evaluate(
        """async (urls) => {
          const [left, right] = await Promise.all(urls.map(async (url) => {
            const picture = await createImageBitmap(await (await fetch(url)).blob());
            const canvas = new OffscreenCanvas(64, 64).getContext("2d");
            canvas.drawImage(picture, 0, 0, 64, 64);
            return canvas.getImageData(0, 0, 64, 64).data;
          }));
          return left.reduce((sum, value, index) => sum + Math.abs(value - right[index]), 0) / left.length;
        }""",
        [before, after],
    )
    assert difference < 20
    # An earlier run that started from none does not start from this one.
    expect(page.locator("#source-picture")).to_be_visible()
    thumbnails(page).nth(1).click()
    expect(page.locator("#source-picture")).to_be_hidden()
    stored = page.evaluate("""async () => {
      const opening = indexedDB.open("flux-endpoint");
      const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
      const reading = database.transaction("runs").objectStore("runs").getAll();
      const runs = await new Promise((resolve) => (reading.onsuccess = () => resolve(reading.result)));
      database.close();
      return runs.map(({ input }) => Object.keys(input));
    }""")
    assert all("image" not in names for names in stored)


def test_a_picture_that_is_too_large_for_a_request_is_made_smaller(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "panorama.png"
    file.write_bytes(a_photo(4_000, 1_000))
    page.set_input_files("#source-file", file)
    expect(page.locator("#source-picture")).to_have_js_property("naturalWidth", 1_024)
    # Of its shape, as nearly as sizes are allowed.
    assert values(page, "width", "height") == {"width": "1536", "height": "512"}
    page.click("#source-remove")
    # What browsers read and the server does not is sent as what it reads.
    Image.new("RGB", (64, 64)).save(file.with_suffix(".gif"))
    page.set_input_files("#source-file", file.with_suffix(".gif"))
    expect(page.locator("#source-picture")).to_have_attribute("src", re.compile("^data:image/png"))
    # One that is read slowly, and is not wanted any more when it is.
    page.evaluate(SLOWLY)
    page.set_input_files("#source-file", file)
    page.click("#reset")
    page.evaluate("go().then(() => new Promise((resolve) => setTimeout(resolve, 100)))")
    expect(page.locator("#source-field")).to_be_hidden()
