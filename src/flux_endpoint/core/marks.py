"""What a picture's file says of itself, beside its pixels: that a machine made it, and how. Written and read here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from flux_endpoint.core.exif import comment_bytes, comment_in
from flux_endpoint.core.image_formats import PNG
from flux_endpoint.core.infotext import infotext
from flux_endpoint.core.input_kinds import Choice, Text
from flux_endpoint.core.inputs import INPUTS
from flux_endpoint.core.png_texts import texts_in

Parameters = Mapping[str, Any]

# Keywords of PNG's text chunks.
INFOTEXT_KEYWORD: Final = "parameters"
XMP_KEYWORD: Final = "XML:com.adobe.xmp"

PROMPTS: Final = ("prompt", "negative_prompt")
# IPTC's terms for what a model made that was trained on samples, and for a picture of which it made a part.
MADE_BY_A_MODEL: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
PARTLY_MADE_BY_A_MODEL: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_MASK: Final = "source_mask"
_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_OURS: Final = "urn:flux-endpoint#"
_XMP: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"><rdf:Description rdf:about=""'
    f' xmlns:Iptc4xmpExt="{_IPTC}" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:fluxEndpoint="{_OURS}">'
    "<Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType>"
    "<xmp:CreatorTool>{software}</xmp:CreatorTool>"
    "<fluxEndpoint:parameters>{parameters}</fluxEndpoint:parameters>"
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)
_XMP_START: Final = b"<x:xmpmeta"
_XMP_END: Final = b"</x:xmpmeta>"
# Which XML cannot hold, and JSON can spell.
_SPELLED: Final = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}
_OLD_TEXTS: Final = {row.in_file for row in INPUTS if isinstance(row.kind, Text | Choice)} | {
    "model",
    "software",
    "fingerprint",
}
_OLD_NAMES: Final = {row.in_file for row in INPUTS if row.in_file} | _OLD_TEXTS


@dataclass(frozen=True, slots=True)
class Marks:
    """What goes into a file.

    Attributes:
        xmp: a packet of XMP, UTF-8: IPTC's source type, and all parameters as JSON.
        text: see `infotext`.
    """

    xmp: bytes
    text: str


def marks_of(parameters: Parameters, max_bytes: int | None = None) -> Marks:
    """The marks of a picture; nothing in them but the parameters.

    Args:
        parameters: by the names that inputs have in files, with `model`, `software` and `fingerprint`.
        max_bytes: of `xmp`, and of `text` as UserComment. Prompts far longer than any FLUX model reads are cut until
            that is kept, which the parameters tell as `shortened`.
    """
    shortened = dict(parameters)
    while True:
        marks = Marks(_xmp(shortened), infotext(shortened))
        if max_bytes is None or max(len(marks.xmp), len(comment_bytes(marks.text))) <= max_bytes:
            return marks
        longest = max(PROMPTS, key=lambda name: len(str(shortened.get(name, ""))))
        text = str(shortened[longest])
        shortened[longest] = text[: len(text) * 3 // 4]
        shortened["shortened"] = 1


def parameters_in(data: bytes) -> dict[str, Any]:
    """The parameters that this program wrote into a file, in this version or an earlier one.

    Args:
        data: a file of any kind.

    Returns:
        Names and values as they were written; empty where there are none.
    """
    text = _property(data, f"{{{_OURS}}}parameters")
    try:
        parameters = _before_xmp(data) if text is None else json.loads(text)
    except ValueError:
        return {}
    return parameters if isinstance(parameters, dict) else {}


def source_type_in(data: bytes) -> str | None:
    """IPTC's DigitalSourceType in the XMP of a file; None where it says nothing of the kind."""
    return _property(data, f"{{{_IPTC}}}DigitalSourceType")


def infotext_in(data: bytes) -> str | None:
    """The text of `infotext` in a file, whoever wrote it; None where there is none."""
    return texts_in(data).get(INFOTEXT_KEYWORD) if PNG.is_in(data) else comment_in(data)


def _xmp(parameters: Parameters) -> bytes:
    values = json.dumps(parameters, ensure_ascii=False).translate(_SPELLED)
    return _XMP.format(
        source_type=PARTLY_MADE_BY_A_MODEL if _MASK in parameters else MADE_BY_A_MODEL,
        software=escape(str(parameters["software"])),
        parameters=escape(values),
    ).encode()


def _property(data: bytes, name: str) -> str | None:
    """A property of the XMP packet of a file, written as an element or as an attribute."""
    packet = texts_in(data).get(XMP_KEYWORD, "").encode() if PNG.is_in(data) else data
    start = packet.find(_XMP_START)
    end = packet.find(_XMP_END, start)
    if start < 0 or end < 0:
        return None
    try:
        root = ElementTree.fromstring(packet[start : end + len(_XMP_END)])
    except ElementTree.ParseError:
        return None
    for element in root.iter():
        if element.tag == name:
            return element.text
        if name in element.attrib:
            return element.attrib[name]
    return None


def _before_xmp(data: bytes) -> Any:
    """As version 0.1.0 wrote them: each in a PNG's text chunk, else JSON in UserComment."""
    if not PNG.is_in(data):
        comment = comment_in(data)
        return json.loads(comment) if comment else {}
    texts = texts_in(data)
    if "software" not in texts:
        return {}
    known = {name: text for name, text in texts.items() if name in _OLD_NAMES}
    return {name: text if name in _OLD_TEXTS else json.loads(text) for name, text in known.items()}
