"""Animals, people, plants and fruit, drawn with a `Pen`."""

import numpy as np

from training.world.light import GREENS
from training.world.paint import Colour
from training.world.pen import Pen

INK, SKIN, TRUNK = (34, 30, 32), (236, 190, 156), (104, 74, 50)


def _tone(colour: Colour, factor: float) -> np.ndarray:
    return np.clip(np.asarray(colour, np.float32) * factor, 0, 255)


def bird(pen: Pen, colour: Colour) -> None:
    """A bird in flight, wings raised; one unit is its height."""
    pen.area([(0.05, 0.30), (0.45, 0.46), (0.85, 0.98), (0.30, 0.86), (-0.15, 0.42)], _tone(colour, 0.78), 2)
    pen.area([(-0.95, 0.20), (-0.55, 0.28), (-0.20, 0.18), (-0.42, 0.36), (-0.92, 0.40)], _tone(colour, 0.85), 1)
    pen.area([(-0.6, 0.26), (-0.1, 0.06), (0.4, 0.12), (0.72, 0.34), (0.5, 0.46), (0.0, 0.42)], colour, 2, 0.3)
    pen.oval(0.62, 0.40, 0.17, 0.15, colour)
    pen.area([(0.76, 0.44), (0.98, 0.37), (0.76, 0.34)], (240, 160, 40))
    pen.oval(0.67, 0.43, 0.03, 0.03, INK)
    pen.area([(0.0, 0.34), (0.30, 0.36), (0.10, 1.0), (-0.42, 1.06), (-0.22, 0.62)], _tone(colour, 0.92), 2, 0.3)


def cat(pen: Pen, colour: Colour) -> None:
    """A sitting cat that looks at the viewer."""
    pen.shadow(0.42)
    pen.limb([(0.20, 0.06), (0.44, 0.08), (0.52, 0.26), (0.42, 0.42)], (0.11, 0.10, 0.09, 0.06), _tone(colour, 0.85))
    pen.area(
        [
            (-0.26, 0.0),
            (0.28, 0.0),
            (0.34, 0.16),
            (0.22, 0.46),
            (0.12, 0.62),
            (-0.12, 0.62),
            (-0.24, 0.40),
            (-0.30, 0.14),
        ],
        colour,
        2,
        0.3,
    )
    for x in (-0.10, 0.10):
        pen.limb([(x, 0.34), (x, 0.16), (x, 0.03)], (0.11, 0.10, 0.11), _tone(colour, 1.1))
    for side in (-1, 1):
        pen.area([(side * 0.24, 0.76), (side * 0.23, 1.02), (side * 0.06, 0.90)], _tone(colour, 0.92))
        pen.area([(side * 0.205, 0.82), (side * 0.20, 0.96), (side * 0.11, 0.89)], (226, 150, 150))
    pen.oval(0, 0.74, 0.26, 0.21, colour)
    for x in (-0.10, 0.10):
        pen.oval(x, 0.77, 0.048, 0.055, (150, 200, 90))
        pen.oval(x, 0.77, 0.018, 0.048, INK)
    pen.area([(-0.035, 0.69), (0.035, 0.69), (0, 0.655)], (220, 120, 124))


def dog(pen: Pen, colour: Colour) -> None:
    """A standing dog from the side."""
    pen.shadow(0.55)
    dark = _tone(colour, 0.72)
    for x in (-0.34, 0.30):
        pen.limb([(x, 0.40), (x + 0.02, 0.2), (x, 0.02)], (0.16, 0.11, 0.12), dark)
    pen.limb([(-0.44, 0.56), (-0.60, 0.70), (-0.62, 0.90)], (0.11, 0.09, 0.05), colour)
    pen.area(
        [(-0.52, 0.46), (-0.44, 0.66), (0.0, 0.64), (0.40, 0.70), (0.46, 0.46), (0.30, 0.32), (-0.34, 0.34)],
        colour,
        2,
        0.3,
    )
    for x in (-0.44, 0.38):
        pen.limb([(x, 0.46), (x + 0.02, 0.22), (x + 0.01, 0.02)], (0.18, 0.12, 0.13), colour)
    pen.limb([(0.30, 0.56), (0.44, 0.72), (0.52, 0.82)], (0.28, 0.26, 0.24), colour)
    pen.oval(0.55, 0.86, 0.19, 0.16, colour)
    pen.area([(0.62, 0.90), (0.88, 0.84), (0.90, 0.75), (0.62, 0.74)], _tone(colour, 0.95), 1)
    pen.oval(0.88, 0.82, 0.05, 0.04, INK)
    pen.area([(0.42, 0.98), (0.54, 0.96), (0.50, 0.70), (0.38, 0.66), (0.36, 0.84)], dark, 2)
    pen.oval(0.63, 0.90, 0.03, 0.03, INK)


