"""All methods alike, closer than benchmarks/contract.py looks: seeds, kept steps, validation,
applied and undone.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.planning import methods
from perfusion_core import checkpoint
from perfusion_core.errors import UserError
from perfusion_core.sampling import sample
from perfusion_core.subject import Fitted, Subject
from perfusion_core.training import Validation

PROMPT, SEEDS = "A {teddy} on the beach", [1, 2]


@pytest.fixture(scope="module", params=methods.BUILT_IN)
def method(request):
    return methods.load_method(request.param)


@pytest.fixture(scope="module")
def trained(method):
    return method if method.TRAINED else pytest.skip("nothing is trained")


@pytest.fixture(scope="module")
def backbone(tiny_backbone, tiny_c_inv):
    return tiny_backbone


@pytest.fixture(scope="module")
def plain(backbone):
    """The backbone before anything is done to it."""
    return state(backbone)


@pytest.fixture(scope="module")
def subject():
    rng = torch.Generator().manual_seed(5)
    masks = torch.zeros(3, 1, 16, 16)
    masks[:, :, 4:12, 2:9] = 1
    return Subject("teddy", "toy", torch.rand(3, 3, 16, 16, generator=rng) * 2 - 1, masks)


def short(method, steps=4):
    """The method's own recipe for small models, over in a moment."""
    stages = {"word_steps", "attention_steps"} & {f.name for f in dataclasses.fields(method.Config)}
    return dataclasses.replace(method.MINIATURE, steps=steps, batch=4, **dict.fromkeys(stages, 1))


def run(method, backbone, subject, out, **more):
    prior = (
        np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
        if method.PRIOR
        else None
    )
    return method.fit(
        backbone, subject, more.pop("config", short(method)), out, prior=prior, **{"seed": 3} | more
    )


@pytest.fixture(scope="module")
def fitted(method, backbone, plain, subject, tmp_path_factory):
    """One fit of the method, with the state of step 2 kept, and what it told."""
    out = tmp_path_factory.mktemp(method.NAME)
    told = run(method, backbone, subject, out, keep=(2,)) if method.TRAINED else {}
    assert same(plain, state(backbone))
    return out, told


def state(backbone):
    """All that a method might leave behind in a backbone."""
    parts = {"unet": backbone.unet, "vae": backbone.vae, "text_encoder": backbone.text_encoder}
    found = {
        f"{part}.{name}": t.clone()
        for part, model in parts.items()
        for name, t in model.state_dict().items()
    }
    found["modules"] = [
        (part, name, type(m)) for part, model in parts.items() for name, m in model.named_modules()
    ]
    found["hooks"] = [
        len(m._forward_hooks) + len(m._forward_pre_hooks)
        for v in parts.values()
        for m in v.modules()
    ]
    found["gradients"] = [
        p.requires_grad or p.grad is not None for v in parts.values() for p in v.parameters()
    ]
    found["modes"] = [m.training for v in parts.values() for m in v.modules()]
    found["processors"] = [id(processor) for processor in backbone.unet.attn_processors.values()]
    found["pipe"] = {
        name: id(value) for name, value in vars(backbone.pipe).items() if name != "_internal_dict"
    }
    found["pipe's configuration"] = dict(backbone.pipe.config)
    found["tokenizer"] = len(backbone.tokenizer)
    return found


def same(a, b):
    differ = [k for k in a.keys() | b.keys() if k not in a or k not in b or not equal(a[k], b[k])]
    assert not differ, f"not as it was: {sorted(differ)[:5]}"
    return True


def equal(a, b):
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def files(folder: Path):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def draw(method, backbone, folder, texts=PROMPT):
    with method.apply(backbone, {"teddy": Fitted(folder, "toy")}, {}) as write:
        texts = [
            write(text) for text in ([texts] * len(SEEDS) if isinstance(texts, str) else texts)
        ]
        return sample(backbone, texts, SEEDS, steps=3)


# ---- fit ----


def test_the_configuration_can_be_part_of_a_key(method):
    json.dumps(dataclasses.asdict(method.Config()))
    assert isinstance(method.MINIATURE, method.Config)
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        method.MINIATURE.steps = 1


