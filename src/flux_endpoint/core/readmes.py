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
- A **negative prompt** names what must not appear. It takes about a quarter more time.
- The same input with the same **seed** draws the same picture.
""",
    ModelFamily.KONTEXT: """\
FLUX.1 Kontext [dev] changes a picture as it is told, and keeps the rest.

- Send the picture as **image**, and say what is to be different: "make it winter", "change the sign to *Open*".
- Name what must stay: "while keeping the same face and pose".
- The result has the size that you ask for, whatever the size of the picture.
- The same input with the same **seed** draws the same picture.
""",
    ModelFamily.FILL: """\
FLUX.1 Fill [dev] completes a picture where a mask is white.

- Send the picture as **image** and the **mask**, and say what is to be seen there.
- Black in the mask stays to the last pixel. With a margin that is white in the mask, it draws beyond the edge.
- It wants much **guidance** (30) and many **steps** (50).
- The same input with the same **seed** draws the same picture.
""",
    ModelFamily.CANNY: """\
FLUX.1 Canny [dev] draws along edges: what the prompt says, in the lines of a picture.

- Send the edges as **control_image**: white lines on black, as Canny's algorithm finds them in a photo, not the \
photo itself.
- Say what is to be seen as if there were no picture.
- It wants much **guidance** (30) and many **steps** (50).
- The same input with the same **seed** draws the same picture.
""",
    ModelFamily.DEPTH: """\
FLUX.1 Depth [dev] draws along distances: what the prompt says, in the space of a picture.

- Send the distances as **control_image**: near parts bright, far ones dark, as a model of \
depth finds them in a photo, not the photo itself.
- Say what is to be seen as if there were no picture.
- It wants more **guidance** (10) than Flux Dev.
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
_SCENES: Final = (
    "A serene mountain landscape at sunset, golden light filtering through clouds, photorealistic",
    "A red fox asleep on a library windowsill, rain on the glass, warm lamp light",
    "Isometric cutaway of a tiny bakery at night, soft clay, studio lighting",
    'A hand-painted shop sign that reads "Open late", gold leaf on dark green',
)
EXAMPLES: Final = {
    ModelFamily.DEV: _SCENES,
    ModelFamily.SCHNELL: _SCENES,
    ModelFamily.KONTEXT: (
        "Make it winter, with snow on the roofs",
        "Turn it into a watercolour, and keep every shape where it is",
        'Change the sign to "Open late"',
        "Remove the people in the background",
    ),
    ModelFamily.FILL: (
        "A wooden bench under the tree",
        "Empty beach, gentle waves",
        "A vase of sunflowers on the table",
    ),
    ModelFamily.CANNY: (
        "A lantern of stained glass on a white table",
        "The same room in the style of a 1920s hotel, evening light",
    ),
    ModelFamily.DEPTH: (
        "A castle of ice on a hill, blue morning light",
        "A street of a medieval town after rain",
    ),
}


def readme(family: ModelFamily, *, is_embedded: bool) -> str:
    """Markdown about a model: paragraphs, lists, bold and code."""
    text = _README[family]
    return f"{_EMBEDDED}\n{text}" if is_embedded else text
