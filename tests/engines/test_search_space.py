"""What Hydra's grammar means to a search."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

optuna = pytest.importorskip(
    "optuna", minversion="4", reason="the extra search (Optuna) is not installed"
)

from hydra_plugins.csd_lab_sweep.optuna_sweeper import space_of  # noqa: E402
from optuna.distributions import (  # noqa: E402
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)


def space(*arguments):
    return space_of(OverridesParser.create().parse_overrides(list(arguments)))


@pytest.mark.parametrize(
    ("values", "meaning"),
    [
        ("interval(2,10)", FloatDistribution(2.0, 10.0)),
        ("tag(log,interval(0.5,8))", FloatDistribution(0.5, 8.0, log=True)),
        ("int(interval(1,5))", IntDistribution(1, 5)),
        ("range(5)", IntDistribution(0, 4)),
        ("range(1,8,2)", IntDistribution(1, 7, step=2)),
        ("range(4,0,-1)", IntDistribution(1, 4)),
        ("range(0.5,2.5,0.5)", FloatDistribution(0.5, 2.0, step=0.5)),
        ("range(3,4)", CategoricalDistribution(["3"])),
        ("rbf,imq", CategoricalDistribution(["rbf", "imq"])),
        ("'make it night','change the sky'", None),
    ],
)
def test_values_in_hydras_grammar_are_what_optuna_draws_from(values, meaning):
    found, fixed = space(f"a.b={values}", "seed=3")
    meaning = meaning or CategoricalDistribution(["'make it night'", "'change the sky'"])
    assert found == {"a.b": meaning}
    assert fixed == ["seed=3"]


def test_of_a_setting_the_last_values_count():
    found, fixed = space("a=1,2", "b=interval(0,1)", "a=range(3)", "b=0.5", "c=1", "c=2")
    assert found == {"a": IntDistribution(0, 2)}
    assert fixed == ["b=0.5", "c=2"]


def test_there_must_be_something_to_try():
    with pytest.raises(ValueError, match=r"hydra\.sweeper\.params"):
        space("seed=3")