def horse(pen: Pen, colour: Colour) -> None:
    """A standing horse from the side."""
    pen.shadow(0.5)
    dark, mane = _tone(colour, 0.70), _tone(colour, 0.42)
    for x in (-0.30, 0.26):
        pen.limb([(x, 0.44), (x + 0.02, 0.22), (x - 0.01, 0.01)], (0.12, 0.06, 0.07), dark)
    pen.limb([(-0.42, 0.62), (-0.55, 0.50), (-0.56, 0.26)], (0.07, 0.11, 0.05), mane)
    pen.area(
        [
            (-0.46, 0.52),
            (-0.40, 0.68),
            (-0.1, 0.64),
            (0.24, 0.68),
            (0.40, 0.58),
            (0.30, 0.40),
            (-0.1, 0.37),
            (-0.36, 0.40),
        ],
        colour,
        2,
        0.3,
    )
    pen.area([(0.18, 0.62), (0.34, 0.92), (0.46, 0.96), (0.50, 0.86), (0.40, 0.50)], colour, 1, 0.25)
    pen.area([(0.36, 0.94), (0.48, 0.98), (0.70, 0.78), (0.70, 0.70), (0.60, 0.68), (0.44, 0.80)], colour, 2)
    pen.area([(0.40, 0.92), (0.43, 1.04), (0.49, 0.94)], dark)
    pen.area([(0.16, 0.66), (0.22, 0.84), (0.36, 1.00), (0.40, 0.94), (0.30, 0.80), (0.24, 0.64)], mane, 1)
    for x in (-0.38, 0.34):
        pen.limb([(x, 0.48), (x + 0.02, 0.24), (x, 0.01)], (0.14, 0.07, 0.08), colour)
    pen.oval(0.51, 0.88, 0.018, 0.018, INK)


def person(pen: Pen, colour: Colour) -> None:
    """A person who stands and looks at the viewer; the colour is that of the clothes."""
    pen.shadow(0.26)
    for side in (-1, 1):
        pen.limb([(side * 0.06, 0.44), (side * 0.075, 0.22), (side * 0.08, 0.02)], (0.115, 0.09, 0.075), (58, 66, 96))
        pen.oval(side * 0.095, 0.015, 0.06, 0.024, INK)
        pen.limb(
            [(side * 0.125, 0.75), (side * 0.175, 0.58), (side * 0.17, 0.44)], (0.07, 0.065, 0.05), _tone(colour, 0.88)
        )
        pen.oval(side * 0.17, 0.42, 0.028, 0.036, SKIN)
    pen.area(
        [
            (-0.115, 0.40),
            (0.115, 0.40),
            (0.12, 0.60),
            (0.15, 0.76),
            (0.06, 0.80),
            (-0.06, 0.80),
            (-0.15, 0.76),
            (-0.12, 0.60),
        ],
        colour,
        1,
        0.25,
    )
    pen.box(-0.035, 0.77, 0.035, 0.84, _tone(SKIN, 0.9))
    pen.oval(0, 0.905, 0.088, 0.10, (70, 46, 36))
    pen.oval(0, 0.89, 0.076, 0.084, SKIN)
    pen.area([(-0.085, 0.92), (0.085, 0.92), (0.06, 0.99), (0, 1.01), (-0.06, 0.99)], (70, 46, 36), 1)


