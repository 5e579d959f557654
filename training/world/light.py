"""Colours of the hour: what the sky, the sun, the haze and everything lit by them look like at each time of day."""

from dataclasses import dataclass

import numpy as np

from training.world.paint import Colour
from training.world.scenes import Scene


@dataclass(frozen=True, slots=True)
class Hour:
    """Colours in 0..255, except `ambient`, which multiplies whatever has a colour of its own."""

    sky: tuple[Colour, ...]  # From the zenith to the horizon.
    ambient: Colour
    haze: Colour  # What distance fades into.
    glow: Colour
    disc: Colour
    cloud: Colour
    cloud_shade: Colour
    water: tuple[Colour, Colour]  # Far and near.
    mist: float  # How much of a far ridge is haze, 0..1.


HOURS = {
    "day": Hour(
        sky=((34, 98, 196), (92, 160, 234), (202, 228, 248)), ambient=(1.0, 1.0, 1.0), haze=(182, 210, 236),
        glow=(255, 250, 225), disc=(255, 250, 214), cloud=(255, 255, 255), cloud_shade=(170, 190, 216),
        water=((112, 176, 226), (22, 84, 160)), mist=0.62,
    ),
    "sunset": Hour(
        sky=((62, 46, 106), (178, 72, 96), (246, 138, 70), (255, 206, 116)), ambient=(0.84, 0.54, 0.46),
        haze=(244, 146, 96), glow=(255, 214, 130), disc=(255, 246, 200), cloud=(255, 176, 118),
        cloud_shade=(150, 70, 96), water=((250, 170, 98), (92, 50, 96)), mist=0.66,
    ),
    "dawn": Hour(
        sky=((128, 152, 210), (206, 182, 214), (250, 208, 200), (255, 236, 208)), ambient=(0.95, 0.86, 0.90),
        haze=(234, 204, 214), glow=(255, 246, 220), disc=(255, 252, 236), cloud=(255, 236, 232),
        cloud_shade=(196, 166, 196), water=((238, 208, 214), (124, 144, 188)), mist=0.7,
    ),
    "night": Hour(
        sky=((5, 8, 28), (12, 22, 60), (38, 56, 108)), ambient=(0.30, 0.40, 0.62), haze=(42, 58, 106),
        glow=(170, 190, 232), disc=(246, 246, 234), cloud=(64, 78, 120), cloud_shade=(20, 28, 60),
        water=((38, 58, 110), (7, 13, 40)), mist=0.6,
    ),
    "storm": Hour(
        sky=((40, 45, 58), (70, 78, 90), (128, 136, 138)), ambient=(0.50, 0.55, 0.58), haze=(112, 122, 128),
        glow=(210, 220, 226), disc=(230, 234, 236), cloud=(112, 118, 128), cloud_shade=(36, 40, 52),
        water=((112, 124, 130), (32, 44, 58)), mist=0.6,
    ),
    "fog": Hour(
        sky=((184, 193, 200), (202, 208, 213), (222, 225, 227)), ambient=(0.80, 0.83, 0.85), haze=(212, 217, 221),
        glow=(240, 242, 244), disc=(246, 247, 248), cloud=(222, 226, 229), cloud_shade=(190, 196, 202),
        water=((206, 212, 217), (140, 154, 164)), mist=0.88,
    ),
}  # fmt: skip

# What grows, in every season: meadow far, meadow near, tree crown, needles.
GREENS = {
    "summer": ((136, 190, 92), (58, 138, 44), (44, 112, 46), (34, 84, 54)),
    "spring": ((168, 214, 104), (98, 178, 62), (244, 176, 200), (52, 112, 62)),
    "autumn": ((206, 168, 88), (164, 104, 40), (220, 110, 30), (62, 84, 52)),
    "winter": ((222, 232, 244), (240, 245, 251), (206, 220, 234), (96, 126, 132)),
}


def hour_of(scene: Scene) -> Hour:
    """The colours of the scene's time of day."""
    return HOURS[scene.time]


def lit(scene: Scene, colour: Colour) -> np.ndarray:
    """A ground colour as seen at the scene's time of day: (3,) float32, 0..255."""
    return np.asarray(colour, np.float32) * np.asarray(HOURS[scene.time].ambient, np.float32)


def lit_thing(scene: Scene, colour: Colour) -> np.ndarray:
    """As `lit`, but only half as tinted and brighter at night: things must keep the colour they are named by."""
    ambient = np.asarray(HOURS[scene.time].ambient, np.float32)
    ambient = 0.45 * ambient + 0.55 * ambient.max()
    return np.asarray(colour, np.float32) * np.clip(ambient * (1.25 if scene.time == "night" else 1.08), 0, 1)


def lit_snow(scene: Scene, colour: Colour) -> np.ndarray:
    """Snow mirrors the sky: brighter than other grounds, and bluer where the light is warm."""
    ambient = np.asarray(HOURS[scene.time].ambient, np.float32)
    return np.asarray(colour, np.float32) * np.clip(0.62 * ambient + 0.38 * ambient[::-1] + 0.04, 0, 1)
