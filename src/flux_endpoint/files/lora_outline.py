"""What a LoRA file would change, from its header alone; whatever is not wholly understood is refused by name."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Final

from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.text import listing
from flux_endpoint.files.lora_names import Layer, Tower, layer_of
from flux_endpoint.files.lora_scales import LoraScales, read_scales
from flux_endpoint.files.safetensors_header import SafetensorsHeader, Shape, read_safetensors


class Form(StrEnum):
    """How a change of a weight is written down.

    Attributes:
        LORA: up @ down.
        LOHA: (w1_a @ w1_b) * (w2_a @ w2_b), element by element.
        LOKR: the Kronecker product of w1 and w2, each whole or w_a @ w_b.
    """

    LORA = "LoRA"
    LOHA = "LoHa"
    LOKR = "LoKr"


@dataclass(frozen=True, slots=True)
class LoraLayer:
    """What one name of a file changes.

    Attributes:
        name: as the file has it.
        form: how the change is written down.
        tensors: the names in the file of its tensors, by their role: `down`, `up`, `w1`, `w1_a`...
        factor: what the change is multiplied with, beside the scale of a request.
        layer: what is changed.
        rows: of the weight that is changed.
        columns: likewise.
    """

    name: str
    form: Form
    tensors: Mapping[str, str]
    factor: float
    layer: Layer
    rows: int
    columns: int

    def parts(self) -> list[tuple[str, int, int]]:
        """Each module that is changed, with the first of its rows and the one after its last."""
        modules = self.layer.modules
        # Queries, keys and values are as wide as what they are made of; the wide layer is what is left.
        each = self.rows // 3 if len(modules) == 3 else self.columns
        ends = [self.rows] if len(modules) == 1 else [*(each * number for number in range(1, len(modules))), self.rows]
        return list(zip(modules, [0, *ends], ends, strict=False))


# What a tensor is, by the end of its name.
_ENDS: Final = re.compile(
    r"(?P<name>.+?)\.(?:"
    r"(?P<down>(?:lora_A(?:\.default)?|lora_down|lora\.down|down)\.weight)|"
    r"(?P<up>(?:lora_B(?:\.default)?|lora_up|lora\.up|up)\.weight)|"
    r"(?P<alpha>alpha)|hada_(?P<hada>w[12]_[ab])|lokr_(?P<lokr>w[12](?:_[ab])?))"
)
# What is known and cannot be applied, and why.
_REFUSED: Final = (
    (("dora_scale", "lora_magnitude_vector", "lora_magnitude_vector.weight"), "is a DoRA, which is not applied here"),
    (
        ("query_norm.scale", "key_norm.scale"),
        "is a control LoRA (depth, canny), which is no LoRA of requests: it makes a model of its own",
    ),
    (("lora_A.bias", "lora_B.bias"), "changes biases, which is not applied here (control LoRAs do)"),
    (("diff", "diff_b"), "holds whole differences of weights (.diff), which are not applied here"),
    (("hada_t1", "hada_t2", "lokr_t2", "lora_mid.weight"), "is made for convolutions, which FLUX.1 has not"),
)
_NEEDED: Final = {
    Form.LORA: ({"down", "up"},),
    Form.LOHA: ({"w1_a", "w1_b", "w2_a", "w2_b"},),
    Form.LOKR: tuple(
        {*one, *two} for one in (("w1",), ("w1_a", "w1_b")) for two in (("w2",), ("w2_a", "w2_b"))
    ),
}  # fmt: skip
# Layers of blocks that read what is as wide as the transformer.
_READS_WIDTH: Final = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.add_q_proj", "ff.net.0.proj", "proj_mlp")
_PLAIN: Final = frozenset({"F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})


def outline(file: Path) -> list[LoraLayer]:
    """What a LoRA file would change.

    Args:
        file: in any layout; one of PEFT has its `adapter_config.json` beside it.

    Raises:
        CheckpointError: the file is damaged, no LoRA, not of FLUX.1, or something in it is not understood.
    """
    header = read_safetensors(file)
    return layers_in(file, header, list(header.tensors))


def layers_in(
    file: Path, header: SafetensorsHeader, names: Collection[str], *, with_biases: bool = False
) -> list[LoraLayer]:
    """What some tensors of a LoRA file would change.

    Args:
        file: in any layout.
        header: of that file.
        names: of the tensors.
        with_biases: whether its configuration may say that it has biases of its own.

    Raises:
        CheckpointError: as `outline`.
    """
    for ends, problem in _REFUSED:
        if name := next((name for name in names if name.endswith(tuple(f".{end}" for end in ends))), ""):
            raise CheckpointError(f"{file.name} {problem}: {name}")
    tensors: dict[str, dict[str, str]] = {}
    forms: dict[str, set[Form]] = {}
    strange = []
    for name in names:
        match = _ENDS.fullmatch(name)
        if match is None:
            strange.append(name)
            continue
        form, role = _role(match)
        tensors.setdefault(match["name"], {})[role] = name
        forms.setdefault(match["name"], set()).update({form} if form else ())
    if not any(forms.values()):
        raise CheckpointError(f"{file.name} is no LoRA: it holds {listing(list(names)) or 'nothing'}")
    if strange:
        raise CheckpointError(f"{file.name} holds {len(strange)} tensors that no LoRA has: {listing(strange)}")
    scales = read_scales(file, header.metadata, with_biases=with_biases)
    layers = [_layer(file, header, name, tensors[name], forms[name], scales) for name in tensors]
    _require_once(file, layers)
    return layers


def width_of(layers: Iterable[LoraLayer]) -> int | None:
    """How wide the transformer is that a LoRA was made for; None where no layer of it tells."""
    for one in layers:
        if one.layer.tower is Tower.TRANSFORMER and one.layer.modules[0].endswith(_READS_WIDTH):
            return one.columns
    return None


def _role(match: "re.Match[str]") -> tuple[Form | None, str]:
    if match["hada"]:
        return Form.LOHA, match["hada"]
    if match["lokr"]:
        return Form.LOKR, match["lokr"]
    role = next(role for role in ("down", "up", "alpha") if match[role])
    return (None, role) if role == "alpha" else (Form.LORA, role)


def _layer(
    file: Path,
    header: SafetensorsHeader,
    name: str,
    tensors: Mapping[str, str],
    forms: set[Form],
    scales: LoraScales,
) -> LoraLayer:
    layer = layer_of(name)
    if layer is None:
        raise CheckpointError(f"{file.name} is made for another model: FLUX.1 has no layer {name}")
    if len(forms) != 1:
        raise CheckpointError(f"{file.name} is incomplete: {name} has {listing(sorted(tensors))} alone")
    (form,) = forms
    if tensors.keys() - {"alpha"} not in _NEEDED[form]:
        raise CheckpointError(f"{file.name} is incomplete: of {name} it has {', '.join(sorted(tensors))} only")
    shapes = {role: _plain_shape(file, header, tensor) for role, tensor in tensors.items() if role != "alpha"}
    rows, columns, rank = _sizes(file, name, form, shapes)
    alpha = header.number(tensors["alpha"]) if "alpha" in tensors else None
    if rank is not None and alpha is not None and not (isfinite(alpha) and alpha > 0):
        raise CheckpointError(f"{file.name}: the alpha of {name} is {alpha:g}, which must be above 0")
    if (len(layer.modules) == 3 and rows % 3) or (len(layer.modules) == 4 and rows <= 3 * columns):
        raise CheckpointError(f"{file.name} is made for another model: {name} has {rows} rows of {columns}")
    # Where both factors of a LoKr are whole there is no rank, and trainers write any alpha.
    factor = 1.0 if rank is None else scales.factor(file, name, alpha, rank)
    return LoraLayer(name, form, tensors, factor, layer, rows, columns)


def _plain_shape(file: Path, header: SafetensorsHeader, name: str) -> tuple[int, int]:
    tensor = header.tensors[name]
    if tensor.dtype not in _PLAIN:
        raise CheckpointError(f"{file.name}: {name} is stored as {tensor.dtype}, not as plain numbers")
    # Some trainers write linear layers as convolutions of one pixel.
    if len(tensor.shape) < 2 or not tensor.parameters or any(side != 1 for side in tensor.shape[2:]):
        raise CheckpointError(f"{file.name}: {name} has the shape {tensor.shape}, which is none of a linear layer")
    return tensor.shape[0], tensor.shape[1]


def _sizes(file: Path, name: str, form: Form, shapes: Mapping[str, Shape]) -> tuple[int, int, int | None]:
    """Rows and columns of the weight that is changed, and the rank; None where there is none."""
    match form:
        case Form.LORA:
            pairs = [("up", "down")]
        case Form.LOHA:
            pairs = [("w1_a", "w1_b"), ("w2_a", "w2_b")]
        case Form.LOKR:
            pairs = [(f"{one}_a", f"{one}_b") for one in ("w1", "w2") if f"{one}_a" in shapes]
    for left, right in pairs:
        if shapes[left][1] != shapes[right][0]:
            sizes = f"{shapes[left]}, {shapes[right]}"
            raise CheckpointError(f"{file.name}: {left} and {right} of {name} do not fit: {sizes}")
    if form is Form.LORA:
        return shapes["up"][0], shapes["down"][1], shapes["down"][0]
    products = {one: (shapes[f"{one}_a"][0], shapes[f"{one}_b"][1]) for one in ("w1", "w2") if f"{one}_a" in shapes}
    one, two = (products.get(each) or shapes[each] for each in ("w1", "w2"))
    if form is Form.LOKR:
        ranks = [shapes[right][0] for _, right in pairs]
        return one[0] * two[0], one[1] * two[1], ranks[-1] if ranks else None
    if one != two:
        raise CheckpointError(f"{file.name}: the two halves of {name} do not fit: {one}, {two}")
    return one[0], one[1], shapes["w1_b"][0]


def _require_once(file: Path, layers: Iterable[LoraLayer]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for one in layers:
        for module in one.layer.modules:
            other = seen.setdefault((one.layer.tower, module), one.name)
            if other != one.name:
                raise CheckpointError(f"{file.name} changes {module} twice: by {other} and by {one.name}")
