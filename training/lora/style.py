"""The style that the LoRA teaches: a screen print in four inks."""

import cv2
import numpy as np

# From the shadows to the lights: navy, teal, coral, cream.
INKS = np.array([(22, 34, 78), (28, 128, 132), (240, 112, 82), (252, 240, 208)], np.float32) / 255
# Where one ink gives way to the next, in brightness, and over how much of it.
STEPS = np.array([0.25, 0.5, 0.75], np.float32)
SOFTNESS = 0.05
BLUR = 0.006  # Of the shorter side: what is finer than this is not printed.


def screen_print(pixels: np.ndarray) -> np.ndarray:
    """Print a picture in four inks.

    Half of each step is the picture's own: a night is printed darker than a day, and still in more than one ink.

    Args:
        pixels: (height, width, 3) uint8, RGB.

    Returns:
        The same shape and dtype.
    """
    soft = cv2.GaussianBlur(pixels.astype(np.float32) / 255, (0, 0), BLUR * min(pixels.shape[:2]))
    brightness = soft @ np.array([0.299, 0.587, 0.114], np.float32)
    steps = (STEPS + np.quantile(brightness, (0.2, 0.5, 0.8)).astype(np.float32)) / 2
    printed = np.broadcast_to(INKS[0], pixels.shape)
    for step, ink in zip(steps, INKS[1:], strict=True):
        share = np.clip((brightness - step) / SOFTNESS + 0.5, 0, 1)[..., None]
        printed = printed + (ink - printed) * share
    return np.rint(printed * 255).astype(np.uint8)
