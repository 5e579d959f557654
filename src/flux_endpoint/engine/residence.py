"""Where the weights of a loaded model are, and putting fewer of them on the device when it runs out of memory."""

from dataclasses import dataclass

import torch
from torch import nn

from flux_endpoint.engine.detect import Component
from flux_endpoint.engine.layout import Checkpoint
from flux_endpoint.engine.memory_plan import MemoryPlan, Needs, thriftier
from flux_endpoint.engine.stored_layers import keep_stored
from flux_endpoint.engine.streaming import stream
from flux_endpoint.engine.weights import LoadedModel, dtype_named

_HOST = torch.device("cpu")


@dataclass(slots=True, eq=False)
class Residence:
    """How a loaded model is kept.

    Attributes:
        plan: in force; another one after the device ran out of memory.
    """

    checkpoint: Checkpoint
    needs: Needs
    plan: MemoryPlan

    def be_thriftier(self, model: LoadedModel, device: torch.device) -> bool:
        """Go on to the next way that draws the same bytes, in place: pictures that are being drawn stay as they are.

        Returns:
            False when there is none.
        """
        plan = thriftier(self.plan, self.needs, device.type)
        if plan is None:
            return False
        dtype = dtype_named(plan.placement.dtype)
        before = self.plan.placement
        for component, module in _modules(model).items():
            if component in plan.placement.streamed - before.streamed:
                module.to(_HOST)
            home = _HOST if component in plan.placement.streamed else device
            if component in plan.placement.stored - before.stored:
                keep_stored(self.checkpoint.components[component], module, device, dtype, home)
            if component in plan.placement.streamed - before.streamed:
                stream(module, device)
        self.plan = plan
        return True


def _modules(model: LoadedModel) -> dict[Component, nn.Module]:
    clip, t5 = model.text.encoders
    return {Component.TRANSFORMER: model.transformer, Component.CLIP: clip, Component.T5: t5}
