"""Write the checkpoint that ships from the training's last one: the averaged weights as fp16 safetensors."""

import hashlib
from pathlib import Path
from typing import Annotated

import safetensors.torch
import torch
import typer


def export(checkpoint: Path, destination: Path) -> str:
    """Write the averaged weights; return the file's SHA-256 in hex."""
    average = torch.load(checkpoint, map_location="cpu", weights_only=True)["average"]
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in average.items()}
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in halves.items()}, destination)
    return hashlib.sha256(destination.read_bytes()).hexdigest()


def main(
    checkpoint: Annotated[Path, typer.Option(help="What `python -m training.train` wrote.")] = Path(
        ".nano/training/last.pt"
    ),
    destination: Annotated[Path, typer.Option(help="Where it goes; what ships is replaced only on purpose.")] = Path(
        ".nano/sam2_nano.safetensors"
    ),
) -> None:
    """Write nano's checkpoint and print what `segmenter/zoo.py` must know of it."""
    sha256 = export(checkpoint, destination)
    typer.echo(f"{destination}\nsize_bytes={destination.stat().st_size:_}\nsha256={sha256}")


if __name__ == "__main__":
    typer.run(main)
