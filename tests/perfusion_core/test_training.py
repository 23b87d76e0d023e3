"""The shared loop and Perfusion's fit: what a step changes, the loss, accumulation, seeds, resume,
validation.
"""

from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_subject
from torch.nn.functional import interpolate

from perfusion_core import checkpoint, training
from perfusion_core.backbone import cross_attentions
from perfusion_core.concept import Concept
from perfusion_core.errors import UserError
from perfusion_core.latents import Latents, latent_masks
from perfusion_core.perfusion import Config, apply, fit
from perfusion_core.prompts import named
from perfusion_core.rank_one import gated_edit
from perfusion_core.sampling import sample
from perfusion_core.student import Student, using
from perfusion_core.subject import Fitted, Subject
from perfusion_core.training import Batch, Diverged, Recipe, Validation, train, weighted_loss

SMALL = Config(steps=4, batch=4, lr=0.03)


@pytest.fixture(scope="module")
def backbone(tiny_backbone, tiny_c_inv):
    return tiny_backbone


@pytest.fixture(scope="module")
def subject():
    return make_subject()


def everything(backbone):
    """All tensors of the backbone, by name."""
    parts = {"unet": backbone.unet, "vae": backbone.vae, "text": backbone.text_encoder}
    return {
        f"{part}.{name}": t.clone()
        for part, model in parts.items()
        for name, t in model.state_dict().items()
    }


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# The loss and the data


def test_the_loss_is_linear_in_the_mask_and_not_divided_by_its_sum():
    rng = torch.Generator().manual_seed(0)
    predicted, target = (
        torch.randn(2, 4, 8, 8, generator=rng),
        torch.randn(2, 4, 8, 8, generator=rng),
    )
    mask = torch.rand(2, 1, 8, 8, generator=rng)
    by_hand = sum(
        mask[n, 0, y, x].double()
        * (predicted[n, c, y, x].double() - target[n, c, y, x].double()) ** 2
        for n in range(2)
        for c in range(4)
        for y in range(8)
        for x in range(8)
    ) / (2 * 4 * 8 * 8)
    assert weighted_loss(predicted, target, mask, 0, 1.0).item() == pytest.approx(
        by_hand.item(), rel=1e-5
    )
    halved = weighted_loss(predicted, target, mask / 2, 0, 1.0)
    assert halved.item() == pytest.approx(by_hand.item() / 2, rel=1e-5)


def test_class_images_have_their_own_mean():
    predicted, target = torch.zeros(3, 4, 2, 2), torch.ones(3, 4, 2, 2)
    target[2] = 3.0
    assert weighted_loss(predicted, target, None, 1, 0.5).item() == pytest.approx(1 + 0.5 * 9)


def test_masks_are_area_resized_then_divided_by_each_ones_own_maximum():
    masks = torch.zeros(3, 1, 16, 16)
    masks[0, 0, :8, :8] = 0.4
    masks[1, 0, 3, 3] = 1.0
    small = latent_masks(masks, 8)
    assert small.amax((1, 2, 3)).tolist() == [1.0, 1.0, 1.0]
    torch.testing.assert_close(small[0], interpolate(masks[:1], (8, 8), mode="area")[0] / 0.4)
    assert small[1].sum() == 1  # one latent position
    assert (small[2] == 1).all()  # nothing was found: the whole picture


def test_flips_take_the_mask_with_them_and_every_image_is_used(backbone, subject):
    pictures = Latents.of(backbone, subject.images, subject.masks, flip=True)
    torch.testing.assert_close(pictures.masks[1], pictures.masks[0].flip(-1))
    # the VAE saw the mirrored picture
    assert not torch.allclose(pictures.mean[1], pictures.mean[0].flip(-1), atol=1e-4)
    rng = torch.Generator().manual_seed(0)
    still = replace(pictures, std=torch.zeros_like(pictures.std))
    seen = {}
    for _ in range(100):
        latents, masks = still.draw(5, rng)
        for latent, mask in zip(latents, masks, strict=True):
            [place] = [
                (v, n) for v in range(2) for n in range(3) if torch.equal(still.mean[v, n], latent)
            ]
            assert torch.equal(still.masks[place], mask)
            seen[place] = seen.get(place, 0) + 1
    assert len(seen) == 6
    assert 200 < sum(count for (view, _), count in seen.items() if view) < 300  # p = 0.5 of 500


