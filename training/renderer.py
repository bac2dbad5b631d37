"""Turns a 3-D model, Wavefront OBJ, into a cut-out: a small software renderer with textures, shadows and highlights.

Triangles are covered with points closer than a pixel, and each pixel keeps its nearest point: slow next to a graphics
card, but nothing to install, the same pixels everywhere, and about half a second a picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int64]
Pixels: TypeAlias = NDArray[np.uint8]

_POINTS_AT_ONCE = 1_500_000
_LARGEST_GRID = 600
_GLASS = 0.6
"""The least opacity: a pane stays part of its window even where alpha is cut at one half."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """How a surface looks.

    Attributes:
        color: (3,) float32, sRGB 0..1.
        opacity: 1 for wood, less for glass.
        gloss: Strength of highlights, 0..1.
        sharpness: Exponent of the highlights.
        texture: (H, W, 4) uint8 RGBA, or None.
    """

    color: FloatArray = field(default_factory=lambda: np.full(3, 0.7, np.float32))
    opacity: float = 1.0
    gloss: float = 0.0
    sharpness: float = 20.0
    texture: Pixels | None = None

    @property
    def has_holes(self) -> bool:
        """Whether the texture cuts the surface out, as it does for leaves."""
        return self.texture is not None and int(self.texture[..., 3].min()) < 128


@dataclass(frozen=True, kw_only=True, eq=False)
class Mesh:
    """T triangles; x to the right, y up, z towards the viewer.

    Attributes:
        corners: (T, 3, 3) float32, xyz of the three corners.
        normals: (T, 3, 3) float32, unit vectors.
        texture_coords: (T, 3, 2) float32, u to the right, v up, repeating.
        material: (T,) int64, index into materials.
        materials: At least one.
    """

    corners: FloatArray
    normals: FloatArray
    texture_coords: FloatArray
    material: IntArray
    materials: Sequence[Material]

    def turned(self, rotation: NDArray[np.floating]) -> Self:
        """Multiply everything by a (3, 3) rotation."""
        matrix = np.asarray(rotation, np.float32)
        return type(self)(
            corners=self.corners @ matrix.T,
            normals=self.normals @ matrix.T,
            texture_coords=self.texture_coords,
            material=self.material,
            materials=self.materials,
        )


def render(mesh: Mesh, *, yaw: float, pitch: float, light: float = -40, side: int = 336) -> Pixels:
    """Photograph a model: fitted into the picture, perspective, one lamp with shadows, light from sky and ground.

    Args:
        mesh: What to show; its size and position do not matter.
        yaw: Degrees the viewer walks around it to the right.
        pitch: Degrees the viewer looks down.
        light: Degrees from the viewer to the lamp, to the right.
        side: Height and width of the result.

    Returns:
        (side, side, 4) uint8 RGBA.
    """
    points = mesh.corners.reshape(-1, 3)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    reach = float(np.linalg.norm(points - middle, axis=1).max()) or 1.0
    seen = Mesh(
        corners=(mesh.corners - middle) / reach,
        normals=mesh.normals,
        texture_coords=mesh.texture_coords,
        material=mesh.material,
        materials=mesh.materials,
    ).turned(_tilt(pitch) @ _spin(-yaw))
    distance = 4.0
    lens = _fit(seen.corners, distance)
    camera = _Camera(scale=lens * side / 2, side=side, distance=distance)
    opaque = np.array([material.opacity > 0.95 for material in seen.materials])[seen.material]
    solid = _rasterize(seen, np.flatnonzero(opaque), camera)
    glass = _rasterize(seen, np.flatnonzero(~opaque), camera)
    glass.triangle[glass.depth >= solid.depth] = -1

    to_lamp = np.array([np.sin(np.radians(light)), 0.9, np.cos(np.radians(light))], np.float32)
    to_lamp /= np.linalg.norm(to_lamp)
    towards = _facing(to_lamp)
    lamp_view = seen.turned(towards)
    shadow_camera = _Camera(scale=side / 2.1, side=side, distance=None)
    shadows = _rasterize(lamp_view, np.flatnonzero(opaque), shadow_camera)

    color, alpha = _shade(seen, solid, to_lamp, towards, shadows, shadow_camera)
    if (glass.triangle >= 0).any():
        front, opacity = _shade(seen, glass, to_lamp, towards, shadows, shadow_camera)
        color = front * opacity[:, None] + color * (alpha * (1 - opacity))[:, None]
        alpha = opacity + alpha * (1 - opacity)
        color /= np.maximum(alpha, 1e-3)[:, None]
    encoded = np.clip(color, 0, 1) ** (1 / 2.2)
    pixels = np.concatenate([encoded, alpha[:, None]], axis=1).reshape(side, side, 4)
    return np.asarray((pixels * 255).round(), np.uint8)


# --- which triangle each pixel shows


@dataclass(frozen=True, kw_only=True)
class _Camera:
    """Looks along -z at the origin; distance None for parallel rays."""

    scale: float
    side: int
    distance: float | None

    def project(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(N, 3) -> xy in pixels (N, 2), depth away from the viewer (N,)."""
        depth = (self.distance or 0) - points[:, 2]
        scale = self.scale if self.distance is None else self.scale / np.maximum(depth, 0.1)
        xy = np.stack([points[:, 0] * scale, -points[:, 1] * scale], axis=1) + self.side / 2
        return xy.astype(np.float32), depth.astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Visible:
    """What each of the P pixels shows: triangle or -1, its point there in barycentric coordinates, its depth."""

    triangle: IntArray
    weights: FloatArray
    depth: FloatArray


