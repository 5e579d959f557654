"""Keeps LoRAs in memory for the pictures that follow."""

import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import nn

from flux_endpoint.core.lora import Lora
from flux_endpoint.core.lora_places import told_name
from flux_endpoint.engine.lora.active import ActiveLoras
from flux_endpoint.engine.lora.adapter import Adapter, read_adapter
from flux_endpoint.files.lora_names import Tower
from flux_endpoint.files.lora_shelf import FolderShelf

_LOG = logging.getLogger(__name__)


class LoraCache:
    """LoRAs of one model, those used last.

    Args:
        shelf: where their files are.
        limit_bytes: of all that is kept; those of the picture at hand are kept whatever they take.
    """

    def __init__(self, shelf: FolderShelf, limit_bytes: int) -> None:
        self._shelf = shelf
        self._limit_bytes = limit_bytes
        # By hash; the one used last is the last.
        self._kept: OrderedDict[str, Adapter] = OrderedDict()

    def active(
        self, loras: Sequence[Lora], towers: Mapping[Tower, nn.Module], device: torch.device, dtype: torch.dtype
    ) -> ActiveLoras:
        """The LoRAs of a request, read where they are not kept.

        Args:
            loras: in the order in which they are added up.
            towers: the components of the model.
            device: where it works.
            dtype: that it computes in.

        Raises:
            CheckpointError: a file is missing, is another one, or cannot be applied to this model.
        """
        adapters = [(self._get(lora, towers, device, dtype), lora.scale) for lora in loras]
        size = sum(adapter.size_bytes for adapter in self._kept.values())
        used = {lora.sha256 for lora in loras}
        for sha256 in [sha256 for sha256 in self._kept if sha256 not in used]:
            if size <= self._limit_bytes:
                break
            size -= self._kept.pop(sha256).size_bytes
        return ActiveLoras(adapters)

    @property
    def kept(self) -> Collection[str]:
        """Hashes of the files that are in memory; the one used last is the last."""
        return self._kept.keys()

    def clear(self) -> None:
        """Forget all: the model is unloaded, or moves."""
        self._kept.clear()

    def _get(self, lora: Lora, towers: Mapping[Tower, nn.Module], device: torch.device, dtype: torch.dtype) -> Adapter:
        if lora.sha256 not in self._kept:
            adapter = read_adapter(self._shelf.file_of(lora), towers, device, dtype)
            _LOG.info("LoRA %s is loaded, %.1f MB", told_name(lora.path), adapter.size_bytes / 1e6)
            self._kept[lora.sha256] = adapter
        self._kept.move_to_end(lora.sha256)
        return self._kept[lora.sha256]