def tree(pen: Pen, colour: Colour) -> None:
    """A broad tree; its crown follows the season."""
    del colour
    pen.shadow(0.40)
    crown = GREENS["winter" if pen.scene.ground == "snow" else pen.scene.season][2]
    pen.limb([(0, 0.0), (0.01, 0.2), (0, 0.48)], (0.13, 0.085, 0.07), TRUNK)
    pen.limb([(0, 0.30), (0.12, 0.44), (0.20, 0.52)], (0.05, 0.045, 0.03), TRUNK)
    for x, y, r, tone in (
        (-0.20, 0.54, 0.19, 0.80), (0.20, 0.55, 0.19, 0.82), (0.0, 0.60, 0.26, 0.92), (-0.13, 0.73, 0.19, 1.0),
        (0.13, 0.74, 0.19, 1.04), (0.0, 0.84, 0.16, 1.12),
    ):  # fmt: skip
        pen.oval(x, y, r, 0.9 * r, _tone(crown, tone), 0.3)


def pine(pen: Pen, colour: Colour) -> None:
    """A fir with four tiers of branches, snowy in winter."""
    del colour
    pen.shadow(0.30)
    wintry = pen.scene.season == "winter" or pen.scene.ground == "snow"
    needles = GREENS["winter" if wintry else "summer"][3]
    pen.box(-0.04, 0, 0.04, 0.2, TRUNK)
    for index, (low, half) in enumerate(((0.12, 0.33), (0.33, 0.27), (0.54, 0.20), (0.72, 0.13))):
        outline = [
            (-half, low),
            (-0.45 * half, low - 0.035),
            (0, low),
            (0.45 * half, low - 0.035),
            (half, low),
            (0, low + 0.34),
        ]
        pen.area(outline, _tone(needles, 0.84 + 0.1 * index), 0, 0.35)
        if wintry:
            pen.area(
                [(-0.62 * half, low + 0.12), (0.3 * half, low + 0.15), (0.5 * half, low + 0.12), (0, low + 0.33)],
                (238, 244, 252),
            )


def palm(pen: Pen, colour: Colour) -> None:
    """A leaning palm."""
    del colour
    pen.shadow(0.30)
    pen.limb([(-0.12, 0.0), (-0.08, 0.3), (0.0, 0.55), (0.08, 0.76)], (0.085, 0.065, 0.055, 0.05), (150, 110, 70))
    for angle, length in (
        (-20, 0.44),
        (20, 0.42),
        (60, 0.30),
        (110, 0.32),
        (155, 0.44),
        (195, 0.42),
        (-50, 0.30),
        (228, 0.30),
    ):
        a = np.deg2rad(angle)
        tip = (0.08 + length * np.cos(a), 0.76 + length * np.sin(a) * 0.55 - 0.10)
        bow = (0.08 + 0.55 * length * np.cos(a), 0.82 + 0.55 * length * np.sin(a) * 0.7)
        pen.limb([(0.08, 0.76), bow, tip], (0.05, 0.12, 0.015), (52, 130, 60) if angle % 40 else (70, 154, 70), 2)
    for x in (0.05, 0.11):
        pen.oval(x, 0.74, 0.035, 0.035, (110, 74, 44))


def flower(pen: Pen, colour: Colour) -> None:
    """A single large blossom on a stem with two leaves."""
    stem = (62, 140, 60)
    pen.limb([(0, 0), (0.02, 0.3), (0, 0.62)], (0.05, 0.04, 0.035), stem)
    for side in (-1, 1):
        pen.area([(0, 0.12), (side * 0.24, 0.22), (side * 0.34, 0.42), (side * 0.12, 0.34)], stem, 2, 0.3)
    for index in range(8):
        a = index * np.pi / 4
        middle = (0.19 * np.cos(a), 0.72 + 0.19 * np.sin(a))
        turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        petal = np.stack([0.13 * np.cos(turn), 0.075 * np.sin(turn)], axis=1)
        spin = np.array([(np.cos(a), np.sin(a)), (-np.sin(a), np.cos(a))])
        pen.area(petal @ spin + middle, _tone(colour, 1.0 if index % 2 else 0.88), 0, 0.2)
    pen.oval(0, 0.72, 0.11, 0.11, (240, 190, 50) if tuple(colour) != (246, 208, 46) else (120, 74, 40))


