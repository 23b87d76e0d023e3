"""DoRA, LoHa, LoKr and OFT: their files open in peft (and diffusers where it can) and draw what
ours draws; what each refuses.
"""

import json
import shutil
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from baselines_kit import apart, module, ours, quick_fit, stock_draw, stock_pipe, subject
from safetensors.torch import load_file, save_file

from baselines import peft_files
from baselines.adapter import PEFT, Told, proven
from baselines.parts import stamps
from baselines.peft_adapters import adapted_layers
from benchmarks.exchange.adapters import find_adapters
from benchmarks.planning import methods
from perfusion_core.backbone import Backbone
from perfusion_core.errors import UserError
from perfusion_core.sampling import sample
from perfusion_core.subject import Fitted

KINDS = ("dora", "loha", "lokr", "oft")
BASE, MINE = "A toy on the beach", "A sks toy on the beach"


@pytest.fixture(scope="module")
def fit_of(tiny_backbone, tmp_path_factory):
    """-> the fit of a kind and concept, made once."""
    made = {}

    def get(name, who=None):
        key = name, who.name if who else ""
        if key not in made:
            made[key] = quick_fit(name, tiny_backbone, tmp_path_factory.mktemp(name), who, steps=4)
        return made[key]

    return get


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("what", ["fit", "apply"])
def test_what_they_share_looks_as_if_it_stood_in_each_file(name, what):
    """It stands in peft_method.py alone; names, arguments and words are those of the method."""
    this, plain = module(name), getattr(module("lora"), what)
    function = getattr(this, what)
    assert f"def {what}(" not in Path(this.__file__).read_text()
    told = (function.__module__, function.__name__, function.__qualname__)
    assert told == (f"baselines.{name}", what, what)
    theirs, mine = signature(plain).parameters, signature(function).parameters
    assert list(mine) == list(theirs)
    assert all((mine[k].kind, mine[k].default) == (theirs[k].kind, theirs[k].default) for k in mine)
    words = {"fit": "`PeftModel.from_pretrained` opens", "apply": "`sks <super-category>` for each"}
    assert words[what] in function.__doc__
    assert function is not getattr(module("dora" if name != "dora" else "loha"), what)


def test_the_four_names_are_built_in():
    assert set(KINDS) < set(methods.BUILT_IN) and set(KINDS) < set(methods.expanded(["all"]))


# ---- other programs ----


@pytest.fixture(scope="module")
def stock(tiny_backbone):
    """diffusers' own pipeline, and what it draws of the plain word."""
    pipe = stock_pipe(tiny_backbone)
    return pipe, stock_draw(pipe, tiny_backbone, BASE)


@pytest.mark.parametrize("name", KINDS)
def test_other_programs_open_it_and_draw_the_same(name, tiny_backbone, fit_of, stock, tmp_path):
    """peft opens each, diffusers those that it knows; what peft saves again is drawn here."""
    from peft import PeftModel

    pipe, base = stock
    folder, text = fit_of(name).folder, "A {teddy} on the beach"
    mine = ours(name, tiny_backbone, {"teddy": fit_of(name)}, text)
    assert apart(base, mine) > 10
    try:
        PeftModel.from_pretrained(pipe.unet, folder).save_pretrained(tmp_path)
        assert apart(mine, stock_draw(pipe, tiny_backbone, MINE)) <= 1
    finally:
        pipe.unet.unload_lora()
    assert np.array_equal(mine, ours(name, tiny_backbone, {"teddy": Fitted(tmp_path, "toy")}, text))
    if name in ("dora", "lokr"):
        place = {"weight_name": peft_files.WEIGHTS, "prefix": "base_model.model"}
        pipe.unet.load_lora_adapter(folder, **place)
        theirs = stock_draw(pipe, tiny_backbone, MINE)
        pipe.unet.unload_lora()
        assert apart(mine, theirs) <= 1


