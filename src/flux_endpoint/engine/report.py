"""What is known of a checkpoint before its weights are read."""

from dataclasses import dataclass
from pathlib import Path

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.engine.memory_plan import MemoryPlan


@dataclass(frozen=True, slots=True)
class ComponentReport:
    """One module of a checkpoint.

    Attributes:
        name: transformer, vae, text_encoder or text_encoder_2.
        files: of weights.
        parameters: number of elements of all its tensors.
        size_bytes: on the disk.
        dtypes: in the files, as safetensors or GGUF writes them.
        kind: what the file or folder is that holds it, for people.
        ways: in which numbers that are not plain are stored: `scaled fp8`.
    """

    name: str
    files: tuple[Path, ...]
    tensors: int
    parameters: int
    size_bytes: int
    dtypes: tuple[str, ...]
    kind: str
    ways: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """A checkpoint that can be loaded here.

    Attributes:
        source: as given.
        name: as written into pictures.
        location: folder or file on this machine.
        family: its architecture; the embedded model has dev's and may serve schnell's endpoint too.
        variant: what it was trained for: `dev`, `schnell`, `krea`.
        memory: how it would be kept there.
        step_operations: multiplications and additions of a step at 1024 x 1024 without a negative prompt.
        operations_per_s: that the device was measured to do; None where it was not.
        device: where it would run.
        notice: a licence or limitation to show; may be empty.
    """

    source: str
    name: str
    location: str
    family: ModelFamily
    variant: str
    components: tuple[ComponentReport, ...]
    memory: MemoryPlan
    step_operations: int
    device: str
    notice: str
    operations_per_s: float | None = None

    @property
    def parameters(self) -> int:
        """How many numbers all components have."""
        return sum(component.parameters for component in self.components)

    @property
    def size_bytes(self) -> int:
        """How long all components' weights are on the disk."""
        return sum(component.size_bytes for component in self.components)


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model that is on this machine already.

    Attributes:
        source: what to set as the model's source to use it.
        location: its folder.
        size_bytes: of all its files.
    """

    source: str
    location: str
    size_bytes: int
