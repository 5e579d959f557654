"""Where what is loaded beside a model lies, and what the headers of its files say; torch is not imported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.add_ons import AddOns
from flux_endpoint.engine.components import INDEX_FILE
from flux_endpoint.engine.detect import KIND_TEXTS, ControlNetPart, FileKind, ReduxPart, detect
from flux_endpoint.engine.headers import WEIGHT_ENDINGS, read_folder, read_header, read_json
from flux_endpoint.engine.sources import HUB_ID, hub_folder, parse_source, with_add_ons
from flux_endpoint.files.safetensors_header import TensorHeader

# Of the folder of a ControlNet.
CONFIG: Final = "config.json"
# The folder of Redux that says how SigLIP was trained to see pictures.
PROCESSOR: Final = "feature_extractor"
_REDUX_HUB_FILES: Final = (
    *(f"{part}/*{ending}" for part in ReduxPart for ending in (".json", ".safetensors")),
    f"{PROCESSOR}/*.json",
)
_CONTROLNET_HUB_FILES: Final = (CONFIG, "diffusion_pytorch_model*.safetensors", "diffusion_pytorch_model*.json")
_CONTROLNET: Final = ControlNetPart.CONTROLNET
_Headers = Mapping[str, TensorHeader]


def refuse_unloadable_add_ons(add_ons: AddOns, model: str, family: ModelFamily) -> None:
    """Look at the headers of what is loaded beside a model, where that is on this machine and no part of the hub's.

    Args:
        add_ons: all that there are.
        model: a source, see `sources.parse_source`.
        family: of the endpoint.

    Raises:
        CheckpointError: they say that it could not be loaded; one line that begins with the place.
    """
    used = with_add_ons(parse_source(model), family, add_ons).add_ons
    if used.redux is not None and not _is_of_hub(used.redux):
        try:
            folder = redux_folder(used.redux, download=False)
            redux_headers(folder, ReduxPart.IMAGE_ENCODER)
            kind = detect(redux_headers(folder, ReduxPart.IMAGE_EMBEDDER))
            if kind.text != KIND_TEXTS[ReduxPart.IMAGE_EMBEDDER]:
                wanted = KIND_TEXTS[ReduxPart.IMAGE_EMBEDDER]
                raise CheckpointError(f"{ReduxPart.IMAGE_EMBEDDER} is {kind.text}, not {wanted}")
            redux_part(folder, PROCESSOR)
        except CheckpointError as error:
            raise CheckpointError(f"Redux {used.redux}: {error}") from error
    if used.controlnet is not None and not _is_of_hub(used.controlnet.place):
        try:
            controlnet_headers(controlnet_folder(used.controlnet.place, download=False))
        except CheckpointError as error:
            raise CheckpointError(f"ControlNet {used.controlnet.place}: {error}") from error


def redux_folder(place: str, *, download: bool) -> Path:
    """The folder of Redux.

    Args:
        place: a hub id, or a folder in the layout of diffusers.
        download: whether the hub may be asked; otherwise only what was downloaded before is used.

    Raises:
        CheckpointError: there is none.
    """
    folder = Path(place).expanduser()
    if folder.is_dir():
        return folder
    if not HUB_ID.fullmatch(place) or folder.exists():
        raise CheckpointError("neither a folder nor a Hugging Face id such as black-forest-labs/FLUX.1-Redux-dev")
    return hub_folder(place, _REDUX_HUB_FILES, download=download)


def redux_part(folder: Path, part: str) -> Path:
    """The folder of a part of Redux.

    Raises:
        CheckpointError: it is not there.
    """
    place = folder / part
    if not place.is_dir():
        raise CheckpointError(f"{place} is missing: a folder of diffusers has {', '.join(ReduxPart)} and {PROCESSOR}")
    return place


def redux_headers(folder: Path, part: ReduxPart) -> _Headers:
    """The tensors of one of the two models of Redux.

    Raises:
        CheckpointError: they are not there, or cannot be read.
    """
    return read_folder(redux_part(folder, part))


def controlnet_folder(place: str, *, download: bool) -> Path:
    """The folder of a ControlNet; see `redux_folder`.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        what = detect(read_header(path)).text
        raise CheckpointError(f"a file ({what}): a ControlNet is a folder with {CONFIG} and its weights")
    if place.lower().endswith(WEIGHT_ENDINGS) or not HUB_ID.fullmatch(place):
        raise CheckpointError(
            "neither a folder nor a Hugging Face id such as Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro"
        )
    return hub_folder(place, _CONTROLNET_HUB_FILES, download=download)


def controlnet_headers(folder: Path) -> tuple[FileKind, _Headers]:
    """What the weights in a folder are, and their tensors.

    Raises:
        CheckpointError: they are no ControlNet, or cannot be read.
    """
    if (folder / INDEX_FILE).is_file():
        pipeline = read_json(folder / INDEX_FILE).get("_class_name")
        raise CheckpointError(f"a whole model ({pipeline}), not {KIND_TEXTS[_CONTROLNET]}")
    headers = read_folder(folder)
    kind = detect(headers)
    if kind.text != KIND_TEXTS[_CONTROLNET]:
        raise CheckpointError(f"{kind.text}, not {KIND_TEXTS[_CONTROLNET]}")
    return kind, headers


def _is_of_hub(place: str) -> bool:
    return not Path(place).expanduser().exists() and HUB_ID.fullmatch(place) is not None
