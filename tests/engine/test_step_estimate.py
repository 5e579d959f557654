"""What a step is expected to cost."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.random_flux import TINY_SIZES, TRUE_SIZES, meta_transformer
from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.engine.step_estimate import measured_operations_per_s, step_operations


def test_the_operations_of_a_step_are_those_that_torch_counts() -> None:
    for sizes, image, text in ((TINY_SIZES, 16, 8), (TRUE_SIZES, 4_096, 512), (TRUE_SIZES, 256, 512)):
        transformer = meta_transformer(sizes, ModelFamily.DEV)
        shapes = {name: tuple(tensor.shape) for name, tensor in transformer.state_dict().items()}
        with FlopCounterMode(display=False) as counter, torch.device("meta"):
            transformer(
                hidden_states=torch.empty(1, image, 64),
                timestep=torch.empty(1),
                guidance=torch.empty(1),
                pooled_projections=torch.empty(1, transformer.config.pooled_projection_dim),
                encoder_hidden_states=torch.empty(1, text, transformer.config.joint_attention_dim),
                txt_ids=torch.empty(text, 3),
                img_ids=torch.empty(image, 3),
            )
        blocks = counter.get_total_flops()
        assert 0.85 * blocks < step_operations(shapes, image, text) <= blocks


def test_products_are_timed() -> None:
    assert measured_operations_per_s(torch.device("cpu"), torch.float32) > 1e8