def test_an_asymmetric_concept_is_never_flipped(backbone, subject, tmp_path, monkeypatch):
    asked = []
    real = Latents.of
    monkeypatch.setattr(
        Latents,
        "of",
        staticmethod(
            lambda *args, flip, **more: (asked.append(flip), real(*args, flip=flip, **more))[1]
        ),
    )
    for one in (subject, replace(subject, asymmetric=True)):
        fit(backbone, one, replace(SMALL, steps=1), tmp_path / str(one.asymmetric), seed=0)
    assert asked == [True, False]


# What a step changes


@pytest.mark.parametrize("train_k", [False, True])
def test_exactly_what_changes_in_a_step(backbone, subject, tmp_path, train_k):
    """o_star_V of every layer and one embedding row; o_star_K only where it is trained; nothing of
    the backbone.
    """
    before = everything(backbone)
    config = replace(SMALL, steps=1, train_k=train_k)
    start = Student(backbone, subject, config).concept()
    fit(backbone, subject, config, tmp_path, seed=0)
    after = Concept.load(tmp_path / "concept.safetensors")
    assert same(before, everything(backbone))
    assert not torch.equal(after.embedding, start.embedding.half().float())
    assert not torch.equal(after.i_star, start.i_star.half().float())
    for old, new in zip(start.o_v, after.o_v, strict=True):
        moved = (new - old.half().float()).abs()
        assert moved.max() == pytest.approx(0.03, rel=0.1)  # Adam's first step is the learning rate
    assert (after.o_k is not None) == train_k
    if train_k:
        assert all(
            (a - b.half().float()).abs().max() > 0.02
            for a, b in zip(after.o_k, start.o_k, strict=True)
        )
    assert (after.embedding - start.embedding).abs().max() == pytest.approx(0.006, rel=0.1)


def test_locked_keys_are_those_of_the_super_category_and_stay(backbone, subject):
    student = Student(backbone, subject, SMALL)
    for layer, o_k in zip(student.layers.values(), student.o_k, strict=True):
        torch.testing.assert_close(o_k[0], layer.to_k.weight @ student.e_super)
        assert not o_k.requires_grad


def test_i_star_moves_once_a_step_by_the_mean_over_the_whole_effective_batch(
    backbone, subject, tmp_path, monkeypatch
):
    calls = []
    encode = Student.encode
    monkeypatch.setattr(
        Student, "encode", lambda self, texts: (calls.append(len(texts)), encode(self, texts))[1]
    )
    results = []
    for accumulate in (1, 4):
        student = Student(backbone, subject, replace(SMALL, accumulate=accumulate))
        first = student.i_star.clone()
        texts = [
            named(t, "teddy")
            for t in ("a photo of a {}", "image of the {}", "A photograph of {}", "a photo of a {}")
        ]
        encodings = student.encode(texts)
        mean = torch.stack(
            [encodings[0, 5], encodings[1, 4], encodings[2, 4], encodings[3, 5]]
        ).mean(0)
        torch.testing.assert_close(student.i_star, 0.99 * first + 0.01 * mean)
        assert not student.i_star.requires_grad and encodings.requires_grad
        calls.clear()
        fit(
            backbone,
            subject,
            replace(SMALL, steps=3, accumulate=accumulate),
            tmp_path / str(accumulate),
            seed=0,
        )
        assert calls == [4, 4, 4]
        results.append(Concept.load(tmp_path / str(accumulate) / "concept.safetensors"))
    assert results[0].steps == results[1].steps == 3