def test_fit_writes_files_that_are_no_pickles_and_tells_what_it_did(trained, fitted):
    out, told = fitted
    json.dumps(told)
    assert (told["steps"], told["steps_run"], len(told["losses"])) == (4, 4, 4) and told[
        "seconds"
    ] > 0
    assert all(np.isfinite(told["losses"]))
    kinds = {Path(name).suffix for name in files(out)}
    assert ".safetensors" in kinds and kinds <= {".safetensors", ".json"}
    told_bytes = sum(len(data) for name, data in files(out).items() if not name.startswith("step-"))
    assert told["bytes"] == told_bytes


def test_one_seed_fixes_every_byte_whatever_the_global_random_state(
    trained, fitted, backbone, subject, tmp_path
):
    out, _ = fitted
    torch.manual_seed(123)
    before = torch.get_rng_state()
    run(trained, backbone, subject, tmp_path / "again", keep=(2,))
    assert torch.equal(before, torch.get_rng_state())
    assert files(tmp_path / "again") == files(out)
    run(trained, backbone, subject, tmp_path / "other", keep=(2,), seed=4)
    assert files(tmp_path / "other") != files(out)


def test_a_kept_step_is_the_fit_as_it_was_then(trained, fitted, backbone, subject, tmp_path):
    """So cd-better could be read off a fit of cd, and the training dynamics off any fit."""
    out, _ = fitted
    run(trained, backbone, subject, tmp_path, config=short(trained, 2))
    kept = {
        name.removeprefix("step-2/"): data
        for name, data in files(out).items()
        if name.startswith("step-2/")
    }
    ended = {name: data for name, data in files(out).items() if not name.startswith("step-2/")}
    assert kept == files(tmp_path) and kept != ended


def test_progress_is_told_and_an_interruption_leaves_the_backbone_alone(
    trained, backbone, plain, subject, tmp_path
):
    told = []

    def progress(step, steps, loss):
        told.append((step, steps))
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(trained, backbone, subject, tmp_path, progress=progress)
    assert told == [(1, 4), (2, 4), (3, 4)]
    assert same(plain, state(backbone))


# a method's ways of training that its recipe for small models leaves out
WAYS = {
    "perfusion": ({"vanilla_rome": True}, {"train_k": True, "accumulate": 2}),
    "cd": ({"resize": True},),
    "classdiffusion": ({"resize": True},),
    "attndreambooth": ({"word_steps": 0}, {"word_steps": 0, "attention_steps": 0}),
}


