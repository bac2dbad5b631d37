"""SAM 2 as a model without state: the only module that imports torch and sam2.

It drives `SAM2Base` itself, because `SAM2ImagePredictor` keeps the picture as state and knows only models of 1024
pixels. For the official models the numbers are the predictor's.

Attention is left to torch's choice among its kernels, of which the math one is always allowed. Choosing kernels here
would switch them for the whole process, under other threads' feet.
"""

import json
import math
import pickle
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec, Self, TypeAlias, TypeVar

import numpy as np
import safetensors
import safetensors.torch
import torch
import yaml
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from labelstudio_sam2.errors import BackendError, DeviceLostError, GpuMemoryError, ModelUnavailableError
from labelstudio_sam2.segmenter.cpu_quota import cpu_quota
from labelstudio_sam2.segmenter.embedding_cache import DamagedEmbeddingError
from labelstudio_sam2.segmenter.prompt import LOGITS_LIMIT, FloatArray, Image, Prompt, Segmentation
from labelstudio_sam2.segmenter.zoo import ModelSpec

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

StoredPrecision: TypeAlias = Literal["fp16", "fp32"]

_FORMAT = 2
"""Of embeddings on disk. One more whenever `embed` or the decoding of pictures comes to other numbers, or `to_bytes` to
other bytes: what is on disk from before is then no longer found."""
_MEAN_RGB = (0.485, 0.456, 0.406)
_STD_RGB = (0.229, 0.224, 0.225)
_STEP_ASIDE: ContextVar[Callable[[], None]] = ContextVar("step_aside", default=lambda: None)
"""What the `embed` of this thread was told to call between two blocks of the image encoder."""
_NO_POINT = np.array([-1], np.int32)
_BOX_LABELS = np.array([2, 3], np.int32)
"""SAM's labels for the top left and the bottom right corner of a box."""
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_DECODER_EXTRAS = {
    "dynamic_multimask_via_stability": True,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}
"""What `build_sam2(apply_postprocessing=True)` sets: an unstable single mask yields to the best of the three."""


_ACCELERATOR_ERRORS: tuple[type[Exception], ...] = (
    (torch.AcceleratorError,) if hasattr(torch, "AcceleratorError") else ()
)
"""What newer versions of torch raise for a failed call of the GPU; older ones a plain `RuntimeError`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sam2Embedding:
    """What the image encoder makes of one image, on the model's device.

    S is the model's input size (1024 for the official models), C its width (256). The tensors are float16, which halves
    what a cached image takes and keeps masks the same (IoU 0.9999), whatever the encoder computed in.

    Attributes:
        image_embed: (1, C, S/16, S/16).
        high_res_feats: (1, C/8, S/4, S/4) and (1, C/4, S/8, S/8), already projected for the mask decoder; empty for a
            model that does without.
        size_hw: (H, W) of the original image.
    """

    image_embed: torch.Tensor
    high_res_feats: tuple[torch.Tensor, ...]
    size_hw: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Memory the tensors hold on the device."""
        return sum(tensor.nbytes for tensor in (self.image_embed, *self.high_res_feats))


def load_sam2(
    spec: ModelSpec,
    checkpoint: Path,
    device: str = "auto",
    precision: str = "auto",
    stored_precision: StoredPrecision = "fp16",
) -> "Sam2Model":
    """Build the model and fill it with the checkpoint's weights. Slow: seconds.

    Args:
        spec: Says which config to build from.
        checkpoint: Verified file, `.safetensors` or what `torch.load(weights_only=True)` takes; a state dict, alone or
            under the key `model`.
        device: `auto` takes cuda, then mps, then cpu.
        precision: Of the image encoder, `fp32`, `fp16` or `bf16`; `auto` is bf16, else fp16, on cuda, and fp32
            elsewhere.
        stored_precision: Of embeddings; `fp32` rounds nothing and takes twice the memory.

    Raises:
        ModelUnavailableError: Config, checkpoint and machine do not fit together; the detail says which.
        GpuMemoryError: It does not fit on the device.
        DeviceLostError: The device has failed.
    """
    net = _build(spec.config_path)
    state_dict = _read_state_dict(checkpoint)
    try:
        net.load_state_dict(state_dict, strict=True)
    except RuntimeError as error:
        raise ModelUnavailableError(f"{checkpoint.name} does not fit {spec.config_path.name}: {error}") from error
    make = _with_device_errors(Sam2Model)
    return make(net, device=device, precision=precision, stored_precision=stored_precision)


