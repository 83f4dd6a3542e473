"""Bad pipelines: one line that says what is wrong, before any network is loaded."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from csd_lab.priors import pipeline_folder
from csd_lab.priors.instruct_pix2pix import InstructPix2Pix
from csd_lab.priors.stable_diffusion import StableDiffusion


@pytest.fixture
def folder(tiny_ip2p_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(tiny_ip2p_folder, tmp_path / "pipeline"))


@pytest.fixture
def no_network_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args, **kwargs):
        raise AssertionError("a network was loaded")

    monkeypatch.setattr(UNet2DConditionModel, "from_pretrained", refuse)


def message(path: str | Path, kind: type = InstructPix2Pix) -> str:
    with pytest.raises(ValueError, match="path") as caught:
        kind(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(file: Path, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_weights_that_are_there_in_half_precision_alone_are_taken(folder):
    """As diffusers' save_pretrained(variant="fp16") writes them."""
    whole = InstructPix2Pix(folder, dtype="float32")
    for part, stem in pipeline_folder.WEIGHTS.items():
        file = folder / part / f"{stem}.safetensors"
        state = {name: value.half() for name, value in load_file(file).items()}
        save_file(state, file.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
        file.unlink()
    half = InstructPix2Pix(folder, dtype="float32")
    for name, value in half.unet.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, whole.unet.state_dict()[name].half().float())
    (folder / "vae" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"x")
    assert "vae/diffusion_pytorch_model.fp16.safetensors is broken" in message(folder)


@pytest.mark.usefixtures("no_network_is_loaded")
class TestRefusedBeforeLoading:
    @pytest.mark.parametrize(
        "part",
        [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
            "text_encoder/config.json",
            "text_encoder/model.safetensors",
        ],
    )
    def test_a_missing_file_is_named(self, folder, part):
        (folder / part).unlink()
        assert f"{part} is missing" in message(folder)

    @pytest.mark.parametrize(
        ("part", "named"),
        [
            ("scheduler", "scheduler/scheduler_config.json is missing"),
            ("unet", "unet/config.json is missing"),
            ("vae", "vae/config.json is missing"),
            ("text_encoder", "text_encoder/config.json is missing"),
            ("tokenizer", "the tokenizer is missing"),
        ],
    )
    def test_a_missing_part_is_named(self, folder, part, named):
        shutil.rmtree(folder / part)
        assert named in message(folder)

    @pytest.mark.parametrize(
        ("part", "stem"),
        [
            ("unet", "diffusion_pytorch_model"),
            ("vae", "diffusion_pytorch_model"),
            ("text_encoder", "pytorch_model"),
        ],
    )
    def test_pickled_weights_are_refused(self, folder, part, stem):
        weights = next((folder / part).glob("*.safetensors"))
        torch.save({}, folder / part / f"{stem}.bin")
        weights.unlink()
        assert f"{stem}.bin is a pickle, which is never loaded" in message(folder)

    def test_truncated_weights_are_refused(self, folder):
        weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        assert "unet/diffusion_pytorch_model.safetensors is broken" in message(folder)

    def test_a_shard_that_is_missing_is_named(self, folder):
        part = folder / "unet"
        shard = "diffusion_pytorch_model-00001-of-00001.safetensors"
        (part / "diffusion_pytorch_model.safetensors").unlink()
        index = part / "diffusion_pytorch_model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"conv_in.weight": shard}}))
        assert f"unet/{shard} is missing" in message(folder)
        index.write_text(json.dumps({"weight_map": {}}))
        assert "names no file" in message(folder)

    @pytest.mark.parametrize("content", ["", "{", "[]", "\x00"])
    def test_a_broken_config_is_named(self, folder, content):
        (folder / "vae" / "config.json").write_text(content)
        assert "vae/config.json does not hold a JSON object" in message(folder)

    def test_a_text_to_image_pipeline_is_no_instruct_pix2pix(self, tiny_sd_folder):
        text = message(tiny_sd_folder)
        assert "must take 8 channels, and takes 4" in text
        assert "load it with StableDiffusion" in text

    def test_an_instruct_pix2pix_is_no_text_to_image_pipeline(self, folder):
        text = message(folder, StableDiffusion)
        assert "must take 4 channels, and takes 8" in text
        assert "load it with InstructPix2Pix" in text

    def test_an_inpainting_pipeline_fits_neither(self, folder):
        edit(folder / "unet" / "config.json", in_channels=9)
        assert "it fits no prior here" in message(folder)

    def test_networks_of_another_kind_are_refused(self, folder):
        edit(folder / "vae" / "config.json", _class_name="AutoencoderTiny")
        assert "its vae is a AutoencoderTiny, not a AutoencoderKL" in message(folder)

    def test_a_text_encoder_that_does_not_fit_is_refused(self, folder):
        edit(folder / "text_encoder" / "config.json", hidden_size=12)
        assert "its unet reads texts of width 8, but would get 12" in message(folder)

    def test_a_unet_that_wants_more_than_a_text_is_refused(self, folder):
        edit(folder / "unet" / "config.json", class_embed_type="projection")
        assert "its unet wants more than a text (class_embed_type)" in message(folder)

    def test_a_unet_that_wants_its_guidance_is_refused(self, folder):
        edit(folder / "unet" / "config.json", time_cond_proj_dim=256)
        assert "its unet wants more than a text (time_cond_proj_dim)" in message(folder)

    def test_latents_that_are_shifted_are_refused(self, folder):
        edit(folder / "vae" / "config.json", shift_factor=0.1)
        assert "its latents are shifted (shift_factor)" in message(folder)

    def test_a_pipeline_of_a_transformer_is_refused_by_its_name(self, folder):
        index = {"_class_name": "StableDiffusion3Pipeline", "transformer": ["diffusers", "x"]}
        (folder / "model_index.json").write_text(json.dumps(index))
        assert "it is a StableDiffusion3Pipeline, which has no unet" in message(folder)

    @pytest.mark.parametrize(
        "changes",
        [{"prediction_type": "sample"}, {"_class_name": "FlowMatchEulerDiscreteScheduler"}],
    )
    def test_other_parametrisations_are_refused(self, folder, changes):
        edit(folder / "scheduler" / "scheduler_config.json", **changes)
        assert "epsilon or v_prediction" in message(folder)

    @pytest.mark.parametrize("path", ["no/such/folder", "./nothing", "/nothing/here", "nothing"])
    def test_a_path_that_is_nothing_is_refused(self, path):
        assert f"there is no folder {path!r}" in message(path)

    def test_a_file_is_refused(self, folder):
        assert "there is no folder" in message(folder / "model_index.json")

    def test_a_model_that_is_not_in_the_cache_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(pipeline_folder, "snapshot_download", _offline)
        assert "could not be fetched from the hub: No such model" in message("someone/something")

    def test_a_missing_shipped_folder_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr(pipeline_folder, "ASSETS", tmp_path)
        assert "path='embedded' is not installed" in message("embedded")

    @pytest.mark.parametrize(
        "options",
        [
            {"dtype": "float8"},
            {"attention": "flash"},
            {"condition_scale": "scaled"},
            {"device": "gpu"},
            {"device": "cuda:999"},
        ],
    )
    def test_unknown_options_are_refused(self, folder, options):
        (name, value), *_ = options.items()
        with pytest.raises(ValueError, match=f"{name} must be .*got {value!r}"):
            InstructPix2Pix(folder, **options)