def test_a_step_uses_the_i_star_that_it_has_just_moved(backbone, subject, tmp_path):
    """Section 1 of the protocol: i_star is updated before its use; a layer never works with that of
    the step before.
    """
    student = Student(backbone, subject, SMALL)
    batch = Batch(torch.zeros(2, 4, 8, 8), ["image of the {teddy}", "A photograph of {teddy}"])
    i_star, seen = student.i_star.clone(), []
    with student.attached():
        layer = next(iter(student.layers.values()))
        layer.to_v.register_forward_hook(
            lambda edited, given, out: seen.append(
                (given[0].detach(), edited.o_star.detach().clone(), out.detach())
            )
        )
        train(
            backbone,
            Recipe(3),
            student.groups(),
            lambda rng: batch,
            student.encode,
            seed=0,
            out=tmp_path,
            save=lambda f: None,
            prepare=student.prepare,
        )
    assert len(seen) == 3
    for encodings, o_star, out in seen:
        old, i_star = i_star, 0.99 * i_star + 0.01 * encodings[:, 4].mean(0)
        new, late = (
            gated_edit(encodings, layer.to_v.weight, i[None], o_star, backbone.c_inv, 0.75, 0.1)
            for i in (i_star, old)
        )
        torch.testing.assert_close(out, new, rtol=1e-5, atol=1e-5)
        assert (out - late).abs().max() > 1e-3


def mean_square(
    backbone, accumulate, tmp_path, texts=("a photo of a {teddy}", "image of the {teddy}")
):
    """The gradient of one step on fixed latents, in micro-batches or at once."""
    student = Student(backbone, Subject("teddy", "toy", torch.zeros(1, 3, 16, 16)), SMALL)
    latents = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    rows = list(texts) * 2
    parts = iter(range(4)) if accumulate == 4 else None

    def draw(rng):
        if parts is None:
            return Batch(latents, rows)
        n = next(parts)
        return Batch(latents[n : n + 1], rows[n : n + 1])

    noise = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    at = iter(range(4))
    with pytest.MonkeyPatch.context() as patch, student.attached():
        real = torch.randn
        patch.setattr(
            torch,
            "randn",
            lambda shape, **k: noise if shape[0] == 4 else noise[(n := next(at)) : n + 1],
        )
        patch.setattr(torch, "randint", lambda high, size, **k: torch.full(size, 300))
        recipe = Recipe(1, accumulate)
        log = train(
            backbone,
            recipe,
            student.groups(),
            draw,
            student.encode,
            seed=0,
            out=tmp_path,
            save=lambda f: None,
            prepare=student.prepare,
        )
        patch.setattr(torch, "randn", real)
    return log["losses"][0], student.embedding.grad, [o.grad for o in student.o_v]


def test_accumulation_gives_the_same_gradient(backbone, tmp_path):
    loss, embedding, o_v = mean_square(backbone, 1, tmp_path)
    loss4, embedding4, o_v4 = mean_square(backbone, 4, tmp_path)
    assert loss == pytest.approx(loss4, rel=1e-5)
    torch.testing.assert_close(embedding, embedding4, rtol=1e-3, atol=1e-7)
    for a, b in zip(o_v, o_v4, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-7)


# The run


def test_one_seed_fixes_everything(backbone, subject, tmp_path):
    logs = [
        fit(backbone, subject, SMALL, tmp_path / str(n), seed=seed)
        for n, seed in enumerate((3, 3, 4))
    ]
    assert logs[0]["losses"] == logs[1]["losses"] != logs[2]["losses"]
    files = [(tmp_path / str(n) / "concept.safetensors").read_bytes() for n in range(3)]
    assert files[0] == files[1] != files[2]


def test_checkpoints_are_often_where_they_are_cheap(tmp_path):
    """A fit that is killed every minute has to end; one that takes seconds to write, to go on."""
    kept = checkpoint.Checkpoint(tmp_path, [], None, None, {}, None)
    assert kept.wait <= 20
    for cost, wait in ((0.1, 20), (1.0, 50), (60.0, 120)):
        kept.cost = cost
        assert kept.wait == pytest.approx(wait)


