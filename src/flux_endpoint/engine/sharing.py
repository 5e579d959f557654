"""Text encoders and autoencoders that several models of one process have in common: one set in memory."""

import hashlib
import json
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import nn

from flux_endpoint.engine.detect import Component, ReduxPart
from flux_endpoint.engine.layout import CheckedComponent
from flux_endpoint.engine.stored import TensorReader

_SHARED: Final = frozenset({Component.VAE, Component.CLIP, Component.T5, *ReduxPart})
# Who wrote a config and for what, which no number depends on.
_UNTOLD: Final = frozenset({"architectures", "dtype", "transformers_version", "sample_size", "use_cache"})


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """A module in memory and what it was made of; without it, the next model's component is compared to the files."""

    made_of: CheckedComponent
    outline: str
    device: torch.device
    dtype: torch.dtype
    module: weakref.ref[nn.Module]


class SharedComponents:
    """What the engines of one process have loaded, kept for as long as one of them uses it.

    Modules are shared, tokenizers never: how a tokenizer cuts and pads is state of the object, and another thread, or a
    model that reads fewer tokens, would change it in the middle of a prompt.
    """

    def __init__(self) -> None:
        self._loaded: list[_Loaded] = []

    def get(
        self, checked: CheckedComponent, device: torch.device, dtype: torch.dtype, load: Callable[[], nn.Module]
    ) -> Any:
        """The module of a component: one that is loaded already if its weights are equal, else a new one.

        Args:
            checked: the component wanted.
            device: where it is needed.
            dtype: of its numbers.
            load: makes a new one.
        """
        loaded = self._find(checked, device, dtype)
        module = loaded.module() if loaded is not None else None
        if module is None:
            module = load()
            if checked.component in _SHARED:
                # Without its module, which is to go when no engine uses it any more.
                made_of = replace(checked, module=None)
                self._loaded.append(_Loaded(made_of, _outline(checked), device, dtype, weakref.ref(module)))
        return module

    def missing(
        self, components: Iterable[CheckedComponent], device: torch.device, dtype: torch.dtype
    ) -> list[CheckedComponent]:
        """Which of some components are not loaded yet."""
        return [checked for checked in components if self._find(checked, device, dtype) is None]

    def _find(self, checked: CheckedComponent, device: torch.device, dtype: torch.dtype) -> _Loaded | None:
        """What is loaded already: by config and headers first, which cost nothing, then by the files' bytes."""
        self._loaded = [loaded for loaded in self._loaded if loaded.module() is not None]
        outline = _outline(checked)
        for loaded in self._loaded:
            if (loaded.outline, loaded.device, loaded.dtype) == (outline, device, dtype):
                made_of = loaded.made_of
                if _files(made_of) == _files(checked) or content_hash(made_of) == content_hash(checked):
                    return loaded
        return None


def _outline(checked: CheckedComponent) -> str:
    tensors = sorted((name, tensor.shape, tensor.way) for name, tensor in checked.tensors.items())
    config = checked.module.config
    settings = dict(config) if isinstance(config, Mapping) else config.to_dict()
    told = {name: value for name, value in settings.items() if not name.startswith("_") and name not in _UNTOLD}
    return json.dumps([checked.component, tensors, told], sort_keys=True, default=str)


def _files(checked: CheckedComponent) -> set[tuple[str, int]]:
    files = {header.file.resolve() for tensor in checked.tensors.values() for header in tensor.headers}
    return {(str(file), file.stat().st_mtime_ns) for file in files}


def content_hash(checked: CheckedComponent) -> str:
    """SHA-256 of a component's numbers as they are stored, whatever else is in its files and in which order."""
    reader, digest = TensorReader(torch.device("cpu")), hashlib.sha256()
    for name, tensor in sorted(checked.tensors.items()):
        digest.update(name.encode())
        for header in tensor.headers:
            digest.update(header.dtype.encode())
            digest.update(reader.read(header).contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
