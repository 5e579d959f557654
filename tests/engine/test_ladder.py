"""The GPU ladder, all of it on the CPU: passes in bfloat16 and fp8, a compiler that writes no machine code, and a
stand-in for the recording of CUDA graphs."""

import copy
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention import SDPBackend

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.negative_mode import NegativeMode
from flux_endpoint.engine.blocks import sdpa
from flux_endpoint.engine.decode import exact_decoder
from flux_endpoint.engine.denoise import exact_velocity
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.forward import Build, FusedTransformer
from flux_endpoint.engine.gpu import ladder as ladder_module
from flux_endpoint.engine.gpu.attention import attention_of_torch, choose_attention, flash_3, known_attentions
from flux_endpoint.engine.gpu.compiled import as_compiled, compile_blocks
from flux_endpoint.engine.gpu.fp8 import (
    FP8,
    Fp8Linear,
    can_be_fp8,
    device_product,
    plain_product,
    product_that_adds,
    quantise_rows,
)
from flux_endpoint.engine.gpu.graphs import GraphedPass
from flux_endpoint.engine.gpu.ladder import Ladder, Rung
from flux_endpoint.engine.gpu.tools import Tools
from flux_endpoint.engine.joined import join_weights
from flux_endpoint.engine.latents import RenderSize
from flux_endpoint.engine.level import Level
from flux_endpoint.engine.levels import Levels
from flux_endpoint.engine.linear import Linear
from flux_endpoint.engine.probe import distance, make_probe

NONE, REGULAR, HIGH = Acceleration
CPU = torch.device("cpu")
PROBE = RenderSize(96, 64, 12, 8)
Parts = tuple[torch.nn.Module, torch.nn.Module]