def test_killed_and_resumed_gives_the_same_file_and_seconds(
    backbone, subject, tmp_path, monkeypatch
):
    clock = count()  # a second every time that it is looked at
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    always = checkpoint.Checkpoint.__init__
    monkeypatch.setattr(
        checkpoint.Checkpoint, "__init__", lambda self, *a: always(self, *a, seconds=0.0)
    )
    score = Validation(
        ("A {} in a garden",), (1,), lambda images: float(images.mean()), every=2, steps=2
    )
    config = replace(SMALL, steps=6)
    whole = fit(backbone, subject, config, tmp_path / "whole", seed=1, validate=score)

    def killer(step, steps, loss):
        if step == 4:
            raise KeyboardInterrupt

    before = everything(backbone)
    with pytest.raises(KeyboardInterrupt):
        fit(backbone, subject, config, tmp_path / "killed", seed=1, validate=score, progress=killer)
    assert same(before, everything(backbone)) and "encode_prompt" not in vars(backbone.pipe)
    steps = []
    again = fit(
        backbone,
        subject,
        config,
        tmp_path / "killed",
        seed=1,
        validate=score,
        progress=lambda *a: steps.append(a[0]),
    )
    assert steps == [4, 5, 6]
    assert all(
        again[name] == whole[name]
        for name in ("losses", "validation", "seconds", "images_per_second")
    )
    assert (tmp_path / "killed/concept.safetensors").read_bytes() == (
        tmp_path / "whole/concept.safetensors"
    ).read_bytes()
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["concept.safetensors"]


def test_validation_keeps_the_best_step_and_keep_keeps_what_it_is_told(backbone, subject, tmp_path):
    scores = iter([0.5, 0.7, 0.6])
    shown = []
    validate = Validation(
        ("A {} in a garden", "a {}"),
        (1, 2),
        lambda images: (shown.append(images), next(scores))[1],
        2,
        2,
    )
    before = everything(backbone)
    config = replace(SMALL, steps=6)
    log = fit(backbone, subject, config, tmp_path, seed=0, validate=validate, keep=(1, 4))
    assert same(before, everything(backbone))
    assert log["validation"] == [(2, 0.5), (4, 0.7), (6, 0.6)]
    assert (log["steps"], log["score"], log["steps_run"], len(log["losses"])) == (4, 0.7, 6, 6)
    assert Concept.load(tmp_path / "concept.safetensors").steps == 4
    assert (tmp_path / "concept.safetensors").read_bytes() == (
        tmp_path / "step-4/concept.safetensors"
    ).read_bytes()
    assert Concept.load(tmp_path / "step-1/concept.safetensors").steps == 1
    assert [images.shape for images in shown] == [(2, 16, 16, 3)] * 3
    assert not np.array_equal(shown[0], shown[1])
    with apply(backbone, {"teddy": Fitted(tmp_path, "toy")}, {}) as write:
        drawn = sample(
            backbone, [write(named(t, "teddy")) for t in validate.templates], [1, 2], steps=2
        )
    # what was judged is what was kept, but for its float16
    assert np.abs(drawn.astype(int) - shown[1]).max() <= 1


def test_the_bar_has_the_loss_and_images_a_second(monkeypatch):
    import io

    import tqdm

    from perfusion_core.training import bar

    real, shown = tqdm.tqdm, io.StringIO()
    there = {"disable": False, "file": shown, "mininterval": 0}  # as on a terminal
    monkeypatch.setattr(tqdm, "tqdm", lambda **more: real(**{**more, **there}))
    progress = bar("perfusion cat", batch=16)
    progress(3, 4, 0.5)  # a training that goes on
    progress(4, 4, 0.25)
    last = shown.getvalue().split("\r")[-1]
    assert "64/64" in last and " images/s" in last and "loss=0.2500" in last and "step=4" in last


