"""Settings: from YAML and the command line to dataclasses."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxr3d_training.engine.schedules import Schedule
from cxr3d_training.engine.settings import (
    build,
    differences,
    digest,
    override,
    parse_override,
    read_yaml,
    to_plain,
)
from napari_cxr3d.errors import InvalidInputError, UnreadableFileError

from .toys import SETTINGS, ToyConfig  # noqa: TID252  (tests is no package)


def built(*changes: str) -> ToyConfig:
    settings = override(SETTINGS, dict(parse_override(c) for c in changes))
    return build(ToyConfig, settings, known=SETTINGS)


def test_dotted_keys_replace_what_the_preset_says() -> None:
    config = built("run.steps=50", "optimizers.mapper.lr=1e-4", "losses.fool=0", "data=phantom:3")
    assert (config.run.steps, config.optimizers["mapper"].lr, config.data) == (
        50,
        1e-4,
        "phantom:3",
    )
    assert config.losses["fool"] == Schedule(0.0)
    assert config.run.batch_size == SETTINGS["run"]["batch_size"]
    assert SETTINGS["run"]["steps"] == 24


def test_a_part_of_a_schedule_can_be_set_alone() -> None:
    assert built("losses.fool.start=0.5").losses["fool"].start == 0.5
    # One that the preset gives as a number has no parts to set alone.
    with pytest.raises(InvalidInputError, match=r"momentum.* single value"):
        built("momentum.to=1.0")


def test_a_field_that_the_preset_leaves_at_its_default_can_be_set() -> None:
    assert built("optimizers.critic.final=0.5").optimizers["critic"].final == 0.5


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ("run.step=5", "run.steps"),
        ("lr=1e-3", "optimizers.mapper.lr"),
        ("optimizers.maper.lr=1", "optimizers.mapper.lr"),
        ("losses.fools=1", "losses.fool"),
        ("moment=0.5", "momentum"),
    ],
)
def test_an_unknown_key_is_refused_with_what_was_meant(change: str, meant: str) -> None:
    with pytest.raises(InvalidInputError, match="There is no setting") as caught:
        built(change)
    assert meant in str(caught.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("run.steps=many", "run.steps"),
        ("run.steps=0", "steps"),
        ("run.steps=2.5", "run.steps"),
        ("run.batch_size=true", "run.batch_size"),
        ("optimizers.mapper.betas=[0.9]", "optimizers.mapper.betas"),
        ("optimizers.mapper.kind=adamax", "optimizers.mapper.kind"),
        ("optimizers.mapper.lr=0", "optimizers.mapper"),
        ("losses.fool.start=2", "losses.fool"),
        ("run.precision=half", "run"),
        ("run=5", "run"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_its_key(change: str, named: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        built(change)
    assert named in str(caught.value)


@pytest.mark.parametrize("text", ["steps", "=5", "run.steps=[1"])
def test_what_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_override(text)


def test_settings_survive_yaml_and_have_one_hash(tmp_path: Path) -> None:
    import yaml

    plain = to_plain(built("losses.fool.start=0.5"))
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(plain))
    again = build(ToyConfig, read_yaml(path))
    assert to_plain(again) == plain
    assert digest(dict(reversed(plain.items()))) == digest(plain)
    assert digest(to_plain(built())) != digest(plain)
    assert differences(to_plain(built()), plain) == {"losses.fool.start": (0.25, 0.5)}


def test_a_file_that_is_no_settings_is_said(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    for text in ("- a\n- b\n", "a: [", "!!python/object/apply:os.getcwd []"):
        path.write_text(text)
        with pytest.raises(UnreadableFileError):
            read_yaml(path)