class Disorderly(TorchDispatchMode):
    """Writes down what adds at places that may be the same: threads do it in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        name, kwargs = call.overloadpacket.__name__, kwargs or {}
        adds = "index_put" in name and kwargs.get("accumulate", len(args) > 3 and args[3])
        if adds or name.startswith(("index_add", "scatter_add", "scatter_reduce")):
            self.found.append(name)
        return call(*args, **kwargs)


def test_no_training_adds_gradients_in_any_order(trained, backbone, subject, tmp_path):
    """Two processes with two threads each train the same bytes;
    tests/running/test_two_threads.py runs them.
    """
    for number, changes in enumerate(({}, *WAYS.get(trained.NAME, ()))):
        config = dataclasses.replace(short(trained, steps=1), **changes)
        with Disorderly() as watched:
            run(trained, backbone, subject, tmp_path / str(number), config=config)
        assert watched.found == [], changes


def test_killed_and_resumed_gives_the_same_files(
    trained, fitted, backbone, subject, tmp_path, monkeypatch
):
    begin = checkpoint.Checkpoint.__init__
    monkeypatch.setattr(
        checkpoint.Checkpoint, "__init__", lambda self, *args: begin(self, *args, seconds=0.0)
    )

    def killer(step, steps, loss):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(trained, backbone, subject, tmp_path, keep=(2,), progress=killer)
    assert (tmp_path / checkpoint.FILE).is_file()
    done = []
    run(
        trained, backbone, subject, tmp_path, keep=(2,), progress=lambda step, *_: done.append(step)
    )
    assert done == [4]
    assert files(tmp_path) == files(fitted[0])


def test_validation_draws_what_is_kept_and_keeps_the_best(
    trained, backbone, plain, subject, tmp_path
):
    """What was judged is what the files give afterwards, but for the rounding of the files."""
    scores, shown = iter([0.5, 0.7]), []

    def judge(images):
        shown.append(images)
        return next(scores)

    validate = Validation(("A {} in a garden", "a {}"), tuple(SEEDS), judge, every=2, steps=3)
    told = run(trained, backbone, subject, tmp_path, validate=validate, keep=(2, 4))
    assert same(plain, state(backbone))
    assert (
        told["validation"] == [(2, 0.5), (4, 0.7)] and told["steps"] == 4 and told["score"] == 0.7
    )
    assert not np.array_equal(*shown)
    best = {name: data for name, data in files(tmp_path).items() if not name.startswith("step-")}
    assert best == files(tmp_path / "step-4")
    for folder, images in zip(("step-2", "step-4"), shown, strict=True):
        drawn = draw(trained, backbone, tmp_path / folder, ["A {teddy} in a garden", "a {teddy}"])
        assert np.abs(drawn.astype(int) - images).max() <= 1


# ---- apply ----


def test_is_applied_and_taken_back(method, fitted, backbone, plain):
    """Other pictures than the plain ones while it is applied, the plain ones again afterwards."""
    base = sample(backbone, "A toy on the beach", SEEDS, steps=3)
    drawn = draw(method, backbone, fitted[0])
    assert same(plain, state(backbone))
    assert np.array_equal(drawn, draw(method, backbone, fitted[0]))
    assert np.array_equal(base, sample(backbone, "A toy on the beach", SEEDS, steps=3))
    assert np.array_equal(base, drawn) == (not method.TRAINED)


def test_an_exception_takes_it_back_as_well(method, fitted, backbone, plain):
    with (
        pytest.raises(ZeroDivisionError),
        method.apply(backbone, {"teddy": Fitted(fitted[0], "toy")}, {}),
    ):
        raise ZeroDivisionError
    assert same(plain, state(backbone))


def test_a_fit_that_is_not_there_leaves_the_backbone_alone(trained, backbone, plain, tmp_path):
    with (
        pytest.raises((OSError, ValueError)),
        trained.apply(backbone, {"teddy": Fitted(tmp_path, "toy")}, {}),
    ):
        pass
    assert same(plain, state(backbone))


def test_a_file_of_the_base_model_itself_is_found_out(trained, backbone, plain, subject, tmp_path):
    """A method whose weights are not really applied is the classic silent failure."""
    if trained.NAME == "perfusion":
        pytest.skip("edits the base without any training; its own tests look at each layer")
    rates = {one.name: 0.0 for one in dataclasses.fields(trained.Config) if one.name[:2] == "lr"}
    config = dataclasses.replace(short(trained, 1), **rates)
    run(trained, backbone, subject, tmp_path, config=config)
    with (
        pytest.raises(AssertionError),
        trained.apply(backbone, {"teddy": Fitted(tmp_path, "toy")}, {}),
    ):
        pass
    assert same(plain, state(backbone))


def test_texts_without_the_concept_stay_as_they_are(method, fitted, backbone):
    with method.apply(backbone, {"teddy": Fitted(fitted[0], "toy")}, {}) as write:
        assert write("A cat on the beach") == "A cat on the beach"


def test_an_unknown_setting_is_named(method, fitted, backbone, plain):
    fits = {"teddy": Fitted(fitted[0], "toy")}
    with pytest.raises(UserError, match="bais"), method.apply(backbone, fits, {"bais": 1}):
        pass
    assert same(plain, state(backbone))


def test_a_fit_does_not_depend_on_where_it_lies(trained, fitted, backbone, tmp_path):
    here, there = fitted[0], tmp_path / "moved"
    shutil.copytree(here, there)
    assert np.array_equal(draw(trained, backbone, here), draw(trained, backbone, there))
    places = (str(here).encode(), str(backbone.place).encode())
    assert not [
        name for name, data in files(here).items() if any(place in data for place in places)
    ]