def test_divergence_stops_with_a_hint(backbone, subject, tmp_path):
    with pytest.raises(
        Diverged, match=r"the loss is (nan|inf) at step \d; lower the learning rate \(now 1e\+30"
    ):
        fit(backbone, subject, replace(SMALL, lr=1e30), tmp_path, seed=0)
    assert not (tmp_path / "concept.safetensors").exists()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_trains_in_half_precision_and_with_checkpointing_alike(
    tiny_pipe_dir, tiny_c_inv, subject, tmp_path, dtype
):
    from perfusion_core.backbone import Backbone

    backbone = Backbone.open(tiny_pipe_dir, device="cpu", dtype=dtype)
    losses = [
        fit(backbone, subject, replace(SMALL, checkpointing=on), tmp_path / str(on), seed=0)[
            "losses"
        ]
        for on in (False, True)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4 if dtype == "float32" else 0.02)
    assert not backbone.unet.is_gradient_checkpointing


def test_the_loss_falls(backbone, subject, tmp_path):
    """Against the same draws of pictures, noise and times without learning."""
    config = replace(SMALL, steps=60, batch=16)
    still = fit(
        backbone, subject, replace(config, lr=0.0, lr_embedding=0.0), tmp_path / "still", seed=0
    )["losses"]
    losses = fit(backbone, subject, config, tmp_path / "learnt", seed=0)["losses"]
    assert losses[0] == still[0]
    assert all(a < b for a, b in zip(losses[-20:], still[-20:], strict=True))
    assert np.mean(losses[-20:]) < 0.97 * np.mean(still[-20:])


# Ablations


def test_one_shot_and_no_mask(backbone, subject, tmp_path, monkeypatch):
    asked = []
    real = Latents.of
    monkeypatch.setattr(
        Latents,
        "of",
        staticmethod(
            lambda b, images, masks, flip, **more: (
                asked.append((len(images), masks is None)),
                real(b, images, masks, flip, **more),
            )[1]
        ),
    )
    fit(backbone, subject, replace(SMALL, steps=1, images=1), tmp_path / "a", seed=0)
    fit(backbone, subject, replace(SMALL, steps=1, masks=False), tmp_path / "b", seed=0)
    assert asked == [(1, False), (3, True)]
    with pytest.raises(UserError, match="has no masks"):
        fit(backbone, replace(subject, masks=None), SMALL, tmp_path / "c", seed=0)


def test_vanilla_rome_shows_the_mismatch_of_training_and_inference(backbone, subject, tmp_path):
    """Fig. A.1: trained at one position, the edit then changes others as well; ours changes the
    same in both.
    """
    fit(backbone, subject, replace(SMALL, vanilla_rome=True), tmp_path / "rome", seed=0)
    fit(backbone, subject, SMALL, tmp_path / "ours", seed=0)
    rome, ours = (
        Concept.load(tmp_path / name / "concept.safetensors") for name in ("rome", "ours")
    )
    assert (rome.gate, ours.gate) == ("linear", "sigmoid")
    text, gap = "a photo of a {teddy}", {}
    for name, concept, config in (
        ("rome", rome, replace(SMALL, vanilla_rome=True)),
        ("ours", ours, SMALL),
    ):
        student = Student(backbone, subject, config)
        with torch.no_grad():
            student.embedding.copy_(concept.embedding)
            student.i_star.copy_(concept.i_star)
            student.edit.basis = student.basis()
            for o, learned in zip(student.o_v, concept.o_v, strict=True):
                o.copy_(learned[None])
            encodings, student.waiting = student.encode_texts([text])
            with student.attached():
                student.prepare(encodings)
                trained = [layer.to_v(encodings) for layer in student.layers.values()]
            with using(backbone, {"teddy": concept}, "local", 0.75, 0.1):
                used = [layer.to_v(encodings) for layer in cross_attentions(backbone.unet).values()]
        gap[name] = max(float((a - b).abs().max()) for a, b in zip(trained, used, strict=True))
    assert gap["ours"] < 1e-5
    assert gap["rome"] > 0.05