def wait_for(device: str) -> None:
    """Wait until a GPU has done what it was told, so that time and errors are told of the work that they belong to."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def memory_bytes(device: str) -> dict[str, int]:
    """Return bytes of a device's memory by kind; nothing for a CPU, whose memory is the process's. Runs nothing on it.

    Kinds are `allocated`, what tensors of this process take; `reserved`, what torch holds for them; and `total`, what
    there is, for all processes.
    """
    if device.startswith("cuda"):
        return {
            "allocated": torch.cuda.memory_allocated(device),
            "reserved": torch.cuda.memory_reserved(device),
            "total": torch.cuda.get_device_properties(device).total_memory,
        }
    if device == "mps":
        return {
            "allocated": torch.mps.current_allocated_memory(),
            "reserved": torch.mps.driver_allocated_memory(),
            "total": torch.mps.recommended_max_memory(),
        }
    return {}


def _with_device_errors(compute: Callable[P, R]) -> Callable[P, R]:
    """Turn what torch raises for a device that is full, or has failed for good, into the catalogue's errors."""

    @wraps(compute)
    def compute_or_raise(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return compute(*args, **kwargs)
        except RuntimeError as error:
            failure = _device_error(error)
            if failure is None:
                raise
        # Outside the handler: as the new error's context, the old one would keep its frames' tensors on the device.
        raise failure

    return compute_or_raise


def _device_error(error: RuntimeError) -> BackendError | None:
    """Return what an error of torch means for the device; None if it is about something else.

    After a failed call of CUDA every further one fails in this process, but for those that only lacked memory.
    """
    text = str(error).partition("\n")[0]  # what follows is how to debug a kernel
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return GpuMemoryError(text)
    if not isinstance(error, _ACCELERATOR_ERRORS) and not text.startswith("CUDA error"):
        return None
    return GpuMemoryError(text) if "out of memory" in text or "ALLOC_FAILED" in text else DeviceLostError(text)


class Sam2Model:
    """SAM 2 for pictures. Thread-safe: `embed` and `predict` write nothing into the model.

    (The sine position encoding fills a cache of its own inside `sam2` at the first `embed`; threads that meet there
    write equal values.)

    Args:
        net: A `SAM2Base`; moved to the device and set to evaluation here.
        device: See `load_sam2`.
        precision: See `load_sam2`.
        stored_precision: See `load_sam2`.

    Attributes:
        device: Where it runs, such as `cuda`.
        precision: What the image encoder computes in: `fp32`, `fp16` or `bf16`.
        stored_precision: What embeddings are kept in.

    Raises:
        ModelUnavailableError: The machine does not have the device.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        *,
        device: str = "auto",
        precision: str = "auto",
        stored_precision: StoredPrecision = "fp16",
    ) -> None:
        self.device = _choose_device(device)
        self.precision = _choose_precision(precision, self.device)
        self.stored_precision = stored_precision
        _keep_to_quota(cpu_quota())
        moved: Any = _move(net, self.device)
        self._net = moved
        if self.device == "cpu":  # a GPU is only told what to do: between two blocks it has not done the first
            for block in moved.image_encoder.trunk.blocks:
                block.register_forward_pre_hook(lambda *_: _STEP_ASIDE.get()())
        self._image_pe = _lay_out_positions(moved)

    @classmethod
    def from_config(
        cls,
        config_path: Path,
        *,
        seed: int = 0,
        device: str = "auto",
        precision: str = "auto",
        stored_precision: StoredPrecision = "fp16",
    ) -> Self:
        """Build a model with random weights, equal for equal seeds: for tests and benchmarks of the numbers alone.

        Raises:
            ModelUnavailableError: The config cannot be used.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = _build(config_path)
        return cls(net, device=device, precision=precision, stored_precision=stored_precision)

    @property
    def low_res_size(self) -> int:
        """M, the side of masks as the model makes and takes them: 256 for the official models."""
        return int(self._net.sam_prompt_encoder.mask_input_size[0])

    @property
    def embedding_format(self) -> str:
        """Names all that makes an embedding another one, beside picture and checkpoint, such as `2-bf16-fp16`."""
        return f"{_FORMAT}-{self.precision}-{self.stored_precision}"

    @_with_device_errors
    def embed(self, image: Image, step_aside: Callable[[], None] = lambda: None) -> Sam2Embedding:
        """Run the image encoder. Slow, once per image.

        Args:
            image: (H, W, 3) uint8 RGB.
            step_aside: Called between two blocks of the encoder on a CPU; what it raises passes through.

        Raises:
            GpuMemoryError: It does not fit.
            DeviceLostError: The device has failed: no further call of this process will be answered.
        """
        # Both modes are a thread's own: entered here, they hold in whichever thread calls.
        with torch.inference_mode(), self._autocast(), _set_for_this_thread(_STEP_ASIDE, step_aside):
            pixels = _normalize(_resize(image, self._net.image_size).to(self.device))
            levels = self._net.forward_image(pixels)["backbone_fpn"][-self._net.num_feature_levels :]
            *high_res_feats, image_embed = levels
            if self._net.directly_add_no_mem_embed:
                image_embed = image_embed + self._net.no_mem_embed.reshape(1, -1, 1, 1)
            stored = _DTYPES[self.stored_precision]
            embedding = Sam2Embedding(
                image_embed=image_embed.to(stored),
                high_res_feats=tuple(level.to(stored) for level in high_res_feats),
                size_hw=(image.shape[0], image.shape[1]),
            )
            wait_for(self.device)
            return embedding

    @_with_device_errors
    def predict(self, embedding: Sam2Embedding, prompt: Prompt, *, multimask_output: bool) -> Segmentation:
        """Run the prompt encoder and the mask decoder, in float32. Fast, once per prompt.

        Args:
            embedding: Made by this model.
            prompt: In pixels of the original image.
            multimask_output: True for three masks; False for one, which is the best of the three where the single
                one is unstable.

        Raises:
            GpuMemoryError: It does not fit.
            DeviceLostError: As `embed`.
        """
        with torch.inference_mode():
            sparse, dense = self._net.sam_prompt_encoder(
                points=self._points(prompt, embedding.size_hw), boxes=None, masks=self._mask_input(prompt)
            )
            low_res_logits, scores, _, _ = self._net.sam_mask_decoder(
                image_embeddings=embedding.image_embed.float(),
                image_pe=self._image_pe,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=multimask_output,
                repeat_image=False,
                high_res_features=[level.float() for level in embedding.high_res_feats],
            )
            return Segmentation(
                low_res_logits=_to_numpy(low_res_logits[0]), scores=_to_numpy(scores[0]), size_hw=embedding.size_hw
            )

    @_with_device_errors
    def to_bytes(self, embedding: Sam2Embedding, key: str) -> bytes:
        """Return an embedding as the bytes of a safetensors file: raw numbers, with a checksum over all of it.

        Args:
            embedding: Made by this model.
            key: What the file is kept under; written into it, so that it is never taken for another picture's.
        """
        levels = (embedding.image_embed, *embedding.high_res_feats)
        names = _names_of_levels(len(levels))
        tensors = {name: level.cpu().contiguous() for name, level in zip(names, levels, strict=True)}
        size_hw = json.dumps(embedding.size_hw)
        metadata = {"key": key, "size_hw": size_hw, "crc32": _checksum(key, size_hw, tensors)}
        return safetensors.torch.save(tensors, metadata)

    @_with_device_errors
    def from_bytes(self, data: bytes, key: str) -> Sam2Embedding:
        """Return the embedding that `to_bytes` made into bytes, on the model's device. Runs no code of the file's.

        Args:
            data: A file's content, from anywhere.
            key: What it was kept under.

        Raises:
            DamagedEmbeddingError: It is not what `to_bytes` of such a model wrote under this key.
            GpuMemoryError: It does not fit.
            DeviceLostError: As `embed`.
        """
        tensors, metadata = _read_safetensors(data)
        size_hw = metadata.get("size_hw", "")
        if {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()} != self._stored_levels():
            raise DamagedEmbeddingError("its tensors are not those of this model's embeddings")
        if metadata.get("key") != key or metadata.get("crc32") != _checksum(key, size_hw, tensors):
            raise DamagedEmbeddingError("it is another one's, or its checksum is wrong")
        height, width = json.loads(size_hw)
        levels = [tensors[name].to(self.device) for name in _names_of_levels(len(tensors))]
        return Sam2Embedding(image_embed=levels[0], high_res_feats=tuple(levels[1:]), size_hw=(height, width))

    @_with_device_errors
    def free_memory(self) -> None:
        """Give the device memory that torch keeps for later back to the driver."""
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        elif self.device == "mps":
            torch.mps.empty_cache()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            torch.device(self.device).type, dtype=_DTYPES[self.precision], enabled=self.precision != "fp32"
        )

    def _stored_levels(self) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Name, dtype and shape of an embedding's tensors, as `Sam2Embedding` says."""
        side, width = self._net.image_size, self._net.hidden_dim
        shapes = [(1, width, side // 16, side // 16)]
        if self._net.use_high_res_features_in_sam:
            shapes += [(1, width // 8, side // 4, side // 4), (1, width // 4, side // 8, side // 8)]
        stored = _DTYPES[self.stored_precision]
        return {name: (stored, shape) for name, shape in zip(_names_of_levels(len(shapes)), shapes, strict=True)}

    def _points(self, prompt: Prompt, size_hw: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Clicks as (1, N, 2) float32 in the model's pixels and (1, N) int32; a box goes first, as two points.

        Without anything asked, one padding point: SAM 2 then finds the most prominent object more often than with no
        point at all (roboflow/inference pull request 593).
        """
        coords, labels = prompt.point_coords, prompt.point_labels
        if prompt.box is not None:
            coords = np.concatenate([prompt.box.reshape(2, 2), coords])
            labels = np.concatenate([_BOX_LABELS, labels])
        if len(labels) == 0:
            if prompt.mask_input is not None:
                return None
            coords, labels = np.zeros((1, 2), np.float32), _NO_POINT
        height, width = size_hw
        in_model = coords / np.array([width, height], np.float32) * np.float32(self._net.image_size)
        return (
            torch.tensor(in_model[None], dtype=torch.float32, device=self.device),
            torch.tensor(labels[None], dtype=torch.int32, device=self.device),
        )

    def _mask_input(self, prompt: Prompt) -> torch.Tensor | None:
        """The mask input as (1, 1, S/4, S/4) float32 logits in -32..32."""
        if prompt.mask_input is None:
            return None
        logits = torch.tensor(prompt.mask_input[None], dtype=torch.float32, device=self.device)
        logits = logits.clamp(-LOGITS_LIMIT, LOGITS_LIMIT)
        if logits.shape[-1] == self.low_res_size:
            return logits
        size = (self.low_res_size, self.low_res_size)
        return torch.nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False, antialias=True)


def _build(config_path: Path) -> torch.nn.Module:
    """Build a `SAM2Base` with random weights, as `build_sam2` does but without Hydra's process-wide state."""
    try:
        config = OmegaConf.load(config_path)
        if not isinstance(config, DictConfig) or "model" not in config:
            raise ModelUnavailableError(f"{config_path} has no entry `model`")
        for name, value in _DECODER_EXTRAS.items():
            OmegaConf.update(config, f"model.sam_mask_decoder_extra_args.{name}", value, force_add=True)
        OmegaConf.resolve(config)
        net = instantiate(config.model)
    except (OSError, yaml.YAMLError, OmegaConfBaseException, HydraException) as error:
        raise ModelUnavailableError(f"{config_path} cannot be used as a model's config: {error}") from error
    if not isinstance(net, torch.nn.Module):
        raise ModelUnavailableError(f"{config_path} describes a {type(net).__name__}, no SAM 2 model")
    return net


@contextmanager
def _set_for_this_thread(variable: ContextVar[T], value: T) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def _read_state_dict(checkpoint: Path) -> Mapping[str, Any]:
    """Read a state dict, alone or under the key `model`. Runs no code of the file's."""
    try:
        if checkpoint.suffix == ".safetensors":
            return safetensors.torch.load_file(checkpoint)
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        raise ModelUnavailableError(
            f"{checkpoint.name} cannot be loaded; it must hold nothing but tensors: a state dict, alone or under the "
            f"key `model` ({type(error).__name__})"
        ) from error
    state_dict = content.get("model", content) if isinstance(content, Mapping) else content
    if not isinstance(state_dict, Mapping):
        raise ModelUnavailableError(f"{checkpoint.name} holds a {type(state_dict).__name__}, no state dict")
    return state_dict


def _names_of_levels(count: int) -> list[str]:
    return ["image_embed", *(f"high_res_feats.{index}" for index in range(count - 1))]


def _checksum(key: str, size_hw: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """Over everything that is kept. Against accidents: files are not synced, so a power cut may leave zeros in them."""
    checksum = zlib.crc32(f"{key} {size_hw}".encode())
    for name in sorted(tensors):
        checksum = zlib.crc32(tensors[name].numpy().data, checksum)
    return f"{checksum:08x}"


def _read_safetensors(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read tensors, on the CPU, and metadata: a header of JSON behind its length in 8 bytes, which `load` checks."""
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise DamagedEmbeddingError(f"it is no safetensors file ({type(error).__name__})") from error
    return tensors, header.get("__metadata__") or {}


def _choose_device(device: str) -> str:
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next((name for name, there in has.items() if there), "cpu")
    if not has.get(torch.device(device).type, True):
        raise ModelUnavailableError(f"DEVICE={device} is asked for, but torch finds none on this machine")
    return device


def _choose_precision(precision: str, device: str) -> str:
    if precision != "auto":
        if precision not in _DTYPES:
            raise ValueError(f"precision must be auto, {', '.join(_DTYPES)}, got {precision!r}")
        return precision
    if not device.startswith("cuda"):
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def _keep_to_quota(cpus: float) -> None:
    """Lower torch's threads, the process's, to the CPUs it may use. They are never raised: OMP_NUM_THREADS holds."""
    if cpus < torch.get_num_threads():
        torch.set_num_threads(max(1, math.ceil(cpus)))


def _move(net: torch.nn.Module, device: str) -> torch.nn.Module:
    # Without gradients autocast keeps no casted weights, a store that threads would share.
    net = net.to(device).eval().requires_grad_(requires_grad=False)
    # elsewhere it was not measured
    return net.to(memory_format=torch.channels_last) if device == "cpu" else net


def _lay_out_positions(net: Any) -> torch.Tensor:
    """Have the mask decoder use positions computed once, in the order of memory its tokens are in (docs/adr/0009).

    The decoder copies the positions it is given into the order that suits it least. So its transformer is given those
    made here instead, and what is returned, to give to the decoder, is of one pixel: that copy then costs nothing.
    """
    image_pe: torch.Tensor = net.sam_prompt_encoder.get_dense_pe().contiguous(memory_format=torch.channels_last)
    net.sam_mask_decoder.transformer.register_forward_pre_hook(partial(_give_positions, image_pe))
    return image_pe[:, :, :1, :1]


def _give_positions(
    image_pe: torch.Tensor, _: torch.nn.Module, args: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Before each forward of the transformer: channels last, so that every token (a pixel) lies in one piece."""
    src, _ignored, tokens = args
    return src.contiguous(memory_format=torch.channels_last), image_pe, tokens


def _resize(image: Image, size: int) -> torch.Tensor:
    """Resize to a square, (1, 3, S, S) uint8 on the CPU.

    Bytes stay bytes: within one grey level of the floats of `sam2.utils.transforms.SAM2Transforms`, in a twentieth of
    their time, and what goes to the device is small. An array that torch cannot share is copied.
    """
    pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)[None]
    return torch.nn.functional.interpolate(pixels, (size, size), mode="bilinear", align_corners=False, antialias=True)


def _normalize(pixels: torch.Tensor) -> torch.Tensor:
    """Turn (1, 3, S, S) uint8 into what the encoder was trained on, float32 on the same device."""
    mean, std = (
        255 * torch.tensor(values, device=pixels.device).reshape(1, 3, 1, 1) for values in (_MEAN_RGB, _STD_RGB)
    )
    return pixels.float().sub_(mean).div_(std)


def _to_numpy(tensor: torch.Tensor) -> FloatArray:
    array: FloatArray = tensor.float().cpu().numpy()
    return array
