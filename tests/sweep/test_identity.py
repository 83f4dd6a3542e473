"""A job's name depends on what it computes and on nothing else."""

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from csd_lab.composition import config_hash
from csd_lab.sweep.identity import HOW, NOT_IDENTITY, canonical, job_hash

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(blacklist_categories=["Cs"]), max_size=10)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
SETTINGS = st.dictionaries(st.text(max_size=8), VALUES, max_size=6)


def shuffled(value):
    """The same value with the keys of all mappings in the opposite order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


def same(a, b):
    """Whether two plain values are equal and of equal types; nan equals nan."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        alike = a == b and math.copysign(1, a) == math.copysign(1, b)
        return alike or (math.isnan(a) and math.isnan(b))
    return a == b


@given(SETTINGS)
def test_the_order_of_keys_does_not_matter(settings):
    assert job_hash(shuffled(settings)) == job_hash(settings)


@given(SETTINGS, SETTINGS)
def test_different_values_are_different_jobs(a, b):
    assert (canonical(a) == canonical(b)) == same(a, b)


@given(SETTINGS, SETTINGS)
def test_what_says_how_to_run_does_not_matter(settings, other):
    for key in NOT_IDENTITY:
        assert job_hash({**settings, key: other}) == job_hash(
            {k: v for k, v in settings.items() if k != key}
        )


@pytest.mark.parametrize("name", HOW)
def test_what_says_how_to_compute_does_not_matter(name):
    group, _, key = name.partition(".")
    plain = {"prior": {"path": "x"}, "trainer": {"max_steps": 3}, "callbacks": {"media": {}}}
    for value in (1, {"deep": [1]}):
        assert job_hash({**plain, group: {**plain[group], key: value}}) == job_hash(plain)
    assert job_hash({**plain, group: {**plain[group], f"{key}_": 1}}) != job_hash(plain)
    assert job_hash({**plain, "other": {key: 1}}) != job_hash({**plain, "other": {key: 2}})


def test_seeds_are_different_jobs():
    names = {job_hash({"seed": seed, "kernel": {"scale": 1.0}}) for seed in range(1000)}
    assert len(names) == 1000
    assert all(len(name) == 12 and int(name, 16) >= 0 for name in names)


def test_a_name_never_changes():
    text = '{"str:kernel":{"str:scale":1.0},"str:prompt":"\\u00e4","str:seed":0}'
    name = job_hash({"seed": 0, "kernel": {"scale": 1.0}, "prompt": "ä"})
    assert name == hashlib.sha256(text.encode()).hexdigest()[:12] == "5554728be980"


def test_what_is_no_setting_is_refused():
    with pytest.raises(TypeError, match="got object"):
        job_hash({"seed": object()})


def test_interpolations_count_by_their_value():
    config = OmegaConf.create({"seed": 3, "data": {"seed": "${seed}"}})
    assert config_hash(config) == job_hash({"seed": 3, "data": {"seed": 3}})


def test_where_a_job_runs_does_not_matter():
    config = {"seed": 3, "writer": {"folder": "${hydra:runtime.output_dir}/x", "at": "${now:%H}"}}
    assert config_hash(OmegaConf.create(config)) == config_hash(OmegaConf.create(config))
    indirect = {**config, "writer": {"folder": "${place}"}, "place": "${hydra.run.dir}"}
    assert config_hash(OmegaConf.create(indirect)) == config_hash(OmegaConf.create(indirect))
    other = {**config, "seed": 4}
    assert config_hash(OmegaConf.create(other)) != config_hash(OmegaConf.create(config))


def test_a_config_that_lacks_a_value_has_a_name():
    assert len(config_hash(OmegaConf.create({"prior": {"path": "???"}}))) == 12