def test_vanilla_rome_starts_from_the_mean_over_the_templates_and_trains_only_o_star_v(
    backbone, subject, tmp_path
):
    config = replace(SMALL, vanilla_rome=True, steps=2, accumulate=2)
    student = Student(backbone, subject, config)
    fit(backbone, subject, config, tmp_path, seed=0)
    after = Concept.load(tmp_path / "concept.safetensors")
    assert torch.equal(after.embedding, student.embedding.detach().half().float())
    assert torch.equal(after.i_star, student.i_star.half().float())
    assert all(
        not torch.equal(a, b[0].detach().half().float())
        for a, b in zip(after.o_v, student.o_v, strict=True)
    )
    assert not torch.allclose(student.i_star, student.e_super)


# Putting it to use


def test_apply_restores_and_points_matter(backbone, subject, tmp_path):
    fit(backbone, subject, replace(SMALL, steps=20), tmp_path, seed=0)
    before = everything(backbone)
    fits = {"teddy": Fitted(tmp_path, "toy")}
    pictures = []
    for point in ({}, {"bias": 0.3}, {"lock": "global"}, {"bias": 0.3, "temperature": 0.3}):
        with apply(backbone, fits, point) as write:
            pictures.append(sample(backbone, write("A {teddy} on the beach"), [1], steps=3))
        assert same(before, everything(backbone))
    assert all(not np.array_equal(a, b) for n, a in enumerate(pictures) for b in pictures[:n])
    with pytest.raises(RuntimeError), apply(backbone, fits, {}):
        raise RuntimeError
    assert same(before, everything(backbone)) and "encode_prompt" not in vars(backbone.pipe)
    with (
        pytest.raises(UserError, match="did you mean 'bias'"),
        apply(backbone, fits, {"bais": 0.3}),
    ):
        pass


def test_the_gradient_of_repeated_texts_has_one_order_of_adding():
    """Sixteen prompts of nine texts, as Perfusion trains. Two threads let an index add gradients in
    any order.
    """
    from perfusion_core.student import repeated

    rows = [0, 3, 3, 8, 1, 2, 0, 7, 7, 7, 5, 4, 6, 1, 0, 3]
    gradient = torch.randn(16, 32, 160, generator=torch.Generator().manual_seed(0))
    in_order = torch.zeros(9, 32, 160)
    for row, part in zip(rows, gradient):
        in_order[row] += part
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for _ in range(150):
                encodings = torch.zeros(9, 32, 160, requires_grad=True)
                repeated(encodings, rows).backward(gradient)
                assert encodings.grad is not None and torch.equal(encodings.grad, in_order)
    finally:
        torch.set_num_threads(threads)


def test_looks_that_share_a_batch_choose_the_same_step(backbone, subject, tmp_path, monkeypatch):
    """Drawn by twos, by ones in batches of the same shape, and where a checkpoint comes between."""
    from perfusion_core import training, validation

    shown = []
    real = validation.draw_what_fits
    monkeypatch.setattr(
        validation,
        "draw_what_fits",
        lambda *a, **more: (shown.append(len(a[1])), real(*a, **more))[1],
    )
    score = Validation(
        ("A {} in a garden", "a {}"), (1, 2), lambda images: float(images.std()),
        every=1, steps=2, rows=8, at_once=2,
    )  # fmt: skip
    config, found = replace(SMALL, steps=5), {}
    found["twos"] = fit(backbone, subject, config, tmp_path / "twos", seed=1, validate=score)
    assert shown == [4, 4, 2] and shown.clear() is None
    ones = replace(score, at_once=1)
    found["ones"] = fit(backbone, subject, config, tmp_path / "ones", seed=1, validate=ones)
    assert shown == [2] * 5 and shown.clear() is None
    monkeypatch.setattr(training.Checkpoint, "due", property(lambda self: True))
    found["saved"] = fit(backbone, subject, config, tmp_path / "saved", seed=1, validate=score)
    assert shown == [2] * 5
    same = ("steps", "score", "validation", "losses")
    assert all([log[key] for key in same] == [found["twos"][key] for key in same]
               for log in found.values())  # fmt: skip
    for name in found:
        assert (tmp_path / name / "concept.safetensors").read_bytes() == (
            tmp_path / "twos" / "concept.safetensors"
        ).read_bytes()
        assert [path.name for path in (tmp_path / name).iterdir()] == ["concept.safetensors"]
