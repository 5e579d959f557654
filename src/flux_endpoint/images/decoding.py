"""Pictures that strangers send, decoded: of a few formats, of a size that is bearable, and with all their oddities."""

import base64
import io
from typing import TYPE_CHECKING, Final

from flux_endpoint.core.image_formats import IMAGE_FORMATS, SOURCE_FORMAT, either
from flux_endpoint.core.source_picture import MASK_BY_TRANSPARENCY, MAX_SOURCE_BYTES
from flux_endpoint.images.protocol import DecodedPicture

if TYPE_CHECKING:
    from PIL.Image import Image

# Declared by the file, before anything is decoded.
MAX_PIXELS: Final = 64 * 10**6
# What is larger is scaled down: no picture is drawn at more than 1536 pixels a side.
MAX_SIDE: Final = 2048
# How much the shape of a mask may differ from that of its picture: programs round the sides when they scale.
_MAX_DIFFERENCE: Final = 0.02
# As Pillow calls them.
_FORMATS: Final = tuple(name.upper() for name in IMAGE_FORMATS)
# Little larger than at 6, in a third of the time.
_COMPRESSION: Final = 3


def decode_sent(sent: str | bytes, mask_of: tuple[int, int] | None = None) -> DecodedPicture | str:
    """Make what is kept of a file that a client sent: the protocol `Decode`, in one process."""
    # Here and not above: few servers ever decode a picture.
    from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

    data = sent if isinstance(sent, bytes) else _decoded(sent)
    if data is None:
        return "is no valid base64"
    if len(data) > MAX_SOURCE_BYTES:
        return f"must be a file of at most {MAX_SOURCE_BYTES // 2**20} MiB"
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return f"has {image.width}x{image.height} pixels; at most {MAX_PIXELS // 10**6} million are taken"
            image.load()
            upright = ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        return f"is no {either(list(IMAGE_FORMATS))} file"
    # Whatever a decoder makes of a broken file: its errors are of all kinds.
    except Exception:
        return "is broken: the file cannot be decoded to its end"
    if mask_of is None:
        kept = _scaled_down(_on(upright, "white").convert("RGB"))
    elif _differ(upright.size, mask_of):
        asked = "x".join(map(str, mask_of))
        return f"has the shape of {upright.width}x{upright.height} pixels, and its picture that of {asked}"
    else:
        kept = _mask_in(upright, isinstance(sent, str) and sent.startswith(f"data:{MASK_BY_TRANSPARENCY};"))
        kept = kept if kept.size == mask_of else kept.resize(mask_of, Image.Resampling.BILINEAR)
    file = io.BytesIO()
    # Without what else the file says: whose it is, where it was taken.
    kept.save(file, SOURCE_FORMAT.name, compress_level=_COMPRESSION)
    return DecodedPicture(file.getvalue(), *kept.size)


def _decoded(url: str) -> bytes | None:
    """What is in a `data:` URL; None for no base64."""
    text = url.partition(",")[2]
    try:
        # Some programs break their lines.
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        return None


def _on(image: "Image", ground: str) -> "Image":
    """The picture in 8 bits a channel, on a ground where it is transparent."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        # 16 bits of grey: Pillow would cut off what is above 255.
        image = image.convert("I").point(lambda value: value / 257, "L") if image.mode != "F" else image.convert("L")
    if not image.has_transparency_data:
        return image
    seen = image.convert("RGBA")
    under = Image.new("RGBA", seen.size, ground)
    under.alpha_composite(seen)
    return under


def _mask_in(image: "Image", by_transparency: bool) -> "Image":
    """The mask in 8 bits of grey: white is drawn anew."""
    from PIL import ImageChops

    if by_transparency and image.has_transparency_data:
        return ImageChops.invert(image.convert("RGBA").getchannel("A"))
    return _on(image, "black").convert("L")


def _scaled_down(image: "Image") -> "Image":
    from PIL import Image

    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return image


def _differ(size: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs(size[0] * other[1] / (size[1] * other[0]) - 1) > _MAX_DIFFERENCE
