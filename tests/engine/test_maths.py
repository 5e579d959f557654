"""The pure parts: latents, schedule, rotary tables, crop, memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from flux_endpoint.engine.decode import crop_to
from flux_endpoint.engine.latents import RenderSize, draw_noise, image_ids, pack_latents, render_size, unpack_latents
from flux_endpoint.engine.memory import available_ram_bytes
from flux_endpoint.engine.rope import RopeCache
from flux_endpoint.engine.schedule import make_scheduler, shift_mu

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("width", "height", "scale", "expected"),
    [
        (1024, 768, 8, RenderSize(1024, 768, 128, 96)),
        (1328, 1328, 8, RenderSize(1328, 1328, 166, 166)),
        (1472, 1140, 8, RenderSize(1472, 1152, 184, 144)),
        (1328, 1328, 32, RenderSize(1344, 1344, 42, 42)),
        (1, 17, 8, RenderSize(16, 32, 2, 4)),
    ],
)
def test_render_size_is_the_next_whole_token(width: int, height: int, scale: int, expected: RenderSize) -> None:
    size = render_size(width, height, scale)
    assert size == expected
    assert (size.token_columns, size.token_rows) == (expected.latent_width // 2, expected.latent_height // 2)


def test_packing_and_unpacking() -> None:
    size = render_size(96, 64, 8)
    latents = torch.arange(2 * 3 * 8 * 12).reshape(2, 3, 8, 12)
    tokens = pack_latents(latents)
    assert tokens.shape == (2, 24, 12)
    # The first token of the second row of patches, channel by channel.
    assert torch.equal(tokens[0, 6], latents[0, :, 2:4, 0:2].flatten())
    assert torch.equal(unpack_latents(tokens, size), latents)


def test_an_odd_grid_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="3 x 4"):
        pack_latents(torch.zeros(1, 1, 3, 4))


def test_image_ids_are_rows_and_columns() -> None:
    ids = image_ids(render_size(48, 32, 8))
    assert ids.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 1], [0, 1, 2]]


def test_noise_depends_on_the_seed_alone() -> None:
    size = render_size(64, 64, 8)
    torch.manual_seed(1)
    first = draw_noise(5, 16, size)
    torch.manual_seed(2)
    assert torch.equal(first, draw_noise(5, 16, size))
    assert not torch.equal(first, draw_noise(6, 16, size))
    assert (first.shape, first.dtype) == ((1, 16, 8, 8), torch.float32)


@pytest.mark.parametrize("tokens", [16, 256, 1000, 4096, 9216])
def test_shift_is_a_line_through_two_points(tokens: int) -> None:
    config = {"base_image_seq_len": 16, "max_image_seq_len": 576, "base_shift": 0.75, "max_shift": 2.6}
    assert shift_mu(16, config) == pytest.approx(0.75)
    assert shift_mu(576, config) == pytest.approx(2.6)
    assert shift_mu(tokens, {}) == calculate_shift(tokens)


def test_schedule_with_a_fixed_and_a_moving_shift() -> None:
    fixed = make_scheduler({"shift": 1.0}, 4, 256, CPU)
    assert fixed.timesteps.tolist() == [1000.0, 750.0, 500.0, 250.0]
    dynamic = {"use_dynamic_shifting": True}
    small, large = (make_scheduler(dynamic, 4, tokens, CPU).timesteps for tokens in (256, 4096))
    assert small[0] == large[0] == 1000
    assert (large[1:] > small[1:]).all()


def test_one_step_goes_all_the_way() -> None:
    scheduler = make_scheduler({"use_dynamic_shifting": True}, 1, 256, CPU)
    assert scheduler.sigmas.tolist() == [1.0, 0.0]


def test_rope_tables_are_remembered_by_size_and_text_length() -> None:
    transformer = FluxTransformer2DModel(
        num_layers=0, num_single_layers=0, attention_head_dim=16, num_attention_heads=1, axes_dims_rope=(4, 6, 6)
    )
    cache = RopeCache(transformer.pos_embed, CPU)
    # 24 tokens each: 3x8, 8x3, 4x6, and 2x8 after 8 text tokens.
    for rows, columns, text in ((3, 8, 0), (8, 3, 0), (4, 6, 0), (2, 8, 8)):
        size = RenderSize(0, 0, 2 * columns, 2 * rows)
        ids = torch.cat((torch.zeros(text, 3), image_ids(size)))
        first = cache(ids)
        expected = transformer.pos_embed(ids)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(first, expected, strict=True))
        assert cache(ids) is first
    for columns in range(1, 20):
        cache(image_ids(RenderSize(0, 0, 2 * columns, 2)))
    assert len(cache._tables) == 8


@pytest.mark.parametrize(("width", "height", "top", "left"), [(4, 4, 1, 0), (3, 5, 0, 0), (2, 6, 0, 1), (4, 1, 2, 0)])
def test_crop_takes_the_middle(width: int, height: int, top: int, left: int) -> None:
    pixels = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)
    cropped = crop_to(pixels, width, height)
    assert cropped.flags.c_contiguous
    assert np.array_equal(cropped, pixels[top : top + height, left : left + width])


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


MEMINFO = {"proc/meminfo": "MemTotal:       2000 kB\nMemAvailable:   1000 kB\n"}
GROUP = {"sys/fs/cgroup/memory.current": "700000", "sys/fs/cgroup/memory.stat": "anon 5\ninactive_file 100000\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (MEMINFO, 1_024_000),
        (MEMINFO | GROUP | {"sys/fs/cgroup/memory.max": "max\n"}, 1_024_000),
        (MEMINFO | GROUP | {"sys/fs/cgroup/memory.max": "900000\n"}, 300_000),
        (MEMINFO | GROUP | {"sys/fs/cgroup/memory.max": "9000000\n"}, 1_024_000),
    ],
)
def test_available_memory_minds_a_containers_limit(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    write(tmp_path, files)
    assert available_ram_bytes(tmp_path) == expected


def test_available_memory_elsewhere_than_on_linux(tmp_path: Path) -> None:
    assert available_ram_bytes(tmp_path) > 2**28
    with pytest.raises(ValueError, match="MemAvailable"):
        write(tmp_path, {"proc/meminfo": "MemTotal: 1 kB\n"})
        available_ram_bytes(tmp_path)
