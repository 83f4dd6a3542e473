"""Folders in diffusers' pipeline format: found, and checked before any network is loaded.

A folder holds ``model_index.json`` and a subfolder for each part. Only the five parts that a
prior needs are looked at; a safety checker is neither fetched nor loaded. Weights are read from
safetensors alone, since pickled ones can run code when they are loaded.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, final

from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

EMBEDDED = "embedded"
ASSETS = Path(__file__).resolve().parent.parent / "assets"

WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
"""The networks of a pipeline, and the stem of the files that hold their weights."""

PICKLES = (".bin", ".ckpt", ".pt", ".pth")

PREDICTIONS = ("epsilon", "v_prediction")
CONDITIONS = (
    "class_embed_type",
    "num_class_embeds",
    "addition_embed_type",
    "encoder_hid_dim_type",
    "time_cond_proj_dim",
)
"""Settings of a unet that wants more than noise, a timestep and a text."""

SHIFTS = ("shift_factor", "latents_mean", "latents_std")
"""Settings of an autoencoder whose latents are more than scaled."""

CONFIGS = ("model_index.json", "scheduler/*.json", *(f"{part}/config.json" for part in WEIGHTS))
"""What tells whether a model is one for these priors."""

FETCHED = (
    *CONFIGS,
    "tokenizer/*.json",
    "tokenizer/*.txt",
    *(f"{part}/{stem}.safetensors" for part, stem in WEIGHTS.items()),
    *(f"{part}/{stem}.safetensors.index.json" for part, stem in WEIGHTS.items()),
    *(f"{part}/{stem}-?????-of-?????.safetensors" for part, stem in WEIGHTS.items()),
)
"""What is fetched of a model on the hub."""

HALF = "fp16"
"""What diffusers calls weights that are stored in half precision, beside others or alone."""


@final
@dataclass(frozen=True)
class PipelineFolder:
    """A complete pipeline folder.

    Attributes:
        root: the folder.
        unet: configuration of the noise predictor.
        vae: configuration of the autoencoder.
        text_encoder: configuration of the text encoder.
        scheduler: configuration of the scheduler, with the noise schedule.
    """

    root: Path
    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]
    scheduler: dict[str, Any]

    def variant(self, part: str) -> str | None:
        """How a network's weights are stored: ``fp16`` where there are no others; None: usually."""
        stem = WEIGHTS[part]
        usual = (f"{stem}.safetensors", f"{stem}.safetensors.index.json")
        if any((self.root / part / name).is_file() for name in usual):
            return None
        return HALF if (self.root / part / f"{stem}.{HALF}.safetensors").is_file() else None


def open_pipeline(
    path: str | Path, embedded: str, input_latents: int, local_files_only: bool = False
) -> PipelineFolder:
    """Find a pipeline and check that it is whole, before any network is loaded.

    Args:
        path: its folder, the name of a model on the hub (owner/name), or ``embedded`` for the one
            that this package ships.
        embedded: name of the shipped folder.
        input_latents: how many latents the unet takes beside each other: 1 for text-to-image, 2
            with an image condition.
        local_files_only: take a model of the hub from the local cache and never fetch it.

    Returns:
        The folder and its configurations.

    Raises:
        ValueError: there is no such pipeline, a part is missing or broken, weights are there only
            as pickles, or the parts are not those of such a prior.
    """
    local = _find(path, embedded)
    folder = _configs(local or _fetch(str(path), CONFIGS, local_files_only))
    _check_kinds(folder)
    _check_channels(folder, input_latents)
    if local is None:
        _fetch(str(path), FETCHED, local_files_only)
        if halves := [
            f"{part}/{stem}.{HALF}.safetensors"
            for part, stem in WEIGHTS.items()
            if not any((folder.root / part).glob(f"{stem}*.safetensors"))
        ]:
            _fetch(str(path), halves, local_files_only)
    for part, stem in WEIGHTS.items():
        half = folder.variant(part)
        _check_weights(folder.root, part, f"{stem}.{half}" if half else stem)
    _check_tokenizer(folder.root)
    return folder


def _configs(root: Path) -> PipelineFolder:
    """What a folder says of its parts."""
    index = _read(root, "model_index.json")
    if "unet" not in index and "transformer" in index:
        _refuse_kind(root, f"it is a {index.get('_class_name')}, which has no unet")
    scheduler = _read(root, "scheduler/scheduler_config.json")
    configs = {part: _read(root, f"{part}/config.json") for part in WEIGHTS}
    return PipelineFolder(root, scheduler=scheduler, **configs)


def _find(path: str | Path, embedded: str) -> Path | None:
    """The folder; None if the path is the name of a model on the hub."""
    if str(path) == EMBEDDED:
        if not (ASSETS / embedded).is_dir():
            raise ValueError(
                f"path={EMBEDDED!r} is not installed ({ASSETS / embedded} is missing): reinstall "
                "the package, or pass a folder or the name of a model on the hub"
            )
        return ASSETS / embedded
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    name = str(path)
    if folder.exists() or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise ValueError(
            f"path must be a pipeline's folder, the name of a model on the hub (owner/name) or "
            f"{EMBEDDED!r}; there is no folder {name!r}"
        )
    return None


