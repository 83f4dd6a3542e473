"""Every config file composes, and its keys are arguments of what it builds."""

import inspect
from importlib import import_module

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from csd_lab.build import build
from csd_lab.composition import config_folder
from csd_lab.run_folder import RunFolder
from csd_lab.settings import about_captions

CHOICES = sorted(
    (path.parent.name, path.stem)
    for path in config_folder().glob("*/*.yaml")
    if path.parent.name not in ("hydra", "train", "experiment", "sweep", "hparams_search")
)
DELTAS = sorted(
    (group, path.stem)
    for group in ("experiment", "sweep", "hparams_search")
    for path in config_folder().glob(f"{group}/*.yaml")
)
GIVEN_AT_LAUNCH = {"folder", "frames", "prompt", "prior"}


def composed(*overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("run", overrides=list(overrides))


def targets(node):
    """All nodes below (and with) this one that name a target."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield node
        for key in node:
            if not OmegaConf.is_missing(node, key):
                yield from targets(node[key])
    elif isinstance(node, ListConfig):
        for item in node:
            yield from targets(item)


def bind(node):
    """Fails unless the node's keys are arguments of its target, and none is missing."""
    module, name = node["_target_"].rsplit(".", 1)
    target = getattr(import_module(module), name)
    keys = {key for key in node if not str(key).startswith("_")}
    try:
        signature = inspect.signature(target)
    except ValueError:  # written in C, such as timedelta: it refuses what it does not know
        instantiate(node)
        return
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    unknown = keys - set(signature.parameters)
    assert open_ended or not unknown, f"{node['_target_']} has no argument {unknown}"
    required = {
        key
        for key, p in signature.parameters.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    lacking = required - keys - GIVEN_AT_LAUNCH
    assert node.get("_partial_") or not lacking, f"{node['_target_']} needs {lacking}"


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_binds_to_its_target(group, choice):
    config = composed(f"{group}={choice}")
    nodes = list(targets(config[group]))
    assert nodes or group in ("method", "callbacks")
    for node in nodes:
        bind(node)


@pytest.mark.parametrize(("group", "choice"), DELTAS)
def test_every_set_of_changes_composes_and_says_what_it_is_for(group, choice):
    config = composed(f"{group}={choice}")
    for node in targets(config):
        bind(node)
    text = (config_folder() / group / f"{choice}.yaml").read_text()
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert head[0].startswith("# @package _global_")
    assert len(head) >= 2, "it begins with a comment: what it claims, or is for"


def test_the_defaults_resolve():
    config = composed()
    OmegaConf.resolve(config)


def test_a_mistyped_key_is_refused():
    with pytest.raises(ConfigCompositionException):
        composed("kernel.bandwith.scale=2")


@pytest.mark.parametrize("modality", ["video", "scene"])
@pytest.mark.parametrize("told", ["", "a grey place"])
def test_the_sources_own_estimate_is_under_its_caption(tmp_path, modality, told):
    small = ("data.frames=2",)
    if modality == "scene":
        small = ("data=world_scene", "data.count=2", "data.held_out=1", "data.views=2")
    text = (f"modality.source_prompt={told}",) if told else ()
    config = composed("prior=embedded_text", "method=dds", *small, *text)
    data, module, _ = build(config, RunFolder(tmp_path))
    assert data.task.source_caption
    expected = told or data.task.source_caption
    texts = module.source_prompt if modality == "video" else module.texts[1]
    assert texts == expected


@pytest.mark.parametrize("method", ["prompt_to_prompt", "csd_edit"])
def test_what_is_asked_for_is_told_in_the_words_that_the_prior_reads(method):
    config = composed(f"method={method}", "data.frames=2")
    task = instantiate(config.data).task
    captions = {"captions": f"{task.source_caption} → {task.target_caption}"}
    assert about_captions(config, task) == (captions if method == "prompt_to_prompt" else {})
