"""Preset, TOML, flags and --set resolve to one object; mistakes are one sentence with the nearest
name.
"""

import json
import subprocess
import sys

import pytest

from benchmarks.digests import difference, digest
from benchmarks.planning import methods
from benchmarks.planning.config import PRESETS, Config, as_dict, protocol, resolve, role
from perfusion_core.errors import UserError


def test_later_ones_win(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'preset = "micro"\nimages = 3\nsteps = 7\nseed = 1\n'
        '[points]\nperfusion = ["local-b0.65-t0.15"]\n[fit.ti]\nlr = 0.5\n'
    )
    config = resolve(
        toml=file,
        flags={"images": "4", "steps": None},
        sets=["images=6", "fit.ti.steps=9", "concepts=cat, dog"],
    )
    assert (config.preset, config.images, config.steps, config.seed) == ("micro", 6, 7, 1)
    assert config.points["perfusion"] == ("local-b0.65-t0.15",)
    assert config.fit == {"ti": {"lr": 0.5, "steps": 9}}
    assert config.concepts == ("cat", "dog")
    assert resolve(toml=file, flags={"images": "4"}).images == 4
    assert resolve(toml=file).images == 3
    assert resolve(preset="quick", toml=file).preset == "quick"


def test_the_default_is_the_paper():
    config = resolve()
    assert config == Config()
    assert (config.images, config.steps, config.guidance, config.concepts) == (8, 50, 6.0, ("all",))
    assert len(config.points["perfusion"]) == 9  # four local biases, five global ones


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["imges=4"], "did you mean 'images'"),
        (["images=two"], "a whole number is wanted"),
        (["images=0"], "at least 1"),
        (["guidance=high"], "a number is wanted"),
        (["select_step=perhaps"], "true or false"),
        (["engine=proceses"], "did you mean 'processes'"),
        (["fit.perfusion=3"], "fit.METHOD.OPTION"),
        (["points=local"], "points.METHOD"),
        (["images.of=3"], "has no parts"),
        (["images"], "is not key=value"),
        (["concepts="], "concepts is empty"),
        (["keep=soon"], "whole numbers"),
        (["guidance=nan"], "a finite number is wanted"),
        (["fit.cd.lr=-inf"], "a finite number is wanted"),
    ],
)
def test_mistakes_are_sentences(given, told):
    with pytest.raises(UserError, match=told):
        resolve(sets=given)


def test_counts_of_a_recipe_are_at_least_one():
    for option in ("lora.rank", "pivotal.rank", "pivotal.words", "xti.steps"):
        config = resolve(flags={"methods": option.split(".")[0]}, sets=[f"fit.{option}=0"])
        with pytest.raises(UserError, match=f"fit.{option}=0: at least 1 is needed"):
            methods.resolve_methods(config, miniature=True)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("lora.clip=-1", "a number above 0 is needed"),
        ("oft.clip=0", "a number above 0 is needed"),
        ("dora.weight_decay=-1", "at least 0 is needed"),
        ("oft.prior_weight=-1.0", "at least 0 is needed"),
        ("classdiffusion.class_weight=-1", "at least 0 is needed"),
        ("attndreambooth.mean_weight=-1", "at least 0 is needed"),
        ("attndreambooth.word_steps=-1", "at least 0 is needed"),
        ("pivotal.words=90", "at most 70 is allowed"),
        ("xti.accumulate=3", "does not divide fit.xti.batch=8"),
        ("perfusion.accumulate=3", "does not divide fit.perfusion.batch=16"),
        ("cd.batch=7", "half of each part is class images, so give a batch that 2 divides"),
    ],
)
def test_recipes_that_can_only_fail_are_refused_by_the_plan(given, told):
    """Also of a method that is not planned, whose recipe would else be passed over."""
    for methods_ in (given.split(".")[0], "super"):
        config = resolve(flags={"methods": methods_}, sets=[f"fit.{given}"])
        with pytest.raises(UserError) as caught:
            methods.resolve_methods(config, miniature=False)
        said = str(caught.value)
        assert f"fit.{given.removesuffix('.0')}" in said and told in said and "\n" not in said


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ("cd.batch=7", "batch=7 with accumulate=1: half of each part"),
        ("pivotal.words=90", "words=90: at most 70"),
        ("loha.alpha=0", "alpha=0: a number above 0"),
        ("lokr.factor=0", "factor=0: -1, or at least 2"),
        ("attndreambooth.mean_weight=-1", "mean_weight=-1: at least 0"),
        ("classdiffusion.class_weight=-1", "class_weight=-1: at least 0"),
    ],
)
def test_a_recipe_is_refused_by_the_name_of_the_variant(given, option):
    """As it was set: a method's Config does not know for which of them it is made."""
    base = given.partition(".")[0]
    for name in (f"{base}-selected", *(["cd-better"] if base == "cd" else [])):
        said = refusal_of(name, f"fit.{name}.{given.partition('.')[2]}")
        assert said.startswith(f"fit.{name}.{option}"), said
        assert f"fit.{base}." not in said.replace(f"fit.{name}.", "")


