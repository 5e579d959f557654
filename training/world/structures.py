"""Things people build, drawn with a `Pen`: buildings, boats, vehicles."""

import numpy as np

from training.world.paint import Colour
from training.world.pen import Pen

ROOF, WOOD, STONE, DARK, STEEL = (150, 64, 48), (124, 82, 50), (150, 150, 152), (62, 48, 42), (112, 120, 130)
GLASS = (160, 200, 226)


def house(pen: Pen, colour: Colour) -> None:
    """A cottage with a gable roof, a chimney, a door and two windows."""
    pen.shadow(0.62)
    pen.box(0.22, 0.62, 0.34, 1.0, (126, 84, 72))
    pen.box(-0.5, 0, 0.5, 0.55, colour)
    pen.area([(-0.62, 0.52), (0.62, 0.52), (0.38, 0.92), (-0.38, 0.92)], ROOF, 0, 0.3)
    pen.area([(-0.62, 0.52), (0.62, 0.52), (0.60, 0.57), (-0.60, 0.57)], (104, 44, 36))
    pen.box(-0.09, 0, 0.11, 0.36, DARK)
    for left in (-0.40, 0.20):
        pen.box(left - 0.02, 0.18, left + 0.22, 0.42, (240, 236, 226))
        pen.window(left, 0.20, left + 0.20, 0.40)


def castle(pen: Pen, colour: Colour) -> None:
    """A wall with a gate between two towers, and a keep behind, under pointed roofs."""
    pen.shadow(0.7)
    colour = np.asarray(colour) * 0.86 + 20
    for x, half, top in ((0.0, 0.17, 0.74), (-0.48, 0.15, 0.56), (0.48, 0.15, 0.56)):
        pen.box(x - half, 0, x + half, top, colour, 0.3)
        pen.area([(x - 1.25 * half, top), (x + 1.25 * half, top), (x, top + 2.0 * half)], (74, 84, 140), 0, 0.3)
        pen.window(x - 0.04, top - 0.18, x + 0.04, top - 0.06)
    pen.box(-0.40, 0, 0.40, 0.32, colour * 0.93, 0.2)
    for index in range(5):
        left = -0.38 + 0.17 * index
        pen.box(left, 0.32, left + 0.09, 0.39, colour * 0.93)
    pen.area([(-0.10, 0), (0.10, 0), (0.10, 0.15), (0.05, 0.22), (-0.05, 0.22), (-0.10, 0.15)], DARK)


def church(pen: Pen, colour: Colour) -> None:
    """A nave and a tower with a tall spire."""
    pen.shadow(0.6)
    pen.box(-0.15, 0, 0.55, 0.34, colour)
    pen.area([(-0.2, 0.33), (0.6, 0.33), (0.5, 0.54), (-0.2, 0.54)], (112, 76, 70), 0, 0.3)
    pen.box(-0.45, 0, -0.12, 0.60, colour, 0.25)
    pen.area([(-0.49, 0.60), (-0.08, 0.60), (-0.285, 1.0)], (84, 92, 116), 0, 0.35)
    pen.box(-0.35, 0, -0.22, 0.2, DARK)
    pen.window(-0.33, 0.40, -0.24, 0.52)
    for left in (0.0, 0.18, 0.36):
        pen.window(left, 0.10, left + 0.09, 0.26)


def lighthouse(pen: Pen, colour: Colour) -> None:
    """A striped tower on a rock, with a lamp that shines in the dark."""
    pen.area([(-0.42, -0.04), (0.42, -0.04), (0.34, 0.08), (0.16, 0.16), (-0.18, 0.15), (-0.34, 0.07)], (96, 92, 92), 2)
    other = (246, 246, 244) if tuple(colour) != (246, 246, 244) else (206, 52, 44)
    for index in range(5):
        low, high = 0.12 + 0.13 * index, 0.12 + 0.13 * (index + 1)
        a, b = 0.155 - 0.075 * (low - 0.12) / 0.65, 0.155 - 0.075 * (high - 0.12) / 0.65
        pen.area([(-a, low), (a, low), (b, high), (-b, high)], colour if index % 2 == 0 else other, 0, 0.3)
    pen.box(-0.12, 0.77, 0.12, 0.80, DARK)
    if pen.scene.time in ("night", "storm", "sunset", "fog"):
        for half, strength in ((0.16, 0.14), (0.10, 0.2)):
            beam = Pen(pen.canvas, pen.scene, pen.x, pen.y, pen.unit, pen.mirrored, pen.sunk, strength)
            beam.glow([(0, 0.86), (1.5, 0.86 + 1.6 * half), (1.5, 0.86 - 1.2 * half)], (255, 240, 180))
    pen.glow([(-0.07, 0.80), (0.07, 0.80), (0.07, 0.91), (-0.07, 0.91)], (255, 236, 150))
    pen.area([(-0.10, 0.91), (0.10, 0.91), (0, 1.0)], (150, 40, 36))


def bridge(pen: Pen, colour: Colour) -> None:
    """An arched stone bridge across the whole width; one unit is its height."""
    half = 0.5 * pen.canvas.width / pen.unit + 0.2
    pen.area([(-half, 0.72), (half, 0.72), (half, 0.92), (0, 1.06), (-half, 0.92)], colour, 0, 0.1)
    pen.area(
        [(-half, 0.90), (0, 1.04), (half, 0.90), (half, 0.97), (0, 1.11), (-half, 0.97)], np.asarray(colour) * 0.78
    )
    span = 1.5
    count = int(half / span) + 2
    for index in range(-count, count):
        x = (index + 0.5) * span
        for side in (-1, 1):
            turn = np.linspace(0, np.pi / 2, 12)
            arch = np.stack([x + side * 0.62 * np.cos(turn), -0.1 + 0.78 * np.sin(turn)], axis=1)
            corner = [(x, 0.74), (x + side * span / 2, 0.74), (x + side * span / 2, -0.14)]
            pen.area(np.concatenate([arch, np.array(corner)]), np.asarray(colour) * 0.92, 0, 0.05)