def _offline(*args, **kwargs):
    raise FileNotFoundError("No such model.\nSecond line.")


def test_weights_that_do_not_fit_the_config_are_refused(folder):
    edit(folder / "unet" / "config.json", block_out_channels=[8, 8])
    assert "unet cannot be loaded" in message(folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_lack_a_tensor_are_refused(folder, part):
    file = next((folder / part).glob("*.safetensors"))
    weights = load_file(file)
    lost = max(weights)
    del weights[lost]
    save_file(weights, file, metadata={"format": "pt"})
    assert f"the weights of {part} lack {lost}" in message(folder)


def test_a_hub_name_loads_what_was_fetched(tiny_ip2p_folder, monkeypatch):
    asked = {}

    def fetch(name, allow_patterns, local_files_only):
        asked.update(name=name, patterns=allow_patterns, local_files_only=local_files_only)
        return str(tiny_ip2p_folder)

    monkeypatch.setattr(pipeline_folder, "snapshot_download", fetch)
    InstructPix2Pix("someone/something", local_files_only=True)
    assert asked["name"] == "someone/something"
    assert asked["local_files_only"]
    assert not any(p.endswith((".bin", ".ckpt", "safety_checker")) for p in asked["patterns"])


def test_weights_of_an_unsuitable_model_are_not_fetched(folder, monkeypatch):
    asked = []

    def fetch(name, allow_patterns, local_files_only):
        asked.extend(allow_patterns)
        return str(folder)

    monkeypatch.setattr(pipeline_folder, "snapshot_download", fetch)
    edit(folder / "text_encoder" / "config.json", hidden_size=12)
    with pytest.raises(ValueError, match="must be a pipeline of the kind of Stable Diffusion 1"):
        InstructPix2Pix("someone/something")
    assert asked
    assert all(pattern.endswith(".json") for pattern in asked)


def test_every_file_of_a_pipeline_that_is_needed_is_fetched(tiny_ip2p_folder, tmp_path):
    copy = tmp_path / "fetched"
    for pattern in pipeline_folder.FETCHED:
        for file in tiny_ip2p_folder.glob(pattern):
            target = copy / file.relative_to(tiny_ip2p_folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    InstructPix2Pix(copy)


def test_sharded_weights_load(folder):
    whole = UNet2DConditionModel.from_pretrained(folder / "unet")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    whole.save_pretrained(folder / "unet", max_shard_size="50KB")
    assert (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").is_file()
    loaded = InstructPix2Pix(folder, dtype="float32").unet.state_dict()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, loaded[name])


def test_the_safety_checker_is_not_loaded(folder):
    edit(
        folder / "model_index.json",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
    )
    (folder / "safety_checker").mkdir()
    torch.save({}, folder / "safety_checker" / "pytorch_model.bin")
    InstructPix2Pix(folder)
