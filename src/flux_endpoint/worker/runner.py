"""The one thread that steps the engine."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from flux_endpoint.core.errors import GenerationStopped
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.engine.protocol import EncodedImage, Engine, StepDone


@dataclass(frozen=True, slots=True)
class StopFlag:
    """Tells a running generation to end; may be set from any thread."""

    _event: threading.Event = field(default_factory=threading.Event)

    def set(self) -> None:
        """Ask for the end; the generation obeys between two steps."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether the end was asked for."""
        return self._event.is_set()


class EngineThread:
    """Runs generations one after the other in a thread of their own, so that the network never waits for a step."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    async def generate(
        self, engine: Engine, request: GenerationRequest, stop: StopFlag, on_step: Callable[[StepDone], None]
    ) -> EncodedImage:
        """Make one picture; `on_step` is called in the engine's thread.

        Raises:
            GenerationStopped: `stop` was set before the end.
            Exception: whatever the engine raised.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, generate_until_stopped, engine, request, stop, on_step
        )

    async def call(self, function: Callable[[], object]) -> None:
        """Call something in the engine's thread, between two steps."""
        await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def close(self, timeout_s: float) -> bool:
        """Take no more work. False when the last step still runs after `timeout_s` seconds."""
        closer = threading.Thread(target=self._executor.shutdown, daemon=True)
        closer.start()
        closer.join(timeout_s)
        return not closer.is_alive()


def generate_until_stopped(
    engine: Engine, request: GenerationRequest, stop: StopFlag, on_step: Callable[[StepDone], None]
) -> EncodedImage:
    """Step an engine to the end of one picture, looking at the flag before every step.

    Raises:
        GenerationStopped: the flag was set; the engine has dropped the picture.
    """
    steps = engine.generate(request)
    try:
        while not stop.is_set:
            try:
                on_step(next(steps))
            except StopIteration as end:
                image: EncodedImage = end.value
                return image
    finally:
        steps.close()
    raise GenerationStopped("stopped between two steps")
