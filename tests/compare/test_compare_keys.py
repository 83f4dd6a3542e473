"""Which settings differ, and which of them are one."""

from csd_lab.compare.keys import ABSENT, differing_keys, key_of, label_of
from csd_lab.compare.results import RunRecord
from csd_lab.run_folder import RunFolder


def runs(*configs):
    return [RunRecord(str(i), RunFolder(str(i)), "done", config=c) for i, c in enumerate(configs)]


def families(*configs):
    return {key.name: set(key.family) for key in differing_keys(runs(*configs))}


def test_copies_give_way_to_what_they_copy():
    found = families(
        {"seed": 0, "data.seed": 0, "modality.distiller.seed": 0, "steps": 5},
        {"seed": 1, "data.seed": 1, "modality.distiller.seed": 1, "steps": 5},
    )
    assert found == {"seed": {"data.seed", "modality.distiller.seed"}}


def test_a_text_under_another_name_is_a_copy_and_an_equal_number_is_not():
    found = families(
        {"prompt": "make it night", "data.instruction": "make it night", "a.lr": 1, "b.n": 1},
        {"prompt": "make it red", "data.instruction": "make it red", "a.lr": 2, "b.n": 2},
    )
    assert found == {"prompt": {"data.instruction"}, "a.lr": set(), "b.n": set()}


def test_settings_of_a_part_give_way_to_its_choice_if_choices_decide_them():
    one = {"method": "csd", "kernel": "rbf", "kernel.scale": 1.0, "method.kernel.scale": 1.0}
    two = {"method": "csd", "kernel": "mean", "kernel.flat": True, "method.kernel.flat": True}
    three = {"method": "dds", "kernel": "rbf", "kernel.scale": 1.0}
    found = families(one, two, three)
    assert set(found) == {"method", "kernel"}
    assert {"kernel.scale", "kernel.flat"} <= found["kernel"]


def test_a_setting_that_varies_within_a_choice_stands_for_itself():
    found = families(
        {"kernel": "rbf", "kernel.scale": 1.0},
        {"kernel": "rbf", "kernel.scale": 2.0},
        {"kernel": "mean"},
    )
    assert set(found) == {"kernel", "kernel.scale"}


def test_two_runs_show_all_that_was_changed():
    found = families({"method": "csd", "guidance.text": 3}, {"method": "dds", "guidance.text": 7.5})
    assert set(found) == {"method", "guidance.text"}


def test_labels_are_sorted_as_numbers_then_naturally_then_absent():
    key = key_of(runs({"a": "x10"}, {"a": 10}, {"a": "x2"}, {"a": 9.5}, {}, {"a": None}), "a")
    assert key.labels == ("9.5", "10", "null", "x2", "x10", ABSENT)
    assert [key.labels[cell] for cell in key.cells] == ["x10", "10", "x2", "9.5", ABSENT, "null"]


def test_equal_numbers_are_one_value():
    assert label_of(3) == label_of(3.0) == "3"
    assert not key_of(runs({"a": 3}, {"a": 3.0}), "a").differs
    assert label_of(True) == "true"
    assert label_of(1e-5) == "1e-05"