def refusal_of(name, *sets):
    config = resolve(flags={"methods": name}, sets=list(sets))
    with pytest.raises(UserError) as caught:
        methods.resolve_methods(config, miniature=False)
    return str(caught.value)


def test_a_batch_and_its_parts_are_judged_together():
    sets = ["fit.cd.accumulate=3", "fit.cd.batch=12", "fit.xti.batch=9", "fit.xti.accumulate=3"]
    config = resolve(flags={"methods": "cd,cd-better,xti"}, sets=sets)
    assert len(methods.resolve_methods(config, miniature=False)) == 4


def test_an_unknown_key_of_a_method_that_is_not_planned():
    for fit, name in (("fit.dora.mask=true", "dora"), ("fit.cd-better.mask=true", "cd-better")):
        with pytest.raises(UserError, match=f"unknown option of {name} 'mask'; did you mean 'mas"):
            methods.resolve_methods(resolve(flags={"methods": "lora"}, sets=[fit]), miniature=True)
    config = resolve(flags={"methods": "lora"}, sets=["fit.dora.masks=true"])
    assert [one.name for one in methods.resolve_methods(config, miniature=True)] == [
        "super",
        "lora",
    ]


def test_points_of_a_method_that_is_not_there():
    with pytest.raises(
        UserError, match="unknown method in points 'perfusoin'; did you mean 'perfusion'"
    ):
        methods.resolve_methods(
            resolve(sets=["points.perfusoin=local-b0.60-t0.15"]), miniature=True
        )
    with pytest.raises(UserError, match="unknown method in fit 'tii'"):
        methods.resolve_methods(resolve(sets=["fit.tii.lr=1"]), miniature=True)


def test_unknown_preset_and_file(tmp_path):
    with pytest.raises(UserError, match="did you mean 'quick'"):
        resolve(preset="quik")
    with pytest.raises(UserError, match="there is no configuration file"):
        resolve(toml=tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("images = = 3")
    with pytest.raises(UserError, match="is not a TOML file"):
        resolve(toml=tmp_path / "bad.toml")


def test_types_of_values():
    config = resolve(
        sets=[
            "guidance=7",
            "drop_images=true",
            "fit.perfusion.lr=0.02",
            "fit.perfusion.masks=false",
            "fit.cd.sizes=[1, 2]",
        ]
    )
    assert config.guidance == 7.0 and isinstance(config.guidance, float)
    assert config.drop_images is True
    assert config.fit == {"perfusion": {"lr": 0.02, "masks": False}, "cd": {"sizes": (1, 2)}}


def test_presets_are_valid_and_frozen():
    for name in PRESETS:
        config = resolve(preset=name)
        assert json.loads(json.dumps(as_dict(config))) == as_dict(config)
    with pytest.raises(AttributeError):
        resolve().images = 3  # type: ignore[misc]


def test_protocol_leaves_out_choices_and_places():
    config = resolve(preset="micro")
    assert {role(name) for name in as_dict(config)} == {"choice", "place", "protocol"}
    choices = [
        "methods=cd",
        "concepts=all",
        "prompts=all",
        "pairs=a+b",
        "points.cd=default",
        "keep=5",
    ]
    grown = resolve(
        preset="micro", sets=[*choices, "engine=ray", "out=x", "device=cpu", "scorers=auto,dino"]
    )
    assert digest(protocol(grown)) == digest(protocol(config))
    fixed = (
        "images=3",
        "steps=6",
        "guidance=1",
        "seed=1",
        "train_steps=3",
        "fit.cd.lr=1",
        "backbone=x",
        "scorers=dino",
    )
    for change in fixed:
        assert digest(protocol(resolve(preset="micro", sets=[change]))) != digest(
            protocol(config)
        ), change
    assert difference(protocol(config), protocol(resolve(preset="micro", sets=["steps=6"]))) == [
        "steps: 5 -> 6"
    ]


def test_compiling_is_protocol_where_it_is_asked_for():
    plain, asked = (resolve(preset="micro", sets=[f"compile={on}"]) for on in ("false", "true"))
    pinned = "1fcbde9bace9c0fd86bdb841a6de48a6ff1fbe5cb45e878480e31c32797fe042"
    assert digest(protocol(plain)) == digest(protocol(resolve(preset="micro"))) == pinned
    assert difference(protocol(plain), protocol(asked)) == ["compile: null -> true"]


def test_config_needs_no_torch():
    code = (
        "import sys, benchmarks.planning.config; sys.exit('torch' in sys.modules or 'pandas' "
        "in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_toml_file_names_no_code(tmp_path):
    """`plan --config FILE` ran what a downloaded file named."""
    for text in ('method_files = ["evil.py"]', 'method_files = "evil.py"', "[method_files]\na = 1"):
        (tmp_path / "c.toml").write_text(text)
        with pytest.raises(UserError, match=r"names method files; .*: --method-file FILE$"):
            resolve(toml=tmp_path / "c.toml", flags={"method_files": "mine.py"})


def test_a_key_of_an_earlier_version_is_passed_over_and_said(capsys):
    """Commands of committed runs name it."""
    assert resolve(preset="micro", sets=["batch=16"]) == resolve(preset="micro")
    assert "batch=16 is passed over" in capsys.readouterr().err