@pytest.mark.parametrize("name", KINDS)
def test_the_configuration_has_one_order(name, fit_of):
    """peft's own has sets, whose order is another in each process; and versions of libraries."""
    text = (fit_of(name).folder / peft_files.ABOUT).read_text()
    told = json.loads(text)
    assert text == json.dumps(told, indent=1, sort_keys=True) + "\n"
    assert told["target_modules"] == sorted(told["target_modules"])


# ---- drawing ----


@pytest.mark.parametrize("name", KINDS)
def test_two_concepts_in_one_picture(name, tiny_backbone, fit_of):
    """Both show: with either alone it is another picture."""
    fits = {"teddy": fit_of(name), "brew": fit_of(name, subject("brew", "teapot"))}
    before = stamps(tiny_backbone)
    text = "A {teddy} next to a {brew}"
    together = ours(name, tiny_backbone, fits, text)
    for left in fits:
        alone = {other: fit for other, fit in fits.items() if other != left}
        with module(name).apply(tiny_backbone, alone, {}) as write:
            words = write(text).replace(f"{{{left}}}", f"sks {fits[left].super_category}")
            assert apart(sample(tiny_backbone, words, [3, 4], steps=5), together) > 3
    assert stamps(tiny_backbone) == before


def one_after_the_other(name: str, order: tuple[str, str]) -> torch.Tensor:
    """What one layer gives with two adapters of any numbers, in this order."""
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(1)
    model, given = torch.nn.Sequential(torch.nn.Linear(16, 16)), torch.randn(5, 16)
    if name == "lora":
        wanted = LoraConfig(target_modules=["0"], r=4)
    else:
        this = module(name)
        wanted = this.adapter().config(target_modules=["0"], **this.settings_of(this.Config()))
    for adapter in ("one", "two"):
        inject_adapter_in_model(wanted, model, adapter)
    for key, matrix in model.named_parameters():
        if "base_layer" not in key:
            torch.nn.init.uniform_(matrix, 0.1, 0.6)
    [layer] = adapted_layers(model.eval())
    layer.set_adapter(list(order))
    with torch.no_grad():
        return model(given)


@pytest.mark.parametrize("name", ["lora", *KINDS])
def test_changes_add_up_or_follow_each_other(name):
    """As docs/baselines.md has it: of dora and oft the order of the concepts decides."""
    there, back = (one_after_the_other(name, order) for order in (("one", "two"), ("two", "one")))
    far = (there - back).abs().max() / there.abs().max()
    assert far > 1e-3 if name in ("dora", "oft") else far < 1e-5


@pytest.fixture(scope="module")
def half(tiny_pipe_dir):
    backbone = Backbone.open(tiny_pipe_dir, device="cpu", dtype="bfloat16")
    return backbone, sample(backbone, BASE, [3, 4], steps=5)


@pytest.mark.parametrize("name", KINDS)
def test_trains_and_draws_in_bfloat16(name, half, tmp_path):
    backbone, base = half
    fitted = quick_fit(name, backbone, tmp_path, steps=3)
    assert {tensor.dtype for tensor in matrices(fitted.folder).values()} == {torch.float32}
    drawn = ours(name, backbone, {"teddy": fitted}, "A {teddy} on the beach")
    assert apart(drawn, base) > 10


# ---- what is refused ----


def matrices(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / peft_files.WEIGHTS)


def changed(fitted: Fitted, out: Path, tensors=None, **about) -> dict[str, Fitted]:
    """A copy of a fit with other matrices, or with other words in its configuration."""
    shutil.copytree(fitted.folder, out)
    if tensors is not None:
        save_file(tensors, out / peft_files.WEIGHTS)
    file = out / peft_files.ABOUT
    file.write_text(json.dumps(json.loads(file.read_text()) | about))
    return {"teddy": Fitted(out, "toy")}


def refused(name: str, backbone: Backbone, fits: dict[str, Fitted]) -> str:
    """The sentence; the backbone is as it was."""
    before = stamps(backbone)
    with pytest.raises(UserError) as caught, module(name).apply(backbone, fits, {}):
        pass
    assert stamps(backbone) == before and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("name", "other"), list(zip(KINDS, (*KINDS[1:], KINDS[0]))))
