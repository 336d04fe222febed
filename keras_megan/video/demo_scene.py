"""A small moving scene, drawn from formulas: no download, the truth is known.

In: a moment t, in seconds, and a picture size. Out: uint8 RGB (height, width, 3).
Everything in it is there to be judged by eye after enlarging and interpolating:

- a ring of spokes that turns: detail at every scale, motion in every direction;
- a line of small text that slides: the first thing people look at;
- a wall of bricks that pans: straight edges at a slow, uniform speed;
- clouds of smooth noise: shading without edges;
- a striped ball that bounces: fast motion in front of still things.

The scene is defined in units of the picture's height and drawn at `OVERSAMPLING` times
the size, then averaged, so that edges are free of stair steps at any size.
"""

import cv2
import numpy as np

OVERSAMPLING = 2
TEXT = "MEGAN  4x sharper  2x smoother  *  space-time super-resolution  *  "
_SEED = 7


def draw_scene(time: float, width: int, height: int) -> np.ndarray:
    """The scene at a moment.

    Args:
        time: Seconds; the motion is about right for two seconds.
        width, height: Size in pixels.

    Returns:
        uint8 RGB, shape (height, width, 3).
    """
    tall, wide = height * OVERSAMPLING, width * OVERSAMPLING
    y, x = np.mgrid[0:tall, 0:wide].astype(np.float32)
    y, x = (y + 0.5) / tall, (x + 0.5) / tall  # in picture heights
    image = _sky(x, y, time)
    image = _bricks(image, x, y, time)
    image = _wheel(image, x, y, time, centre=(0.42, 0.37), radius=0.29)
    image = _ball(image, x, y, time, wide / tall)
    image = _banner(image, time)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.clip(small * 255 + 0.5, 0, 255).astype(np.uint8)


def _mix(image: np.ndarray, colour, share: np.ndarray) -> np.ndarray:
    """Lays a colour (or picture) over an image where share is 1."""
    share = share[..., None]
    return image * (1 - share) + np.asarray(colour, np.float32) * share


def _noise(x: np.ndarray, y: np.ndarray, octaves: int = 4) -> np.ndarray:
    """Smooth noise in 0 .. 1: a few random waves for each octave."""
    generator = np.random.default_rng(_SEED)
    total = np.zeros_like(x)
    for octave in range(octaves):
        for _ in range(3):
            angle, phase = generator.uniform(0, 2 * np.pi, 2)
            frequency = 6 * 2**octave * generator.uniform(0.7, 1.3)
            along = x * np.cos(angle) + y * np.sin(angle)
            total += np.sin(frequency * along + phase) / 2**octave
    return 0.5 + total / 11.25


def _sky(x: np.ndarray, y: np.ndarray, time: float) -> np.ndarray:
    top, low = (
        np.array([0.10, 0.22, 0.42], np.float32),
        np.array([0.96, 0.72, 0.50], np.float32),
    )
    share = np.clip(y / 0.75, 0, 1)[..., None]
    image = top * (1 - share) + low * share
    clouds = np.clip(_noise(x * 1.3 + 0.12 * time, y * 2.6) * 2.4 - 1.2, 0, 1)
    return _mix(image, (0.98, 0.95, 0.92), clouds * 0.6).astype(np.float32)


def _bricks(image, x, y, time: float) -> np.ndarray:
    along, row_height, brick = x + 0.10 * time, 0.055, 0.13
    row = np.floor((y - 0.68) / row_height)
    shifted = along / brick + 0.5 * (row % 2)
    column = np.floor(shifted)
    mortar = ((shifted - column) * brick < 0.010) | (
        (y - 0.68) / row_height - row < 0.18
    )
    # A shade of its own for every brick, and grain that moves with the wall.
    shade = np.modf(np.abs(np.sin(row * 12.99 + column * 78.23)) * 437.58)[0]
    grain = _noise(along * 9, y * 9, octaves=3)
    red = np.array([0.62, 0.27, 0.19], np.float32) * (0.72 + 0.4 * shade[..., None])
    wall = red * (0.75 + 0.5 * grain[..., None])
    wall = _mix(wall, (0.80, 0.77, 0.72), mortar.astype(np.float32))
    return _mix(image, wall, (y >= 0.68).astype(np.float32))


def _wheel(image, x, y, time: float, centre, radius: float) -> np.ndarray:
    dx, dy = x - centre[0], y - centre[1]
    distance, angle = np.hypot(dx, dy), np.arctan2(dy, dx) + 0.9 * time
    spokes = (np.sin(20 * angle) > 0).astype(np.float32)
    inside = ((distance < radius) & (distance > 0.035)).astype(np.float32)
    rim = (np.abs(distance - radius) < 0.012).astype(np.float32)
    hub = (distance < 0.035).astype(np.float32)
    image = _mix(image, (0.97, 0.96, 0.93), inside)
    image = _mix(image, (0.07, 0.09, 0.13), inside * spokes)
    image = _mix(image, (0.93, 0.60, 0.12), rim)
    return _mix(image, (0.80, 0.15, 0.15), hub)


def _ball(image, x, y, time: float, aspect: float) -> np.ndarray:
    radius = 0.10
    cx = 0.95 + 0.32 * time * min(1.0, aspect - 0.7)
    cy = 0.68 - radius - 0.42 * abs(np.sin(2.6 * time + 0.5))
    dx, dy = (x - cx) / radius, (y - cy) / radius
    turn = 3.0 * time
    across = dx * np.cos(turn) + dy * np.sin(turn)
    inside = (np.hypot(dx, dy) < 1).astype(np.float32)
    stripes = (np.sin(across * 9) > 0).astype(np.float32)
    light = np.clip(1.05 - 0.55 * np.hypot(dx + 0.35, dy + 0.4), 0.25, 1.1)
    body = _mix(np.ones_like(image) * (0.98, 0.94, 0.85), (0.10, 0.38, 0.66), stripes)
    shadow = np.exp(-(((x - cx) / 0.11) ** 2) - ((y - 0.70) / 0.018) ** 2)
    image = _mix(image, (0.1, 0.08, 0.08), 0.5 * shadow.astype(np.float32))
    return _mix(image, body * light[..., None], inside)


def _banner(image: np.ndarray, time: float) -> np.ndarray:
    tall, wide = image.shape[:2]
    top, bottom = round(0.83 * tall), round(0.97 * tall)
    size = 0.0026 * tall
    line = np.zeros((bottom - top, 10 * tall), np.uint8)
    cv2.putText(
        line,
        TEXT * 3,
        (0, round(0.74 * (bottom - top))),
        cv2.FONT_HERSHEY_SIMPLEX,
        size,
        255,
        max(1, round(0.008 * tall)),
        cv2.LINE_AA,
    )
    # The text slides by fractions of a pixel.
    shift = np.array([[1, 0, -(0.16 * time + 0.05) * tall], [0, 1, 0]], np.float32)
    line = cv2.warpAffine(line, shift, (wide, bottom - top), flags=cv2.INTER_LINEAR)
    plate = np.array([0.06, 0.08, 0.12], np.float32) * np.ones((bottom - top, wide, 1))
    ink = line.astype(np.float32) / 255
    image = image.astype(np.float32)
    image[top:bottom] = _mix(plate, (0.97, 0.95, 0.88), ink)
    return image