def _rasterize(mesh: Mesh, chosen: IntArray, camera: _Camera) -> _Visible:
    count = camera.side**2
    triangle = np.full(count, -1, np.int64)
    weights = np.zeros((count, 3), np.float32)
    depth = np.full(count, np.inf, np.float32)
    holey = np.array([material.has_holes for material in mesh.materials])
    for indices, order, grid in _grids(mesh, chosen, camera):
        corners = np.take_along_axis(mesh.corners[indices], order[:, :, None], axis=1)
        points = np.matmul(grid, corners).reshape(-1, 3)
        xy, z = camera.project(points)
        column, row = np.floor(xy).astype(np.int64).T
        inside = (column >= 0) & (column < camera.side) & (row >= 0) & (row < camera.side)
        pixel = np.where(inside, row * camera.side + column, 0)
        nearer = np.flatnonzero(inside & (z < depth[pixel]))
        owner = nearer // len(grid)
        at: FloatArray = np.empty((len(nearer), 3), np.float32)
        np.put_along_axis(at, order[owner], grid[nearer % len(grid)], axis=1)
        if holey[mesh.material[indices]].any():
            there = _albedo(mesh, indices[owner], at)[:, 3] > 0.5
            nearer, owner, at = nearer[there], owner[there], at[there]
        farthest_first = np.argsort(-z[nearer])  # of several writes to a pixel the last one stays
        nearer, owner, at = nearer[farthest_first], owner[farthest_first], at[farthest_first]
        target = pixel[nearer]
        depth[target], triangle[target], weights[target] = z[nearer], indices[owner], at
    return _Visible(triangle=triangle, weights=weights, depth=depth)