def test_a_file_of_another_kind(name, other, tiny_backbone, fit_of):
    said = refused(name, tiny_backbone, {"teddy": fit_of(other)})
    kinds = {"dora": "LORA", "loha": "LOHA", "lokr": "LOKR", "oft": "OFT"}
    assert f"'{kinds[other]}'" in said and f"{name} draws with {kinds[name]}" in said


@pytest.mark.parametrize("name", KINDS)
def test_a_layer_it_does_not_know(name, tiny_backbone, fit_of, tmp_path):
    tensors = {
        key.replace("mid_block", "middle_block"): tensor
        for key, tensor in matrices(fit_of(name).folder).items()
    }
    said = refused(name, tiny_backbone, changed(fit_of(name), tmp_path / "a", tensors))
    assert "has no layer for" in said and "middle_block" in said and "another model" in said


@pytest.mark.parametrize("name", KINDS)
def test_matrices_that_do_not_fit(name, tiny_backbone, fit_of, tmp_path):
    whole = matrices(fit_of(name).folder)
    wider = {key: torch.ones(*(side + 1 for side in one.shape)) for key, one in whole.items()}
    said = refused(name, tiny_backbone, changed(fit_of(name), tmp_path / "wider", wider))
    assert f"does not fit {tiny_backbone.name}, says peft" in said


@pytest.mark.parametrize(("rank", "still"), [(100_000, "lokr_w2"), (2, "lokr_w2_b")])
def test_lokr_starts_at_a_larger_matrix_of_0(rank, still, tiny_backbone, tmp_path):
    """As in LyCORIS, whole or of a low rank; then it moves, and is drawn."""
    near = {"factor": 2, "rank": rank, "weight_decay": 0.0}
    begun = quick_fit("lokr", tiny_backbone, tmp_path / "a", steps=1, lr=1e-9, **near)
    start = matrices(begun.folder)
    zero = {key: bool((one.abs() < 1e-8).all()) for key, one in start.items()}
    assert zero == {key: key.endswith(still) for key in start}
    fitted = quick_fit("lokr", tiny_backbone, tmp_path / "b", steps=4, **near)
    assert apart(ours("lokr", tiny_backbone, {"teddy": fitted}, "A {teddy}"),
                 sample(tiny_backbone, "A sks toy", [3, 4], steps=5)) > 3  # fmt: skip


@pytest.mark.parametrize("name", ["dora", "loha", "lokr"])
def test_matrices_that_are_not_there(name, tiny_backbone, fit_of, tmp_path):
    whole = matrices(fit_of(name).folder)
    fewer = dict(list(whole.items())[1:])
    said = refused(name, tiny_backbone, changed(fit_of(name), tmp_path / "fewer", fewer))
    assert "1 matrices are not those" in said


@pytest.mark.parametrize("name", KINDS)
def test_a_layer_that_is_not_there(name, tiny_backbone, fit_of, tmp_path):
    whole = matrices(fit_of(name).folder)
    gone = next(iter(whole)).removeprefix(peft_files.PREFIX).rpartition(".to_")[0]
    fewer = {key: one for key, one in whole.items() if f"{gone}.to_q." not in key}
    assert len(fewer) < len(whole)
    said = refused(name, tiny_backbone, changed(fit_of(name), tmp_path / "fewer", fewer))
    assert f"has no {gone}.to_q, which {name} on the backbone" in said


def test_other_files_and_words(tiny_backbone, fit_of, tmp_path):
    dora = fit_of("dora")

    def told(place, name="dora", fitted=dora, **how):
        return refused(name, tiny_backbone, changed(fitted, tmp_path / place, **how))

    strange = {"lora_unet_to_q.alpha": torch.ones(1)}
    assert "is no file of dora: 1 of its 1 keys" in told("strange", tensors=strange)
    assert "use_dora is False" in told("plain", use_dora=False)
    assert "rank_pattern is" in told("pattern", rank_pattern={"to_q": 2})
    assert "r is 'four', and a number is wanted" in told("words", r="four")
    assert "says peft" in told("zero", r=0)
    assert "coft is True" in told("bound", "oft", fit_of("oft"), coft=True)
    none = {"teddy": Fitted(tmp_path / "nowhere", "toy")}
    assert "has no adapter_config.json" in refused("dora", tiny_backbone, none)
    torn = changed(dora, tmp_path / "torn")
    (torn["teddy"].folder / peft_files.WEIGHTS).write_bytes(b"torn")
    assert "is no safetensors file" in refused("dora", tiny_backbone, torn)
    (torn["teddy"].folder / peft_files.WEIGHTS).unlink()
    assert f"has no {peft_files.WEIGHTS}" in refused("dora", tiny_backbone, torn)
    broken = {key: one * float("nan") for key, one in matrices(dora.folder).items()}
    assert "numbers that are not finite, in" in told("broken", tensors=broken)