def apple(pen: Pen, colour: Colour) -> None:
    """An apple with a stalk and a leaf."""
    pen.shadow(0.42)
    outline = [
        (0, 0.02),
        (0.26, 0.0),
        (0.46, 0.26),
        (0.48, 0.58),
        (0.28, 0.82),
        (0, 0.74),
        (-0.28, 0.82),
        (-0.48, 0.58),
        (-0.46, 0.26),
        (-0.26, 0.0),
    ]
    pen.area(outline, colour, 3, 0.38)
    pen.oval(-0.2 if pen.scene.light_x < 0.5 else 0.2, 0.58, 0.08, 0.11, _tone(np.asarray(colour) * 0.4 + 150, 1.0))
    pen.limb([(0, 0.70), (0.02, 0.84), (0.07, 0.97)], (0.04, 0.04, 0.05), TRUNK)
    pen.area([(0.05, 0.84), (0.20, 0.98), (0.40, 0.94), (0.24, 0.82)], (70, 150, 60), 2)


def pear(pen: Pen, colour: Colour) -> None:
    """A pear with a stalk."""
    pen.shadow(0.36)
    outline = [
        (0, 0.0),
        (0.28, 0.0),
        (0.40, 0.22),
        (0.30, 0.46),
        (0.17, 0.66),
        (0.14, 0.84),
        (0, 0.90),
        (-0.14, 0.84),
        (-0.17, 0.66),
        (-0.30, 0.46),
        (-0.40, 0.22),
        (-0.28, 0.0),
    ]
    pen.area(outline, colour, 3, 0.38)
    pen.limb([(0, 0.86), (0.01, 0.94), (0.06, 1.02)], (0.04, 0.035, 0.045), TRUNK)


def banana(pen: Pen, colour: Colour) -> None:
    """Two bananas that share a stalk."""
    pen.shadow(0.55)
    for lift, tone in ((0.16, 0.86), (0.0, 1.0)):
        curve = [
            (-0.62, 0.62 + lift),
            (-0.50, 0.28 + lift),
            (-0.10, 0.14 + lift),
            (0.34, 0.22 + lift),
            (0.62, 0.52 + 0.6 * lift),
        ]
        pen.limb(curve, (0.06, 0.24, 0.30, 0.24, 0.06), _tone(colour, tone))
    pen.oval(-0.63, 0.72, 0.05, 0.10, (110, 86, 40))


def vase(pen: Pen, colour: Colour) -> None:
    """A vase with five flowers of the given colour."""
    pen.shadow(0.30)
    for x, y in ((-0.24, 0.70), (0.24, 0.72), (0.0, 0.80), (-0.12, 0.90), (0.13, 0.91)):
        pen.limb([(0, 0.45), (0.5 * x, 0.58), (x, y)], (0.03, 0.025, 0.025), (70, 140, 66))
    for side in (-1, 1):
        pen.area([(0, 0.46), (side * 0.22, 0.50), (side * 0.34, 0.60), (side * 0.14, 0.58)], (76, 150, 70), 2)
    for x, y in ((-0.24, 0.70), (0.24, 0.72), (0.0, 0.78), (-0.12, 0.90), (0.13, 0.91)):
        for index in range(6):
            a = index * np.pi / 3
            pen.oval(x + 0.07 * np.cos(a), y + 0.07 * np.sin(a), 0.055, 0.055, _tone(colour, 1.0 if index % 2 else 0.9))
        pen.oval(x, y, 0.045, 0.045, (240, 190, 60))
    pen.area(
        [
            (-0.16, 0.0),
            (0.16, 0.0),
            (0.24, 0.22),
            (0.12, 0.42),
            (0.15, 0.50),
            (-0.15, 0.50),
            (-0.12, 0.42),
            (-0.24, 0.22),
        ],
        (92, 128, 176),
        2,
        0.4,
    )
