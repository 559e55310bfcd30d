from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import pytest

from vc_lightning.common import validation as annotations
from vc_lightning.common.errors import InputError


@pytest.mark.parametrize(
    ("value", "annotation", "fit"),
    [
        (1, int, True),
        (1.0, int, False),
        (True, int, False),
        (1, float, True),
        (True, float, False),
        ("1", float, False),
        ("a", str, True),
        (1, str, False),
        (None, str | None, True),
        (None, str, False),
        ("a", Path | str, True),
        (3, Path | str | None, False),
        ([1, 2.5], Sequence[float], True),
        ([1, "a"], Sequence[float], False),
        ("ab", Sequence[str], False),
        ([0.9, 0.99], tuple[float, float], True),
        ([0.9], tuple[float, float], False),
        ("b", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        ({"_target_": "x"}, Callable[[int], int], True),
        ({"_target_": "x"}, float, False),
        (3, Callable[[int], int], False),
        ({"a": 1}, dict, True),
    ],
)
def test_values_that_fit_type_hints(value, annotation, fit):
    assert annotations.fits(value, annotation) is fit


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"lr": "abc"}, "optimizer.lr=abc: give a number"),
        ({"lr": None}, "optimizer.lr=null: give a number"),
        ({"fused": 3}, "optimizer.fused=3: give true or false or null"),
        ({"betas": [0.9]}, "optimizer.betas=[0.9]: give a list, each entry a number"),
        ({"lr": "x" * 1000}, f"optimizer.lr={'x' * 80}…: give a number"),
    ],
)
def test_error_names_key_value_and_type(changed, sentence):
    config = {"optimizer": {"_target_": "torch.optim.Adam", "lr": 1e-3} | changed}
    with pytest.raises(InputError) as error:
        annotations.require_fitting(config)
    assert str(error.value) == sentence


def test_partial_target_needs_plain_arguments():
    noam = {"_target_": "vc_lightning.training.schedulers.noam", "_partial_": True}
    annotations.require_fitting({"scheduler": noam | {"warmup": 3}})
    with pytest.raises(InputError, match=r"scheduler\.warmup is missing: give an integer"):
        annotations.require_fitting({"scheduler": noam})


def test_checks_lists_of_objects():
    gain = {"_target_": "vc_lightning.data.augmentations.Gain", "decibels": "loud"}
    with pytest.raises(InputError, match=r"data.augmentations\[1\].decibels=loud: give a number"):
        annotations.require_fitting({"data": {"augmentations": [gain | {"decibels": 6}, gain]}})


def test_unknown_keys_are_named():
    target = {"_target_": "vc_lightning.data.augmentations.Gain", "decibels": 3.0}
    annotations.require_fitting(target)
    with pytest.raises(InputError, match=r"^task\.words: Gain has no such key; leave it out"):
        annotations.require_fitting(target | {"words": 1}, "task.")
    annotations.require_fitting({"_target_": "builtins.dict", "any": 1})
