"""What people read about the models, and prompts to begin with."""

from typing import Final

from flux_endpoint.core.catalog import ModelFamily

_README: Final = {
    ModelFamily.DEV: """\
FLUX.1 [dev] draws in many small steps and follows long prompts closely.

- Write what the picture shows in plain sentences: subject, place, light, style.
- More **steps** add detail and time; more **guidance** follows the prompt more literally.
- A **negative prompt** names what must not appear. It takes a second pass per step, so the picture takes twice as long.
- The same input with the same **seed** draws the same picture.
""",
    ModelFamily.SCHNELL: """\
FLUX.1 [schnell] is distilled to very few steps: for quick drafts and many tries.

- Write what the picture shows in plain sentences: subject, place, light, style.
- A handful of **steps** is enough; guidance has no effect on this model.
- The same input with the same **seed** draws the same picture.
""",
}
_EMBEDDED: Final = """\
This server draws with the **small embedded model**, made to try everything without a download. It knows \
landscapes (day, sunset, dawn, night, storm, fog; lake, sea, river, beach, meadow, field, forest, desert, snow, road; \
mountains, hills, a city, a waterfall; sun, moon, clouds), a house, castle, lighthouse, boat, balloon, tree, animal or \
fruit in them, plain shapes and styles such as watercolour or pixel art, all with soft or torn outlines. Start the \
server with real FLUX.1 weights for everything else: \
`flux-endpoint serve --model black-forest-labs/FLUX.1-dev`
"""

# Of its gallery, `models/demo/gallery`: it would only disappoint with those below.
EMBEDDED_EXAMPLES: Final = (
    "A serene mountain landscape at sunset, golden light filtering through clouds, photorealistic",
    "a red house on a meadow",
    "a city skyline at night behind a river",
    "a vase with pink flowers on a table, still life",
)
EXAMPLES: Final = (
    "A serene mountain landscape at sunset, golden light filtering through clouds, photorealistic",
    "A red fox asleep on a library windowsill, rain on the glass, warm lamp light",
    "Isometric cutaway of a tiny bakery at night, soft clay, studio lighting",
    'A hand-painted shop sign that reads "Open late", gold leaf on dark green',
)


def readme(family: ModelFamily, *, is_embedded: bool) -> str:
    """Markdown about a model: paragraphs, lists, bold and code."""
    text = _README[family]
    return f"{_EMBEDDED}\n{text}" if is_embedded else text
