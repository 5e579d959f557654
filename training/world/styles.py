"""Turn a finished picture into another medium: watercolour, oil, pencil sketch, pixel art, flat poster."""

import cv2
import numpy as np

from training.world.paint import Canvas, enlarge, mix, noise
from training.world.scenes import Scene

PIXELS = 40  # Blocks along the shorter side of pixel art.
PAPER = (250, 246, 236)


def apply_style(canvas: Canvas, scene: Scene) -> None:
    """Repaint the canvas in the scene's style, in place; "photo" stays as it is."""
    rng = np.random.default_rng([scene.seed, 5])
    if scene.style == "watercolour":
        _watercolour(canvas, rng)
    elif scene.style == "oil":
        _oil(canvas, rng)
    elif scene.style == "sketch":
        _sketch(canvas, rng)
    elif scene.style == "pixel":
        _pixel(canvas)
    elif scene.style == "poster":
        _poster(canvas)


def _blurred(image: np.ndarray, radius_px: float) -> np.ndarray:
    """Gaussian blur; large radii on a coarse copy, which looks the same."""
    if radius_px < 3:
        return cv2.GaussianBlur(image, (0, 0), max(radius_px, 0.4))
    small = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    return cv2.resize(
        cv2.GaussianBlur(small, (0, 0), radius_px / 4), image.shape[1::-1], interpolation=cv2.INTER_LINEAR
    )


def _displaced(
    canvas: Canvas, rng: np.random.Generator, cell: float, strength: float, stretch: float = 1.0
) -> np.ndarray:
    """The picture with every pixel fetched from a random place nearby; `strength` is a share of the height."""
    rows, columns = np.mgrid[0 : canvas.height, 0 : canvas.width].astype(np.float32)
    shifts = [
        enlarge(noise(rng, canvas, cell, 2, stretch, 2) - 0.5, canvas) * strength * canvas.height for _ in range(2)
    ]
    return cv2.remap(
        canvas.pixels, columns + shifts[0], rows + shifts[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )


def _watercolour(canvas: Canvas, rng: np.random.Generator) -> None:
    wet = _blurred(_displaced(canvas, rng, 0.06, 0.030), 0.005 * canvas.short)
    # Pigment gathers where a wash ends, and is uneven inside it; the paper shines through and stays free at the edge.
    edges = np.abs(wet - _blurred(wet, 0.02 * canvas.short)).mean(axis=2, keepdims=True)
    wash = enlarge(noise(rng, canvas, 0.22, 4, coarse=4), canvas)[..., None]
    picture = mix(wet, PAPER, 0.22 + 0.42 * (wash - 0.35)) - 0.9 * edges
    x = np.minimum(np.arange(canvas.width), np.arange(canvas.width)[::-1])[None, :] / canvas.short
    y = np.minimum(np.arange(canvas.height), np.arange(canvas.height)[::-1])[:, None] / canvas.short
    ragged = enlarge(noise(rng, canvas, 0.12, 3, coarse=4), canvas)
    inside = np.clip((np.minimum(x, y) - 0.015 - 0.05 * ragged) * 40, 0, 1)[..., None]
    canvas.pixels[:] = mix(np.asarray(PAPER, np.float32), picture, inside)


def _oil(canvas: Canvas, rng: np.random.Generator) -> None:
    strokes = _displaced(canvas, rng, 0.045, 0.024, 2.2)
    size = max(round(0.010 * canvas.short) | 1, 3)
    strokes = cv2.medianBlur(np.clip(strokes, 0, 255).astype(np.uint8), min(size, 9)).astype(np.float32)
    mean = strokes.mean(axis=2, keepdims=True)
    strokes = mean + (strokes - mean) * 1.2
    # Thick paint catches light on one side of each stroke.
    relief = enlarge(noise(rng, canvas, 0.030, 2, 3.0, 2), canvas)
    relief = relief - np.roll(relief, max(round(0.006 * canvas.short), 1), axis=0)
    canvas.pixels[:] = np.clip(strokes * (1 + 0.30 * relief[..., None]), 0, 255)


def _sketch(canvas: Canvas, rng: np.random.Generator) -> None:
    grey = _blurred(canvas.pixels @ np.array((0.3, 0.59, 0.11), np.float32), 0.004 * canvas.short)
    # A line wherever brightness changes within a pencil's width; soft strokes for what is dark.
    width = max(round(0.008 * canvas.short), 1)
    change = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((width, width), np.uint8))
    lines = np.clip((change - 7) / 34, 0, 1)
    hatch = enlarge(noise(rng, canvas, 0.09, 2, 0.25, 2), canvas)
    dark = np.clip(1 - _blurred(grey, 0.012 * canvas.short) / 235, 0, 1) ** 1.3
    ink = np.clip(0.85 * lines + dark * (0.62 + 0.35 * (hatch - 0.5)), 0, 0.9)[..., None]
    canvas.pixels[:] = mix(PAPER, (46, 46, 52), ink)


def _pixel(canvas: Canvas) -> None:
    block = canvas.short / PIXELS
    size = max(round(canvas.width / block), 1), max(round(canvas.height / block), 1)
    small = cv2.resize(canvas.pixels, size, interpolation=cv2.INTER_AREA)
    small = np.round(np.clip(small, 0, 255) / 28) * 28
    canvas.pixels[:] = cv2.resize(small, (canvas.width, canvas.height), interpolation=cv2.INTER_NEAREST)


def _poster(canvas: Canvas) -> None:
    soft = _blurred(canvas.pixels, 0.006 * canvas.short)
    mean = soft.mean(axis=2, keepdims=True)
    levels = np.round(np.clip(mean + (soft - mean) * 1.35, 0, 255) / 36) * 36
    canvas.pixels[:] = levels * 0.95 + 8