def _grids(mesh: Mesh, chosen: IntArray, camera: _Camera) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
    """Sort triangles by their size in pixels.

    Yields:
        t triangles of one size; (t, 3) the order of their corners, the longest side first; (G, 3) float32 the points
        to cover each with, barycentric in that order.
    """
    if not len(chosen):
        return
    xy = camera.project(mesh.corners[chosen].reshape(-1, 3))[0].reshape(-1, 3, 2)
    sides = np.roll(xy, -1, axis=1) - xy
    lengths = np.linalg.norm(sides, axis=2)
    longest = lengths.max(axis=1)
    area = np.abs(sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0])
    order = (lengths.argmax(axis=1)[:, None] + np.arange(3)) % 3
    along, across = _steps(longest), _steps(area / np.maximum(longest, 1e-9))
    for n, m in np.unique(np.stack([along, across], axis=1), axis=0):
        grid = _grid(int(n), int(m))
        members = np.flatnonzero((along == n) & (across == m))
        for part in np.array_split(members, -(-len(members) * len(grid) // _POINTS_AT_ONCE)):
            yield chosen[part], order[part], grid


def _steps(pixels: FloatArray) -> IntArray:
    """Steps a little shorter than a pixel, rounded up to a power of the square root of two."""
    steps = np.clip(pixels * 1.35, 1, _LARGEST_GRID)
    return np.asarray(np.ceil(2 ** (np.ceil(np.log2(steps) * 2) / 2)), np.int64)


def _grid(along: int, across: int) -> FloatArray:
    """Cover a triangle with lines parallel to its first side, the shorter the fewer points."""
    lines = []
    for line in range(across + 1):
        height = line / across
        second = np.linspace(0, 1 - height, int(np.ceil(along * (1 - height))) + 1)
        lines.append(np.stack([1 - height - second, second, np.full_like(second, height)], axis=1))
    return np.asarray(np.concatenate(lines), np.float32)


# --- how it looks there


def _shade(
    mesh: Mesh, visible: _Visible, to_lamp: FloatArray, towards: FloatArray, shadows: _Visible, shadow_camera: _Camera
) -> tuple[FloatArray, FloatArray]:
    """Light what is visible; returns linear RGB (P, 3) and opacity (P,)."""
    color = np.zeros((len(visible.triangle), 3), np.float32)
    alpha = np.zeros(len(visible.triangle), np.float32)
    shown = np.flatnonzero(visible.triangle >= 0)
    triangle, weights = visible.triangle[shown], visible.weights[shown]
    points = np.einsum("pk,pkc->pc", weights, mesh.corners[triangle])
    normals = np.einsum("pk,pkc->pc", weights, mesh.normals[triangle])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    to_eye = np.array([0, 0, 4], np.float32) - points
    to_eye /= np.linalg.norm(to_eye, axis=1, keepdims=True)
    normals *= np.where((normals * to_eye).sum(axis=1, keepdims=True) < 0, -1, 1)

    lit = _is_lit(points @ towards.T, shadows, shadow_camera)
    crevice = _occlusion(visible.depth, shadow_camera.side)[shown]
    diffuse = np.clip(normals @ to_lamp, 0, None) * lit
    sky = 0.5 + 0.5 * normals[:, 1]
    half = to_eye + to_lamp
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    gloss = np.array([material.gloss for material in mesh.materials], np.float32)[mesh.material[triangle]]
    sharpness = np.array([material.sharpness for material in mesh.materials], np.float32)[mesh.material[triangle]]
    highlight = gloss * lit * np.clip((normals * half).sum(axis=1), 0, None) ** sharpness

    albedo = _albedo(mesh, triangle, weights)
    ambient = (0.22 + 0.3 * sky + 0.12 * normals[:, 2]) * crevice
    color[shown] = albedo[:, :3] ** 2.2 * (ambient + 0.75 * diffuse)[:, None] + 0.5 * highlight[:, None]
    opacity = np.array([material.opacity for material in mesh.materials], np.float32)[mesh.material[triangle]]
    alpha[shown] = opacity
    return color, alpha


def _albedo(mesh: Mesh, triangle: IntArray, weights: FloatArray) -> FloatArray:
    """(N, 4) float32, sRGB and texture's alpha, 0..1."""
    color = np.array([material.color for material in mesh.materials], np.float32)[mesh.material[triangle]]
    result = np.concatenate([color, np.ones((len(color), 1), np.float32)], axis=1)
    for number, material in enumerate(mesh.materials):
        if material.texture is not None:
            here = np.flatnonzero(mesh.material[triangle] == number)
            u, v = np.einsum("pk,pkc->pc", weights[here], mesh.texture_coords[triangle[here]]).T
            height, width = material.texture.shape[:2]
            row, column = ((1 - v) % 1 * height).astype(np.int64), (u % 1 * width).astype(np.int64)
            result[here] = material.texture[row.clip(0, height - 1), column.clip(0, width - 1)] / np.float32(255)
            result[here, :3] *= material.color / max(float(material.color.max()), 0.1)
    return result


def _is_lit(points: FloatArray, shadows: _Visible, camera: _Camera) -> FloatArray:
    """How much of the lamp each point sees, 0..1, averaged over 3 x 3 pixels of the lamp's view."""
    xy, depth = camera.project(points)
    column, row = np.floor(xy).astype(np.int64).T
    lit = np.zeros(len(points), np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            pixel = (row + dy).clip(0, camera.side - 1) * camera.side + (column + dx).clip(0, camera.side - 1)
            lit += depth < shadows.depth[pixel] + 0.03
    return np.asarray(lit / 9, np.float32)


def _occlusion(depth: FloatArray, side: int) -> FloatArray:
    """Darken what lies deeper than its surroundings (Luft et al. 2006, depth buffer unsharp masking); (P,) 0..1."""
    there = np.isfinite(depth).astype(np.float32).reshape(side, side)
    filled = np.where(np.isfinite(depth), depth, 0).astype(np.float32).reshape(side, side)
    sigma = side / 30
    around = cv2.GaussianBlur(filled, (0, 0), sigma) / np.maximum(cv2.GaussianBlur(there, (0, 0), sigma), 1e-3)
    return np.asarray(1 - np.clip(3.0 * (filled - around), 0, 0.5), np.float32).ravel()


# --- turning


def _spin(degrees: float) -> FloatArray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], np.float32)


def _tilt(degrees: float) -> FloatArray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]], np.float32)


def _facing(direction: FloatArray) -> FloatArray:
    """The rotation after which something in this direction lies towards the viewer."""
    right = np.cross([0, 1, 0], direction)
    right /= np.linalg.norm(right)
    return np.asarray(np.stack([right, np.cross(direction, right), direction]), np.float32)