class Recorder:
    """Does what a CUDA graph does, on the CPU: the same places, and nothing chosen anew."""

    def __init__(self, *, spoils: bool = False) -> None:
        self.recorded = 0
        self.replayed = 0
        self._spoils = spoils

    def record(self, run: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        result = run()
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            result.copy_(run() * (1.5 if self._spoils else 1))

        return result, replay


def tools(**changes: object) -> Tools:
    made = Tools(
        device=CPU,
        attentions={"flash": attention_of_torch(SDPBackend.FLASH_ATTENTION)},
        backend="eager",
        recorder=Recorder(),
        product=plain_product,
        free_bytes=lambda: 1 << 40,
        probe=PROBE,
        text_tokens=20,
    )
    return replace(made, **changes)


@pytest.fixture
def parts(engines: dict[ModelFamily, FluxEngine]) -> Iterator[Parts]:
    """A transformer and an autoencoder in bfloat16."""
    model = engines[ModelFamily.DEV]._loaded()[0]
    yield tuple(torch.nn.Module.to(copy.deepcopy(part), torch.bfloat16) for part in (model.transformer, model.vae))
    torch._dynamo.reset()


def ladder_of(parts: Parts, times_s: dict[str, float] | None = None, **changes: object) -> Ladder:
    transformer, vae = parts

    def passes(*arguments: object) -> object:
        return exact_velocity(transformer, *arguments)

    return Ladder(transformer, vae, Level(NONE, passes, exact_decoder(vae)), tools(**changes), times_s)


def climbed(ladder: Ladder) -> dict[str, Rung]:
    return {rung.name: rung for rung in ladder.climb()}


@pytest.fixture
def everything_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed later is faster: on the CPU nothing of this is true, and times are no matter of tests."""
    times = iter(range(1000, 0, -1))
    monkeypatch.setattr(ladder_module, "seconds_of", lambda run, device: float(next(times)))


@pytest.mark.usefixtures("everything_pays")
def test_all_rungs_are_climbed_and_all_levels_offered(parts: Parts) -> None:
    ladder = ladder_of(parts)
    rungs = climbed(ladder)
    assert {name: rung.is_kept for name, rung in rungs.items()} == dict.fromkeys(
        ("attention", "fused", "compiled", "graphs", "fp8", "decoder"), True
    ), rungs
    # No further from float32 than diffusers is, and fp8 further than bfloat16.
    assert rungs["fused"].distance == rungs["compiled"].distance == rungs["graphs"].distance < 1e-2
    assert rungs["graphs"].distance < rungs["fp8"].distance < 0.2
    levels = ladder.levels()
    assert list(levels) == [NONE, REGULAR, HIGH]
    assert [level.takes_negative for level in levels.values()] == [True, False, False]
    assert [level.is_extrapolated for level in levels.values()] == [False, False, True]
    assert ladder.attention == "flash"
    assert ladder.results_hash() == ladder.results_hash()


def test_what_is_loaded_again_is_chosen_by_the_times_of_the_first_load(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    times_s: dict[str, float] = {}
    kept = []
    # Each is faster than the one before, and the other way round.
    for numbers in (iter(range(1000, 0, -1)), iter(range(1, 1000))):
        monkeypatch.setattr(ladder_module, "seconds_of", lambda *_, numbers=numbers: float(next(numbers)))
        ladder = ladder_of(copy.deepcopy(parts), times_s, backend=None)
        rungs = climbed(ladder)
        kept.append(([name for name, rung in rungs.items() if rung.is_kept], ladder.results_hash()))
    assert kept[0] == kept[1]
    assert "fp8" in kept[0][0]


@pytest.mark.usefixtures("everything_pays")
def test_each_rung_that_fails_is_left_out_and_says_why(parts: Parts) -> None:
    def fails(*_: object) -> Tensor:
        raise RuntimeError("no kernel image is available\nmore")

    ladder = ladder_of(parts, attentions={"broken": fails}, backend="nonsense", product=fails)
    rungs = climbed(ladder)
    assert [name for name, rung in rungs.items() if rung.is_kept] == ["attention", "fused", "graphs"]
    assert ladder.attention == "torch"
    assert "nonsense" in rungs["compiled"].words
    assert "nonsense" in rungs["decoder"].words
    assert list(ladder.levels()) == [NONE, HIGH]
    # What the compiler does not take, fp8 need not be: it is made without one.
    uncompiled = climbed(ladder_of(parts, backend="nonsense"))
    assert [name for name, rung in uncompiled.items() if rung.is_kept] == ["attention", "fused", "graphs", "fp8"]
    lacking = climbed(ladder_of(parts, backend=None, recorder=None, product=None))
    assert [name for name, rung in lacking.items() if rung.is_kept] == ["attention", "fused"]
    assert "does not multiply fp8" in lacking["fp8"].words


@pytest.mark.usefixtures("everything_pays")
def test_products_in_fp8_that_fail_are_no_fault_of_the_attention(parts: Parts) -> None:
    def wrong(*numbers: Tensor) -> Tensor:
        return plain_product(*numbers) * 1.5

    ladder = ladder_of(parts, product=wrong)
    assert "in fp8" in climbed(ladder)["fp8"].words
    assert ladder.attention == "flash"


@pytest.mark.usefixtures("everything_pays")
def test_fp8_needs_room_for_its_weights(parts: Parts) -> None:
    rung = climbed(ladder_of(parts, backend=None, free_bytes=lambda: 5 << 30))["fp8"]
    assert rung.is_kept
    rung = climbed(ladder_of(parts, backend=None, free_bytes=lambda: 4 << 30))["fp8"]
    assert not rung.is_kept
    assert "4096 are free" in rung.words


@pytest.mark.usefixtures("everything_pays")
def test_a_pass_further_off_than_diffusers_is_not_offered(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Linear.forward
    monkeypatch.setattr(Linear, "forward", lambda self, rows: forward(self, rows) * 1.05)
    ladder = ladder_of(parts, backend=None)
    rungs = climbed(ladder)
    assert not rungs["fused"].is_kept
    assert "diffusers is" in rungs["fused"].words
    assert not any(rungs[name].is_kept for name in ("compiled", "graphs", "fp8"))
    # What diffusers does is drawn, at every level; extrapolation needs nothing of the ladder.
    transformer, _ = parts
    probe = make_probe(transformer, PROBE, 20)
    exact = probe.ask(exact_velocity(transformer, probe.timesteps, probe.conditions.positive, probe.conditions))
    assert torch.equal(probe.ask(probe.velocity(ladder.levels()[NONE].passes)), exact)


def test_what_does_not_pay_is_not_offered(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(1, 1000))
    monkeypatch.setattr(ladder_module, "seconds_of", lambda run, device: float(next(times)))
    ladder = ladder_of(parts, backend=None)
    rungs = climbed(ladder)
    assert rungs["fused"].is_kept
    assert "does not pay" in rungs["fp8"].words
    assert ladder.levels()[NONE].passes is ladder._exact.passes


def test_two_compilations_serve_all_sizes_and_later_pictures_change_nothing(parts: Parts) -> None:
    transformer, _ = parts
    join_weights(transformer)
    counter = CompileCounterWithBackend("aot_eager")
    build = Build(
        torch.bfloat16,
        lambda *layer: Linear(*layer, torch.bfloat16, is_packed=False),
        table_dtype=torch.float32,
        attend=attention_of_torch(SDPBackend.FLASH_ATTENTION),
        is_in_place=True,
    )
    plain = FusedTransformer(transformer, build)

    def ask(fused: FusedTransformer, size: RenderSize, text_tokens: int) -> Tensor:
        probe = make_probe(transformer, size, text_tokens)
        plan = fused.plan(probe.timesteps, probe.conditions.positive, probe.conditions)
        return fused.velocity(plan, 1, probe.latents)

    # As when a model is loaded again, and beside another one: nothing is compiled twice.
    for _ in range(2):
        fused = FusedTransformer(transformer, build)
        first = compile_blocks(fused, counter, lambda fused=fused: ask(fused, PROBE, 20))
        assert torch.equal(first, ask(plain, PROBE, 20))
        assert counter.frame_count == 2
        with as_compiled():
            # The last has one token only, which no compiler leaves open: it runs as it is written.
            for size, text_tokens in (
                (RenderSize(0, 0, 6, 10), 17),
                (RenderSize(0, 0, 16, 16), 64),
                (RenderSize(0, 0, 2, 2), 9),
            ):
                assert torch.equal(ask(fused, size, text_tokens), ask(plain, size, text_tokens))
        assert counter.frame_count == 2
        # A worker loads in one thread and draws in another.
        with torch.compiler.set_stance("fail_on_recompile"), ThreadPoolExecutor(1) as other:
            assert torch.equal(other.submit(ask, fused, PROBE, 20).result(), first)


def graphed(recorder: Recorder, most: int) -> tuple[GraphedPass, list[int]]:
    ran: list[int] = []

    def run(numbers: Tensor, more: Tensor) -> Tensor:
        ran.append(len(numbers))
        return numbers * 2 + more

    return GraphedPass(run, recorder, most), ran


def test_a_graph_is_recorded_once_a_size_and_replayed_with_new_numbers() -> None:
    recorder = Recorder()
    graph, _ = graphed(recorder, 2)
    for turn in range(3):
        for tokens in (3, 5):
            numbers, more = torch.full([tokens], float(turn)), torch.arange(float(tokens))
            result = graph(numbers, more)
            assert torch.equal(result, numbers * 2 + more)
    # What a replay gave stays what it was.
    kept = graph(torch.ones(3), torch.zeros(3))
    graph(torch.zeros(3), torch.zeros(3))
    assert torch.equal(kept, torch.full([3], 2.0))
    assert recorder.recorded == 2


def test_the_graph_that_was_not_used_for_longest_makes_room() -> None:
    recorder = Recorder()
    graph, _ = graphed(recorder, 2)
    for tokens in (3, 5, 3, 7, 3):
        graph(torch.ones(tokens), torch.ones(tokens))
    assert recorder.recorded == 3
    graph(torch.ones(5), torch.ones(5))
    assert recorder.recorded == 4
    assert len(graph._recordings) == 2


def test_a_graph_with_other_bits_or_none_at_all_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    class Refusing(Recorder):
        def record(self, run: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
            raise RuntimeError("operation not permitted when stream is capturing\nhint")

    for recorder in (Recorder(spoils=True), Refusing()):
        graph, ran = graphed(recorder, 2)
        for turn in range(3):
            numbers = torch.full([4], turn + 1.0)
            assert torch.equal(graph(numbers, numbers), numbers * 3)
        assert not graph.has_recorded
        assert ran[-2:] == [4, 4]
    assert "it gives other bits" in caplog.text
    assert "not permitted when stream is capturing" in caplog.text


def test_rows_in_fp8_are_a_sixteenth_off_at_most() -> None:
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(64, 128, generator=random) * torch.logspace(-6, 6, 64)[:, None]
    rows[5] = 0
    numbers, scales = quantise_rows(rows.bfloat16())
    assert (numbers.dtype, scales.shape) == (FP8, (64, 1))
    plain = rows.bfloat16().float()
    off = (numbers.float() * scales - plain).abs()
    # Numbers near zero are a multiple of the smallest one.
    assert (off <= torch.maximum(plain.abs() / 16, scales * 2**-10) * 1.0001).all()


def test_a_layer_in_fp8_is_a_few_hundredths_off_and_rows_do_not_depend_on_each_other() -> None:
    random = torch.Generator().manual_seed(0)
    weight, bias, rows, more = (
        torch.randn(*shape, generator=random).bfloat16() for shape in ((96, 64), (96,), (40, 64), (40, 96))
    )
    layer, plain = Fp8Linear(weight, bias, plain_product), Linear(weight, bias, torch.bfloat16, is_packed=False)
    layer.check()
    assert 1e-2 < distance(layer(rows), plain(rows)) < 6e-2
    assert distance(layer.gelu(rows), plain.gelu(rows)) < 6e-2
    assert distance(layer.plus(rows, more), plain.plus(rows, more)) < 6e-2
    loud = rows.clone()
    loud[1:] *= 1000
    assert torch.equal(layer(loud)[0], layer(rows)[0])
    assert can_be_fp8(weight)
    assert not can_be_fp8(weight[:, :60])


def test_a_wrong_product_in_fp8_is_found() -> None:
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(32, 64, generator=random).bfloat16()
    # The device's own one, which the CPU has as well.
    Fp8Linear(weight, None, device_product).check()
    with pytest.raises(ValueError, match="products in fp8 with 64 columns are 5e-02 off here"):
        Fp8Linear(weight, None, lambda *numbers: plain_product(*numbers) * 1.05).check()


def test_where_the_devices_product_adds_no_bias_it_is_added_afterwards() -> None:
    random = torch.Generator().manual_seed(0)
    weight, bias, rows = (torch.randn(*shape, generator=random).bfloat16() for shape in ((32, 64), (32,), (5, 64)))

    def refusing(*numbers: Tensor | None) -> Tensor:
        if numbers[-1] is not None:
            raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")
        return plain_product(*numbers)

    assert product_that_adds(plain_product, weight, bias) is plain_product
    product = product_that_adds(refusing, weight, bias)
    for added in (bias, None):
        layer, expected = Fp8Linear(weight, added, product), Fp8Linear(weight, added, plain_product)
        layer.check()
        assert distance(layer(rows), expected(rows)) < 1e-2


def test_the_first_attention_that_none_is_clearly_faster_than_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong, broken = lambda query, key, value: value, lambda query, key, value: query.no_such_thing
    candidates = {"broken": broken, "wrong": wrong, "first": sdpa, "as fast": sdpa, "faster": sdpa, "slow": sdpa}
    times = iter((0.1, 1.0, 0.95, 0.5, 2.0))
    monkeypatch.setattr("flux_endpoint.engine.gpu.attention.seconds_of", lambda run, device: next(times))
    chosen = choose_attention(candidates, 2, 16, 32, CPU)
    assert chosen.name == "faster"
    assert chosen.tried.startswith(
        "broken does not run ('Tensor' object has no attribute 'no_such_thing'); wrong 100.00 ms"
    )
    assert choose_attention({}, 2, 16, 32, CPU).name == "torch"


def test_flash_attention_3_is_preferred_where_it_is_installed_and_a_compiler_takes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def flash_attn_func(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, None]:
        # (1, tokens, heads, head size), and the sums as older ones give them.
        return sdpa(*(part.transpose(1, 2) for part in (query, key, value))).transpose(1, 2), None

    assert next(iter(known_attentions())) == "cudnn"
    monkeypatch.setitem(sys.modules, "flash_attn_interface", SimpleNamespace(flash_attn_func=flash_attn_func))
    flash_3.cache_clear()
    name, attend = next(iter(known_attentions().items()))
    flash_3.cache_clear()
    assert name == "flash3"
    parts = torch.randn(3, 1, 2, 9, 16, generator=torch.Generator().manual_seed(0))
    expected = sdpa(*parts)
    assert torch.equal(attend(*parts), expected)
    assert torch.equal(torch.compile(attend, fullgraph=True, backend="aot_eager")(*parts), expected)
    torch._dynamo.reset()


def test_a_level_that_a_negative_prompt_cannot_act_at_gives_way_to_the_next_slower_one() -> None:
    made = {name: Level(name, lambda *_: None, lambda _: None, takes_negative=name is NONE) for name in (NONE, HIGH)}
    levels = Levels(made, {})
    assert [levels.level_for(asked).name for asked in Acceleration] == [NONE, NONE, HIGH]
    assert [levels.level_for(asked, NegativeMode.CFG).name for asked in Acceleration] == [NONE, NONE, NONE]