def _fetch(name: str, patterns: Sequence[str], local_files_only: bool) -> Path:
    """The folder of a model on the hub, with what it has of these files."""
    try:
        return Path(
            snapshot_download(
                name, allow_patterns=list(patterns), local_files_only=local_files_only
            )
        )
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"path={name!r} is no folder here, and could not be fetched from the hub: {reason}"
        ) from error


def _refuse(root: Path, reason: str) -> NoReturn:
    raise ValueError(
        f"path={str(root)!r} is no complete pipeline: {reason}; pass a folder that diffusers' "
        "save_pretrained wrote, with safetensors"
    )


def _refuse_kind(root: Path, what: str) -> NoReturn:
    raise ValueError(
        f"path={str(root)!r} must be a pipeline of the kind of Stable Diffusion 1 or 2, and "
        f"{what}: pass one of those"
    )


def _read(root: Path, name: str) -> dict[str, Any]:
    """A JSON object of the folder."""
    if not (root / name).is_file():
        _refuse(root, f"{name} is missing")
    try:
        content = json.loads((root / name).read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        _refuse(root, f"{name} does not hold a JSON object")
    return content


def _check_tokenizer(root: Path) -> None:
    """Raises ValueError unless a tokenizer is there."""
    tokenizer = root / "tokenizer"
    files = {file.name for file in tokenizer.iterdir()} if tokenizer.is_dir() else set()
    if "tokenizer.json" not in files and not {"vocab.json", "merges.txt"} <= files:
        _refuse(root, "the tokenizer is missing (tokenizer.json, or vocab.json with merges.txt)")


def _check_weights(root: Path, part: str, stem: str) -> None:
    """Raises ValueError unless a network's safetensors are there and whole."""
    names = [f"{stem}.safetensors"]
    index = f"{part}/{stem}.safetensors.index.json"
    if (root / index).is_file():
        shards = _read(root, index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            _refuse(root, f"{index} names no file")
        names = sorted({Path(str(shard)).name for shard in shards.values()})
    for name in names:
        file = root / part / name
        if not file.is_file():
            pickles = [each.name for each in (root / part).iterdir() if each.suffix in PICKLES]
            hint = f", and {min(pickles)} is a pickle, which is never loaded" if pickles else ""
            _refuse(root, f"{part}/{name} is missing{hint}")
        try:
            with safe_open(file, framework="pt"):  # reads the header and compares the size
                pass
        except (SafetensorError, OSError) as error:
            _refuse(root, f"{part}/{name} is broken ({error})")


def _check_kinds(folder: PipelineFolder) -> None:
    """Raises ValueError unless the parts are those of a Stable Diffusion 1 or 2, and fit."""
    refuse = partial(_refuse_kind, folder.root)
    kinds = {
        "unet": (folder.unet.get("_class_name"), "UNet2DConditionModel"),
        "vae": (folder.vae.get("_class_name"), "AutoencoderKL"),
        "text_encoder": (folder.text_encoder.get("model_type"), "clip_text_model"),
    }
    for part, (kind, expected) in kinds.items():
        if kind != expected:
            refuse(f"its {part} is a {kind}, not a {expected}")
    prediction = folder.scheduler.get("prediction_type", "epsilon")
    schedule = folder.scheduler.get("_class_name", "")
    if prediction not in PREDICTIONS or "FlowMatch" in schedule:
        refuse(
            f"it predicts {prediction} in a schedule of {schedule}, not "
            f"{' or '.join(PREDICTIONS)} in a variance-preserving diffusion"
        )
    if shifts := [name for name in SHIFTS if folder.vae.get(name) is not None]:
        refuse(f"its latents are shifted ({', '.join(shifts)})")
    if more := [name for name in CONDITIONS if folder.unet.get(name) is not None]:
        refuse(f"its unet wants more than a text ({', '.join(more)})")
    width = folder.unet.get("cross_attention_dim")
    features = folder.text_encoder.get("hidden_size", 512)  # left out of the file if it is 512
    if width != features:
        refuse(f"its unet reads texts of width {width}, but would get {features}")


def _check_channels(folder: PipelineFolder, input_latents: int) -> None:
    """Raises ValueError unless the unet takes so many latents beside each other."""
    channels, latent = folder.unet.get("in_channels"), folder.vae.get("latent_channels")
    if not isinstance(latent, int) or channels == input_latents * latent:
        return
    expected = input_latents * latent
    priors = {latent: "StableDiffusion", 2 * latent: "InstructPix2Pix"}
    remedy = f"load it with {priors[channels]}" if channels in priors else "it fits no prior here"
    raise ValueError(
        f"path={str(folder.root)!r} is no pipeline for {priors[expected]}: its unet must take "
        f"{expected} channels, and takes {channels}; {remedy}, or pass another folder"
    )