def _fit(corners: FloatArray, distance: float) -> float:
    points = corners.reshape(-1, 3)
    return float(0.97 / (np.abs(points[:, :2]) / (distance - points[:, 2:])).max())


# --- Wavefront OBJ


def read_obj(file: Path) -> Mesh:
    """Read a model, its materials and its textures; missing materials are grey.

    Normals are made anew: smooth where neighbouring triangles are nearly in one plane, sharp at edges.

    Raises:
        ValueError: There is no triangle in it.
    """
    vertices: list[list[float]] = []
    coords: list[list[float]] = []
    triangles: list[tuple[int, int, int]] = []
    triangle_coords: list[tuple[int, int, int]] = []
    used: list[int] = []
    numbers: dict[str, int] = {"": 0}
    found: dict[str, Material] = {}
    current = 0
    for line in file.read_text(errors="replace").splitlines():
        keyword, _, rest = line.strip().partition(" ")
        match keyword:
            case "v":
                vertices.append([float(number) for number in rest.split()[:3]])
            case "vt":
                coords.append([float(number) for number in rest.split()[:2]])
            case "f":
                parts = [corner.split("/") for corner in rest.split()]
                at = [_index(part[0], len(vertices)) for part in parts]
                texture_at = [_index(part[1], len(coords)) if len(part) > 1 and part[1] else -1 for part in parts]
                for k in range(1, len(at) - 1):
                    triangles.append((at[0], at[k], at[k + 1]))
                    triangle_coords.append((texture_at[0], texture_at[k], texture_at[k + 1]))
                    used.append(current)
            case "usemtl":
                current = numbers.setdefault(rest.strip(), len(numbers))
            case "mtllib":
                found |= _read_mtl(file.parent / rest.strip())
    if not triangles:
        raise ValueError(f"{file} has no faces")
    faces = np.array(triangles)
    corners = np.array(vertices, np.float32)[faces]
    table = np.array([*coords, [0, 0]], np.float32)  # index -1: no texture coordinates
    return Mesh(
        corners=corners,
        normals=_normals(corners, faces, len(vertices)),
        texture_coords=table[np.array(triangle_coords)],
        material=np.array(used),
        materials=[found.get(name, Material()) for name in numbers],
    )


def _index(text: str, count: int) -> int:
    """OBJ counts from 1, or from the end with negative numbers."""
    number = int(text)
    return number - 1 if number > 0 else count + number


def _normals(corners: FloatArray, faces: IntArray, vertex_count: int) -> FloatArray:
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    smooth = np.stack(
        [np.bincount(faces.ravel(), np.repeat(flat[:, axis], 3), vertex_count) for axis in range(3)], axis=1
    )
    flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    smooth = smooth / np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-12)
    at_corners = smooth[faces]
    same_surface = (at_corners * flat[:, None]).sum(axis=2, keepdims=True) > 0.7
    return np.asarray(np.where(same_surface, at_corners, flat[:, None]), np.float32)


def _read_mtl(file: Path) -> dict[str, Material]:
    if not file.exists():
        return {}
    described: dict[str, dict[str, str]] = {}
    name = ""
    for line in file.read_text(errors="replace").splitlines():
        keyword, _, rest = line.strip().partition(" ")
        if keyword == "newmtl":
            name = rest.strip()
            described[name] = {}
        elif name:
            described[name][keyword] = rest.strip()
    return {name: _material(fields, file.parent) for name, fields in described.items()}


def _material(fields: dict[str, str], folder: Path) -> Material:
    color = np.array(_numbers(fields.get("Kd", ""), [0.7, 0.7, 0.7]), np.float32).clip(0, 1)
    return Material(
        color=color,
        opacity=max(_numbers(fields.get("d", ""), [1.0])[0], _GLASS),
        gloss=float(np.clip(np.mean(_numbers(fields.get("Ks", ""), [0.0])), 0, 0.6)),
        sharpness=float(np.clip(_numbers(fields.get("Ns", ""), [20.0])[0], 4, 200)),
        texture=_read_texture(folder / fields["map_Kd"].replace("\\", "/")) if "map_Kd" in fields else None,
    )


def _numbers(text: str, default: list[float]) -> list[float]:
    try:
        return [float(number) for number in text.split()] or default
    except ValueError:
        return default


def _read_texture(file: Path) -> Pixels | None:
    try:
        picture = Image.open(file).convert("RGBA")
    except OSError:
        return None
    picture.thumbnail((512, 512), Image.Resampling.LANCZOS)
    return np.asarray(picture)