def boat(pen: Pen, colour: Colour) -> None:
    """A sailing boat: hull, mast and two sails."""
    pen.area([(-0.46, 0.20), (0.50, 0.20), (0.34, 0.0), (-0.32, 0.0)], WOOD, 0, 0.3)
    pen.area([(-0.46, 0.20), (0.50, 0.20), (0.48, 0.165), (-0.44, 0.165)], (236, 230, 214))
    pen.box(-0.015, 0.2, 0.015, 1.0, DARK)
    pen.area([(0.03, 0.25), (0.03, 0.98), (0.18, 0.62), (0.43, 0.27)], colour, 0, 0.25)
    pen.area([(-0.03, 0.25), (-0.03, 0.90), (-0.36, 0.28)], np.asarray(colour) * 0.86, 0, 0.25)


def ship(pen: Pen, colour: Colour) -> None:
    """A steamer with a superstructure and two funnels."""
    pen.area([(-0.95, 0.36), (1.05, 0.40), (0.84, 0.0), (-0.80, 0.0)], colour, 0, 0.2)
    pen.area([(-0.83, 0.07), (0.88, 0.07), (0.84, 0.0), (-0.80, 0.0)], (150, 44, 40))
    pen.box(-0.6, 0.36, 0.55, 0.54, (240, 240, 238))
    pen.box(-0.4, 0.54, 0.4, 0.68, (228, 228, 228))
    for left in (-0.26, 0.08):
        pen.box(left, 0.66, left + 0.17, 0.94, (220, 120, 40), 0.35)
        pen.box(left, 0.88, left + 0.17, 1.0, (40, 40, 44), 0.35)
    for index in range(6):
        pen.window(-0.52 + 0.18 * index, 0.41, -0.42 + 0.18 * index, 0.49)


def balloon(pen: Pen, colour: Colour) -> None:
    """A hot-air balloon with a striped envelope."""
    turn = np.linspace(0, np.pi, 24)
    for share, shade in ((1.0, 1.0), (0.68, 0.62), (0.32, 1.0)):
        top = np.stack([0.36 * share * np.cos(turn), 0.64 + 0.36 * np.sin(turn)], axis=1)
        foot = [(-0.30 * share, 0.44), (-0.08 * share, 0.24), (0.08 * share, 0.24), (0.30 * share, 0.44)]
        tone = np.asarray(colour) if shade == 1.0 else np.asarray(colour) * 0.45 + 140
        pen.area(np.concatenate([top, np.array(foot)]), np.minimum(tone, 255), 1, 0.28)
    pen.area([(-0.075, 0.24), (-0.06, 0.12), (-0.05, 0.12), (-0.06, 0.24)], DARK)
    pen.area([(0.075, 0.24), (0.06, 0.12), (0.05, 0.12), (0.06, 0.24)], DARK)
    pen.area([(-0.085, 0.13), (0.085, 0.13), (0.065, 0.0), (-0.065, 0.0)], WOOD, 0, 0.3)


def aeroplane(pen: Pen, colour: Colour) -> None:
    """An airliner from the side; one unit is its height, about a third of its length."""
    pen.area([(-1.1, 0.45), (-1.32, 0.98), (-1.08, 0.98), (-0.72, 0.5)], np.asarray(colour) * 0.85, 0, 0.2)
    body = [
        (-1.35, 0.50),
        (-0.6, 0.60),
        (0.8, 0.60),
        (1.2, 0.50),
        (1.38, 0.36),
        (1.15, 0.24),
        (0.6, 0.20),
        (-0.6, 0.24),
    ]
    pen.area(body, colour, 2, 0.3)
    pen.area([(0.25, 0.36), (-0.15, 0.36), (-0.72, 0.0), (-0.50, 0.0)], STEEL, 0, 0.2)
    pen.area([(-0.95, 0.46), (-1.12, 0.46), (-1.42, 0.36), (-1.28, 0.36)], STEEL)
    for index in range(8):
        pen.window(-0.55 + 0.19 * index, 0.43, -0.46 + 0.19 * index, 0.51)
    pen.area([(1.02, 0.50), (1.16, 0.47), (1.24, 0.40), (1.04, 0.42)], (70, 90, 110))


def car(pen: Pen, colour: Colour) -> None:
    """A car from the side."""
    pen.shadow(1.25)
    cabin = [(-0.62, 0.50), (-0.40, 0.94), (0.36, 0.94), (0.70, 0.50)]
    pen.area(cabin, np.asarray(colour) * 0.92, 1, 0.2)
    body = [(-1.15, 0.18), (-1.15, 0.50), (-0.95, 0.58), (0.72, 0.58), (1.12, 0.48), (1.18, 0.18)]
    pen.area(body, colour, 2, 0.25)
    pen.area([(-0.47, 0.54), (-0.33, 0.84), (-0.04, 0.84), (-0.04, 0.54)], GLASS)
    pen.area([(0.04, 0.54), (0.04, 0.84), (0.30, 0.84), (0.52, 0.54)], GLASS)
    for x in (-0.68, 0.68):
        pen.oval(x, 0.2, 0.235, 0.235, (30, 30, 34))
        pen.oval(x, 0.2, 0.11, 0.11, (190, 192, 196))
    pen.glow([(1.06, 0.36), (1.16, 0.36), (1.16, 0.44), (1.06, 0.44)], (255, 244, 190))
