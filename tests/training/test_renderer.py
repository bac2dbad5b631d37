from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training.renderer import Material, Mesh, read_obj, render

RED, GREEN = np.array([1, 0, 0], np.float32), np.array([0, 1, 0], np.float32)


def squares(*at: tuple[float, float, Material]) -> Mesh:
    """Stack squares that face the viewer: (half the side, z, material) each."""
    corners, materials = [], []
    for half, z, material in at:
        a, b, c, d = (-half, -half, z), (half, -half, z), (half, half, z), (-half, half, z)
        corners += [[a, b, c], [a, c, d]]
        materials.append(material)
    count = len(corners)
    return Mesh(
        corners=np.array(corners, np.float32),
        normals=np.tile(np.array([0, 0, 1], np.float32), (count, 3, 1)),
        texture_coords=np.zeros((count, 3, 2), np.float32),
        material=np.arange(count) // 2,
        materials=materials,
    )


def test_a_square_fills_the_picture_without_a_hole() -> None:
    pixels = render(squares((1, 0, Material())), yaw=0, pitch=0, side=100)

    alpha = pixels[..., 3]
    assert (alpha[3:97, 3:97] == 255).all()
    assert not alpha[0].any()
    assert not alpha[:, 0].any()


@pytest.mark.parametrize(("yaw", "nearer"), [(0, "red"), (180, "green")])
def test_the_nearer_square_hides_the_other(yaw: float, nearer: str) -> None:
    mesh = squares((1, 0.5, Material(color=RED)), (1, -0.5, Material(color=GREEN)))

    red, green, blue, alpha = render(mesh, yaw=yaw, pitch=0, side=60)[30, 30]

    assert (red > 0, green > 0) == ((True, False) if nearer == "red" else (False, True))
    assert (blue, alpha) == (0, 255)


def test_the_lamp_throws_a_shadow() -> None:
    mesh = squares((1, 0, Material()), (0.25, 0.6, Material(color=RED)))

    pixels = render(mesh, yaw=0, pitch=0, light=0, side=120).astype(int)  # the lamp is above the viewer

    board = (pixels[..., 1] > 0) & (pixels[..., 3] == 255)
    assert pixels[..., 0][board].min() < 0.8 * pixels[..., 0][board].max()


def test_glass_is_half_there_and_shows_what_is_behind_it() -> None:
    pane = Material(color=GREEN, opacity=0.6)
    mesh = squares((1, 0.5, pane), (0.3, 0, Material(color=RED)))

    pixels = render(mesh, yaw=0, pitch=0, side=60)

    assert pixels[30, 30, 3] == 255
    assert pixels[30, 30, 0] > 0
    assert pixels[6, 30, 3] == round(0.6 * 255)


def test_an_obj_file_is_read_with_its_quads_textures_and_backward_indices(tmp_path: Path) -> None:
    Image.new("RGB", (4, 2), (10, 20, 30)).save(tmp_path / "wood.png")
    (tmp_path / "table.mtl").write_text("newmtl oak\nKd 0.5 0.25 0\nd 0.8\nmap_Kd wood.png\n")
    (tmp_path / "table.obj").write_text(
        "mtllib table.mtl\nv 0 0 0\nv 2 0 0\nv 2 2 0\nv 0 2 0\nvt 0 0\nvt 1 1\n"
        "usemtl oak\nf 1/1 2/1 3/2 4/1\nf -4 -3 -2\n"
    )

    mesh = read_obj(tmp_path / "table.obj")

    assert mesh.corners.tolist() == [
        [[0, 0, 0], [2, 0, 0], [2, 2, 0]],
        [[0, 0, 0], [2, 2, 0], [0, 2, 0]],
        [[0, 0, 0], [2, 0, 0], [2, 2, 0]],
    ]
    assert mesh.texture_coords[0].tolist() == [[0, 0], [0, 0], [1, 1]]
    assert mesh.texture_coords[2].tolist() == [[0, 0], [0, 0], [0, 0]]
    assert mesh.normals[0].tolist() == [[0, 0, 1]] * 3
    oak = mesh.materials[mesh.material[0]]
    assert oak.color.tolist() == [0.5, 0.25, 0]
    assert oak.opacity == 0.8
    assert oak.texture is not None
    assert oak.texture.shape == (2, 4, 4)


def test_a_model_without_faces_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.obj").write_text("v 0 0 0\n")

    with pytest.raises(ValueError, match=r"empty\.obj has no faces"):
        read_obj(tmp_path / "empty.obj")
