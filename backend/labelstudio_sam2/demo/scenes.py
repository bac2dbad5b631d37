"""The demo's pictures, drawn by arithmetic, so that the true mask of every object is known.

A shape is a field: (H, W) float32, negative inside the object, zero on its outline. Painting a later object takes the
hidden pixels away from the masks of the earlier ones.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np

from labelstudio_sam2.segmenter.prompt import FloatArray, Image, Mask

Field: TypeAlias = FloatArray
"""(H, W) float32, negative inside."""
Color: TypeAlias = FloatArray | tuple[float, float, float]
"""(H, W, 3) float32 or one RGB triple, 0..1."""

_LIGHT = np.array([-0.5, -0.65, 0.57], np.float32)
"""Unit vector to the lamp: from the left, from above, towards the viewer; y grows downwards."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """One drawn picture and the truth about it.

    Attributes:
        name: File name without suffix.
        image: (H, W, 3) uint8 RGB.
        masks: Object name -> (H, W) bool, the visible pixels of that object.
    """

    name: str
    image: Image
    masks: dict[str, Mask]


def draw_scenes() -> list[Scene]:
    """Draw every picture of the demo; the same pixels each time, about a second of work."""
    return [draw() for draw in (draw_fruit, draw_breakfast, draw_coins, draw_leaves)]


def draw_fruit() -> Scene:
    """Draw a pear, an apple, an orange and a lemon on a wooden table, 800 x 600."""
    canvas = _Canvas("fruit", size_wh=(800, 600), seed=1)
    x, y = canvas.x, canvas.y
    wall = _mix((0.23, 0.36, 0.42), (0.55, 0.66, 0.66), np.exp(-((x - 250) ** 2 + (y - 120) ** 2) / 2.4e5))
    canvas.fill(wall * (0.97 + 0.06 * canvas.noise(60, 60))[..., None])
    canvas.paint(330 - y, canvas.wood())
    canvas.paint(np.abs(y - 333) - 3, (0.25, 0.15, 0.09))

    canvas.shadow(_ellipse(x, y, center=(165, 428), radii=(105, 24)))
    pear = _smooth_union(
        _ellipse(x, y, center=(130, 345), radii=(80, 85)), _ellipse(x, y, center=(124, 245), radii=(44, 72)), 30
    )
    canvas.paint(_stick(x, y, start=(126, 180), end=(142, 150), width=5), (0.30, 0.20, 0.10))
    canvas.paint(
        pear, canvas.round(pear, _mix((0.66, 0.72, 0.22), (0.76, 0.74, 0.26), canvas.noise(30, 40)), 75), "pear"
    )

    canvas.shadow(_ellipse(x, y, center=(395, 440), radii=(110, 22)))
    apple = _apple(x, y, center=(360, 352), radius=88)
    stripes = _mix((0.76, 0.11, 0.10), (0.84, 0.20, 0.13), canvas.noise(40, 20))
    canvas.paint(apple, canvas.round(apple, stripes, 88), "apple")
    canvas.paint(_stick(x, y, start=(360, 284), end=(374, 246), width=6), (0.28, 0.18, 0.09))

    canvas.shadow(_ellipse(x, y, center=(700, 425), radii=(100, 22)))
    orange = _ellipse(x, y, center=(660, 345), radii=(84, 82))
    canvas.paint(orange, canvas.round(orange, (0.95, 0.52, 0.08), 95, bumps=0.6 * canvas.noise(3, 3)), "orange")

    canvas.shadow(_ellipse(x, y, center=(458, 568), radii=(100, 14)))
    u, v = _turn(x, y, center=(430, 530), degrees=-14)
    lemon = _smooth_union(
        _ellipse(u, v, center=(0, 0), radii=(84, 55)), _ellipse(u, v, center=(88, 0), radii=(16, 15)), 14
    )
    canvas.paint(lemon, canvas.round(lemon, (0.96, 0.84, 0.18), 54, bumps=0.5 * canvas.noise(4, 4)), "lemon")
    return canvas.scene()


def draw_breakfast() -> Scene:
    """Draw a mug of coffee and a cookie on a striped cloth, 640 x 480."""
    canvas = _Canvas("breakfast", size_wh=(640, 480), seed=2)
    x, y = canvas.x, canvas.y
    u, _ = _turn(x, y, center=(320, 240), degrees=28)
    cloth = _mix((0.83, 0.80, 0.73), (0.45, 0.55, 0.68), (np.sin(u / 21) > 0.55).astype(np.float32))
    weave = 0.94 + 0.05 * np.sin(x * 1.9) * np.sin(y * 1.9) + 0.05 * canvas.noise(90, 90)
    canvas.fill(cloth * weave[..., None])

    canvas.shadow(_ellipse(x, y, center=(300, 378), radii=(150, 42)))
    handle = np.maximum(
        _ellipse(x, y, center=(325, 238), radii=(72, 78)), -_ellipse(x, y, center=(325, 238), radii=(46, 52))
    )
    body = np.maximum(np.abs(x - 220) - (108 - 0.06 * (y - 120)), np.maximum(130 - y, y - 345))
    body = np.minimum(body, _ellipse(x, y, center=(220, 345), radii=(94, 32)))
    rim = _ellipse(x, y, center=(220, 130), radii=(107, 34))
    mug = np.minimum(np.minimum(handle, body), rim)
    glaze = np.clip(1.1 - 0.3 * ((x - 190) / 125) ** 2, 0.6, 1.1)[..., None] * np.array([0.60, 0.16, 0.14])
    canvas.paint(mug, glaze + 0.35 * np.exp(-(((x - 165) / 12) ** 2))[..., None] * (y > 170)[..., None], "mug")
    canvas.paint(rim, (0.75, 0.30, 0.26), part_of="mug")
    inside = _ellipse(x, y, center=(220, 131), radii=(98, 28))
    canvas.paint(inside, (0.40, 0.10, 0.09), part_of="mug")
    coffee = np.maximum(inside, _ellipse(x, y, center=(220, 143), radii=(96, 26)))
    canvas.paint(coffee, _mix((0.20, 0.10, 0.05), (0.42, 0.25, 0.13), canvas.noise(50, 10)), part_of="mug")

    canvas.shadow(_ellipse(x, y, center=(520, 382), radii=(88, 60)))
    cookie = _ellipse(x, y, center=(505, 355), radii=(86, 68)) + 3 * (canvas.noise(14, 14) - 0.5)
    dough = _mix((0.68, 0.44, 0.20), (0.86, 0.64, 0.36), canvas.noise(7, 7))
    canvas.paint(cookie, canvas.round(cookie, dough, 30), "cookie")
    for dx, dy in ((-42, -14), (-8, -36), (30, -20), (-24, 18), (12, 6), (46, 12), (14, 38)):
        chip = _ellipse(x, y, center=(505 + dx, 355 + dy), radii=(10, 7))
        canvas.paint(chip, canvas.round(chip, (0.27, 0.14, 0.08), 8), part_of="cookie")
    return canvas.scene()


def draw_coins() -> Scene:
    """Draw seven coins on green felt, 1024 x 768."""
    canvas = _Canvas("coins", size_wh=(1024, 768), seed=3)
    felt = _mix((0.06, 0.25, 0.17), (0.12, 0.36, 0.25), 0.6 * canvas.noise(3, 3) + 0.4 * canvas.noise(160, 160))
    canvas.fill(felt)
    gold, silver, copper = (0.85, 0.66, 0.26), (0.74, 0.76, 0.79), (0.74, 0.43, 0.27)
    for name, center, radius, metal, points in (
        ("gold", (240, 230), 120, gold, 5),
        ("silver", (545, 200), 92, silver, 6),
        ("copper", (820, 250), 104, copper, 8),
        ("silver_low_left", (200, 570), 98, silver, 4),
        ("gold_low", (445, 540), 104, gold, 7),
        ("copper_low", (680, 600), 76, copper, 5),
        ("silver_low_right", (850, 570), 110, silver, 9),
    ):
        canvas.coin(name, center, radius, metal, points)
    return canvas.scene()


def draw_leaves() -> Scene:
    """Draw three leaves on paper, upright format, 600 x 800."""
    canvas = _Canvas("leaves", size_wh=(600, 800), seed=4)
    paper = _mix((0.86, 0.82, 0.74), (0.95, 0.92, 0.86), 0.5 * canvas.noise(4, 4) + 0.5 * canvas.noise(120, 120))
    canvas.fill(paper)
    for name, center, degrees, length, colors in (
        ("green", (190, 230), -62, 165, ((0.13, 0.36, 0.12), (0.36, 0.58, 0.20))),
        ("red", (410, 370), -118, 190, ((0.58, 0.09, 0.08), (0.86, 0.36, 0.12))),
        ("yellow", (215, 590), -20, 172, ((0.78, 0.52, 0.08), (0.93, 0.80, 0.28))),
    ):
        canvas.leaf(name, center, degrees, length, colors)
    return canvas.scene()


class _Canvas:
    """A picture being painted."""

    def __init__(self, name: str, *, size_wh: tuple[int, int], seed: int) -> None:
        self._name = name
        self._random = np.random.default_rng(seed)
        width, height = size_wh
        ys, xs = np.mgrid[:height, :width].astype(np.float32) + np.float32(0.5)
        self.x: FloatArray = xs
        self.y: FloatArray = ys
        self._rgb = np.zeros((height, width, 3), np.float32)
        self._masks: dict[str, Mask] = {}

    def fill(self, color: Any) -> None:
        self._rgb[:] = color

    def paint(self, field: Any, color: Any, name: str | None = None, *, part_of: str | None = None) -> None:
        """Paint the inside of a field with soft edges; without a name it is scenery or part of another object."""
        gradient_y, gradient_x = np.gradient(field)
        steepness = np.maximum(np.hypot(gradient_x, gradient_y), 1e-6)
        coverage = np.clip(0.5 - field / steepness, 0, 1)[..., None]
        self._rgb += coverage * (np.asarray(color, np.float32) - self._rgb)
        inside = np.asarray(field < 0)
        for other in self._masks.keys() - {part_of}:
            self._masks[other] = self._masks[other] & ~inside
        if name is not None:
            self._masks[name] = inside

    def shadow(self, field: Any) -> None:
        """Darken the ground under a field, with a soft edge."""
        soft = cv2.GaussianBlur(np.asarray(field < 0, np.float32), (0, 0), 14)
        self._rgb *= 1 - 0.3 * np.asarray(soft)[..., None]

    def noise(self, width: float, height: float) -> FloatArray:
        """Return (H, W) float32 noise, 0..1, with features of about the given size in pixels."""
        rows, columns = self._rgb.shape[:2]
        coarse = self._random.random((int(rows / height) + 2, int(columns / width) + 2), np.float32)
        smooth: Any = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)
        return np.asarray(np.clip(smooth, 0, 1), np.float32)

    def wood(self) -> FloatArray:
        """Return (H, W, 3) planks that run away to the right."""
        grain = 0.6 * self.noise(260, 5) + 0.4 * self.noise(60, 2)
        planks = 1 - 0.3 * np.exp(-((((self.y - 340) % 88) / 2.2) ** 2))
        return np.asarray(_mix((0.36, 0.22, 0.14), (0.47, 0.31, 0.20), grain) * planks[..., None], np.float32)

    def round(self, field: Any, color: Any, bulge: float, bumps: Any = 0.0) -> FloatArray:
        """Return (H, W, 3): the color on a solid that rises from the outline over `bulge` pixels, lit from the left."""
        depth = np.clip(cv2.distanceTransform(np.asarray(field < 0, np.uint8), cv2.DIST_L2, 5) / bulge, 0, 1)
        height = cv2.GaussianBlur(bulge * np.sqrt(1 - (1 - depth) ** 2), (0, 0), 3 + bulge / 18) + bumps
        slope_y, slope_x = np.gradient(height)
        normal = np.dstack([-slope_x, -slope_y, np.ones_like(slope_x)])
        normal /= np.linalg.norm(normal, axis=2, keepdims=True)
        facing = np.clip(normal @ _LIGHT, 0, 1)[..., None]
        lit: FloatArray = np.asarray(color, np.float32) * (0.62 + 0.46 * facing) + 0.22 * facing**24
        return lit.astype(np.float32)

    def coin(
        self, name: str, center: tuple[float, float], radius: float, metal: tuple[float, float, float], points: int
    ) -> None:
        """Paint a coin with a raised rim and a star."""
        x, y = self.x - center[0], self.y - center[1]
        distance, angle = np.hypot(x, y), np.arctan2(y, x)
        self.shadow(np.hypot(x - 9, y - 11) - radius)
        sheen = 0.86 + 0.14 * np.cos(2 * (angle + 0.9)) + 0.06 * self.noise(5, 5)
        tone = np.array(metal, np.float32) * sheen[..., None]
        self.paint(distance - radius, tone * 0.92, name)
        self.paint(np.abs(distance - 0.88 * radius) - 1.5, tone * 0.62, part_of=name)
        star = distance - radius * (0.45 + 0.17 * np.cos(points * angle))
        self.paint(star, tone * 1.14, part_of=name)

    def leaf(
        self,
        name: str,
        center: tuple[float, float],
        degrees: float,
        length: float,
        colors: tuple[tuple[float, float, float], tuple[float, float, float]],
    ) -> None:
        """Paint a leaf, pointed at one end, with a stalk and veins."""
        u, v = _turn(self.x, self.y, center=center, degrees=degrees)
        along = np.clip((u + length) / (2 * length), 0, 1)
        half_width = 0.95 * length * along**0.6 * (1 - along) ** 0.9
        blade = np.where(np.abs(u) < length, np.abs(v) - half_width, np.hypot(np.abs(u) - length, v))
        stalk = _stick(u, v, start=(-length - 45, 6), end=(-length + 10, 0), width=6)
        leaf = np.minimum(blade, stalk)
        self.shadow(np.roll(leaf, (9, 7), axis=(0, 1)))
        tone = _mix(colors[0], colors[1], 0.65 * along + 0.35 * self.noise(18, 18))
        veins = np.minimum(np.abs(v) - 1.6, np.abs((u - 0.9 * np.abs(v)) % 34 - 17) - 0.9)
        self.paint(leaf, self.round(leaf, tone, 40), name)
        self.paint(np.maximum(veins, leaf + 3), tone * 0.72, part_of=name)

    def scene(self) -> Scene:
        """Return what was painted, with a little grain and darker corners, as a camera gives."""
        height, width = self._rgb.shape[:2]
        corner = ((self.x / width - 0.5) ** 2 + (self.y / height - 0.5) ** 2)[..., None]
        grain = self._random.normal(0, 0.012, self._rgb.shape)
        shown = np.clip(self._rgb * (1.04 - 0.5 * corner) + grain, 0, 1)
        image: Image = np.round(shown * 255).astype(np.uint8)
        return Scene(name=self._name, image=image, masks=self._masks)


def _mix(one: Color, other: Color, share: Any) -> FloatArray:
    first, second = np.asarray(one, np.float32), np.asarray(other, np.float32)
    mixed: FloatArray = first + (second - first) * np.asarray(share, np.float32)[..., None]
    return mixed


def _turn(x: Any, y: Any, *, center: tuple[float, float], degrees: float) -> tuple[FloatArray, FloatArray]:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    dx, dy = x - center[0], y - center[1]
    return cosine * dx + sine * dy, cosine * dy - sine * dx


def _ellipse(x: Any, y: Any, *, center: tuple[float, float], radii: tuple[float, float]) -> Field:
    field: Field = (np.hypot((x - center[0]) / radii[0], (y - center[1]) / radii[1]) - 1) * min(radii)
    return field


def _stick(x: Any, y: Any, *, start: tuple[float, float], end: tuple[float, float], width: float) -> Field:
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    field: Field = np.hypot(x - start[0] - along * dx, y - start[1] - along * dy) - width / 2
    return field


def _apple(x: Any, y: Any, *, center: tuple[float, float], radius: float) -> Field:
    dx, dy = (x - center[0]) / radius, (y - center[1]) / radius
    angle = np.arctan2(-dy, dx)
    outline = (
        1 - 0.22 * np.exp(-(((angle - np.pi / 2) / 0.38) ** 2)) - 0.07 * np.exp(-(((angle + np.pi / 2) / 0.3) ** 2))
    )
    field: Field = (np.hypot(dx, dy * 1.06) - outline) * radius
    return field


def _smooth_union(one: Field, other: Field, softness: float) -> Field:
    """Join two shapes with a fillet about `softness` pixels wide."""
    share = np.clip(0.5 + 0.5 * (other - one) / softness, 0, 1)
    field: Field = other + (one - other) * share - softness * share * (1 - share)
    return field