@pytest.mark.parametrize(
    ("name", "option"), [("lora", "rank"), ("dora", "rank"), ("loha", "rank"), ("oft", "blocks")]
)
def test_rank_0_is_refused_before_anything_is_done(name, option):
    with pytest.raises(UserError, match=f"fit.{name}.{option}=0: at least 1 is needed"):
        methods.recipe(module(name), name, {option: 0}, miniature=True)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("lokr", {"factor": 0}, "fit.lokr.factor=0: -1, or at least 2, is needed"),
        ("loha", {"alpha": 0}, "fit.loha.alpha=0: a number above 0 is needed"),
        ("pivotal", {"word_steps": -1}, "fit.pivotal.word_steps=-1: at least 0 is needed"),
    ],
)
def test_numbers_that_cannot_be_are_refused_by_the_plan(name, change, said):
    with pytest.raises(UserError, match=said):
        methods.recipe(module(name), name, change, miniature=True)


def test_blocks_that_divide_no_width_are_no_other_number(tiny_backbone, tmp_path):
    before = stamps(tiny_backbone)
    with pytest.raises(UserError, match=r"^blocks=7 does not divide 16, .* widths of"):
        quick_fit("oft", tiny_backbone, tmp_path / "fit", blocks=7)
    assert stamps(tiny_backbone) == before and not (tmp_path / "fit").exists()


# ---- by `perfbench evaluate` ----


@pytest.mark.parametrize("name", KINDS)
def test_a_folder_of_pefts_is_an_adapter(name, tiny_backbone, fit_of):
    folder = fit_of(name).folder
    [found] = find_adapters([f"mine={folder}"])
    assert (found.kind, found.place, found.name) == (PEFT, folder, "mine")
    assert {file for file, _ in found.files} == {peft_files.ABOUT, peft_files.WEIGHTS}
    [same] = find_adapters([f"mine={folder / peft_files.WEIGHTS}"])
    assert same == found
    before = stamps(tiny_backbone)
    with proven(tiny_backbone, Told("mine", PEFT, "sks {}"), folder, "toy"):
        drawn = sample(tiny_backbone, MINE, [3, 4], steps=5)
    mine = ours(name, tiny_backbone, {"teddy": fit_of(name)}, "A {teddy} on the beach")
    assert np.array_equal(drawn, mine) and stamps(tiny_backbone) == before


def test_plain_lora_of_pefts_and_other_kinds(tiny_backbone, fit_of, tmp_path):
    """What peft saves of a LoRA is none of our methods' files, and is drawn all the same."""
    whole = {k: one for k, one in matrices(fit_of("dora").folder).items() if "magnitude" not in k}
    plain = changed(fit_of("dora"), tmp_path / "plain", whole, use_dora=False)["teddy"].folder
    base = sample(tiny_backbone, MINE, [3, 4], steps=5)
    with proven(tiny_backbone, Told("mine", PEFT, "sks {}"), plain, "toy"):
        assert apart(sample(tiny_backbone, MINE, [3, 4], steps=5), base) > 3
    other = changed(fit_of("dora"), tmp_path / "other", peft_type="VERA")["teddy"].folder
    with (
        pytest.raises(UserError, match="an adapter of the kind 'VERA', and these can be drawn"),
        proven(tiny_backbone, Told("mine", PEFT, "sks {}"), other, "toy"),
    ):
        pass
