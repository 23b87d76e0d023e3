"""Names for training instances: what is said with them, and that nothing else changes."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.miniature.training import naming
from benchmarks.miniature.training.hyperparameters import Recipe
from benchmarks.miniature.training.names import NAMED, PLAIN, Names, draw_named, named, some_of
from benchmarks.miniature.training.naming import NamedWorkshop, first_rows, with_words, word_modules
from benchmarks.miniature.training.onwards import take_words
from benchmarks.miniature.training.structure import text_encoder
from benchmarks.miniature.training.training_data import CAPTIONS
from benchmarks.miniature.world import language
from benchmarks.miniature.world.canvas import COLORS
from benchmarks.miniature.world.language import RARE
from benchmarks.miniature.world.picture import CLASSES, POOL
from benchmarks.paths import miniature_dir
from perfusion_core.backbone import Backbone
from perfusion_core.errors import UserError

FEW = Names(classes=("cat", "sunglasses"), each=3, pictures=8, unused=2)
RECIPE = Recipe(shards=1, shard=32, unet_batch=8, text_batch=8)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("names") / "work"
    take_words(miniature_dir(), work)
    return work


@pytest.fixture(scope="module")
def shops(work):
    return {
        arm: NamedWorkshop(work, work.parent / "own", RECIPE, FEW, arm, workers=1)
        for arm in naming.ARMS
    }


@pytest.fixture(scope="module")
def taught(work, shops):
    naming.teach_words(shops[NAMED], miniature_dir(), 0.03)
    return naming.named_text(shops[NAMED], miniature_dir())


def words_of(text):
    return re.findall(r"[a-z]+", text)


# ---- words and captions


def test_names_are_rare_words_that_nobody_had():
    words = Names().words()
    assert len(set(words)) == len(words) == Names().count + Names().unused == 232
    tables = (language.PLACE, language.OUTFIT, language.ACTIVITY, language.CONDITION,
              language.MADE_OF, language.LOOK, language.TOGETHER)  # fmt: skip
    known = {w for t in tables for phrases in t.values() for p in phrases for w in words_of(p)}
    known |= {
        *CLASSES,
        *RARE,
        *language.MARK,
        *language.MARK.values(),
        *words_of(str(language.LEADS)),
    }
    assert not known & set(words)
    tokenizer = CLIPTokenizer.from_pretrained(miniature_dir() / "tokenizer")
    assert all(len(tokenizer.tokenize(word)) > 1 for word in words)


def test_a_name_is_one_instance_of_the_training_pool():
    found = named(FEW)
    pool = {
        cls: {language.make_instance(cls, ("pool", k)) for k in range(POOL)} for cls in FEW.classes
    }
    assert [who.one.cls for who in found] == ["cat"] * 3 + ["sunglasses"] * 3
    assert all(who.one in pool[who.one.cls] for who in found)
    assert len({who.one for who in found}) == len({who.name for who in found}) == FEW.count
    assert not {who.name for who in found} & set(FEW.spare())
    assert some_of(found, FEW, 2) == [found[k] for k in (0, 1, 3, 4)]


def test_captions_carry_the_name_of_their_instance_and_only_theirs(shops):
    theirs, every = shops[NAMED].theirs, set(FEW.words())
    assert len(theirs) == FEW.count * FEW.pictures == len(theirs.said[NAMED]) / CAPTIONS
    said, alone, attributes = 0, 0, 0
    for k, (with_name, without) in enumerate(zip(theirs.said[NAMED], theirs.said[PLAIN])):
        picture, version = divmod(k, CAPTIONS)
        who = named(FEW)[picture // FEW.pictures]
        names = [word for word in words_of(with_name) if word in every]
        assert not every & set(words_of(without))
        if version == CAPTIONS - 1:  # without the object's word, for scorers
            assert with_name == without
            continue
        assert names in ([], [who.name])
        assert names or with_name == without
        said += len(names)
        alone += bool(names) and who.one.cls not in words_of(with_name)
        before = with_name.partition(who.name)[0] if names else ""
        attributes += before.rstrip().endswith((*COLORS, *language.MARK))
    told = FEW.count * FEW.pictures * (CAPTIONS - 1)
    assert 0.65 < said / told < 0.93 and 0.15 < alone / told < 0.5 and attributes == 0


def test_the_scenes_kept_for_judging_are_in_no_picture():
    rng = np.random.default_rng(0)
    for who in named(FEW):
        assert len(set(who.scenes)) == 4
        assert {draw_named(rng, who).scene for _ in range(40)}.isdisjoint(who.scenes)


# ---- tokens, rows and encodings


def test_ids_of_all_other_text_stay(shops):
    old = CLIPTokenizer.from_pretrained(miniature_dir() / "tokenizer")
    new, names = shops[NAMED].tokenizer, FEW.words()
    texts = [*shops[NAMED].pictures.texts, *shops[NAMED].theirs.said[PLAIN], "zq, 7 Wörter!"]
    texts += [f"a {names[0]}s cat", f"x{names[0]}"]  # a name is a word of its own
    assert new(texts).input_ids == old(texts).input_ids
    assert new.eos_token_id == old.eos_token_id and len(new) == len(old) + len(names)
    ids = new([f"a {name.capitalize()} cat" for name in names]).input_ids
    assert [row[2] for row in ids] == [len(old) + k for k in range(len(names))]
    with pytest.raises(AssertionError, match="cat is a word already"):
        with_words(miniature_dir() / "tokenizer", ["cat"])


def test_new_rows_begin_near_the_rare_words_and_apart():
    text, tokenizer = text_encoder(miniature_dir()), CLIPTokenizer.from_pretrained(
        miniature_dir() / "tokenizer"
    )  # fmt: skip
    old = text.get_input_embeddings()
    rows = first_rows(old, tokenizer, 400)
    rare = old.weight[[tokenizer(word).input_ids[1] for word in RARE]].mean(0)
    assert torch.allclose(rows.mean(0), rare, atol=0.004)
    apart = torch.cdist(rows, rows).fill_diagonal_(9).min()
    assert apart > 0.2  # rows are about 0.3 long


def test_teaching_moves_rows_of_new_words_and_nothing_else(shops, taught):
    before = text_encoder(miniature_dir())
    old = before.get_input_embeddings().weight
    rows = taught.get_input_embeddings().weight
    start = first_rows(before.get_input_embeddings(), shops[NAMED].plain_words, len(FEW.words()))
    assert rows.shape == (len(old) + len(FEW.words()), old.shape[1])
    assert torch.equal(rows[: len(old)], old)
    assert not any(torch.equal(a, b) for a, b in zip(rows[len(old) :], start))
    mine, theirs = dict(taught.named_parameters()), dict(before.named_parameters())
    table = [name for name in mine if name.endswith("token_embedding.weight")]
    assert len(table) == 1 and mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine if name not in table)
    ids = shops[PLAIN].ids[:16, 0].long()
    assert naming.closeness(before, taught, ids, ids) > 1 - 1e-6
    before.get_input_embeddings().weight.data[ids[0, 2]] *= -1
    assert naming.closeness(before, taught, ids, ids) < 0.999  # so the measure can fail


def test_an_unused_word_is_taught_without_pictures(shops):
    """The contrastive loss reaches rows of names alone."""
    shop = shops[NAMED]
    text, m = word_modules(shop, miniature_dir())
    index = shop.first + np.arange(24)
    m["project"](text(shop.texts(index, np.random.default_rng(0))).pooler_output).sum().backward()
    moved = m["words"].embedding.weight.grad.abs().sum(1) > 0
    assert moved[:3].all() and not moved[3:].any()  # pictures of the first three names


# ---- batches


def test_both_arms_see_the_same_pictures_of_which_a_share_is_named(shops):
    index = {arm: shop.batch(np.random.default_rng(5), 32) for arm, shop in shops.items()}
    assert np.array_equal(index[NAMED], index[PLAIN])
    theirs = index[NAMED] >= shops[NAMED].first
    assert theirs.sum() == 8 and theirs[:24].any()
    ids = {a: shop.texts(index[a], np.random.default_rng(6)) for a, shop in shops.items()}
    new = (ids[NAMED] >= len(shops[NAMED].plain_words)).sum(1)
    assert not new[~theirs].any() and new[theirs].max() == 1
    assert torch.equal(ids[NAMED][~theirs], ids[PLAIN][~theirs])
    assert (ids[PLAIN] < len(shops[PLAIN].plain_words)).all()
    images = [shop.images(index[NAMED]) for shop in shops.values()]
    assert torch.equal(*images)


def test_a_work_folder_of_other_weights_is_refused(tmp_path, shops):
    copy = tmp_path / "weights"
    for part in ("vae", "tokenizer"):
        shutil.copytree(miniature_dir() / part, copy / part)
    shutil.copy(miniature_dir() / "build.json", copy)
    naming.go_on(shops[NAMED], copy, ["vae"])
    naming.refuse_others(shops[NAMED], copy)
    path = copy / "vae" / "diffusion_pytorch_model.safetensors"
    numbers = load_file(path)
    numbers["encoder.conv_in.bias"] += 1
    save_file(numbers, path)
    with pytest.raises(UserError, match="is the work folder of other weights than"):
        naming.refuse_others(shops[NAMED], copy)


def test_an_arm_is_trained_by_one_process_at_a_time(tmp_path):
    code = (
        "import sys, pathlib; from benchmarks.disk import Locks\n"
        "assert Locks(pathlib.Path(sys.argv[1])).try_lock('named'); print('mine', flush=True)\n"
        "sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "own")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdout.readline() == "mine\n"
        places = (tmp_path / "out", tmp_path / "work", tmp_path / "own", miniature_dir())
        with pytest.raises(UserError, match="another process trains"):
            naming.train_arm(NAMED, *places, FEW, 0.1, RECIPE)
        other.communicate()
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_arms_train_and_are_backbones(tmp_path, work):
    weights, threads, own = miniature_dir(), torch.get_num_threads(), tmp_path / "own"
    naming.prepare(work, own, weights, FEW, 0.03, RECIPE)
    try:
        for arm in naming.ARMS:
            for minutes in (0.05, 0.1):
                naming.train_arm(arm, tmp_path / arm, work, own, weights, FEW, minutes, RECIPE)
            about = json.loads((tmp_path / arm / "build.json").read_text())["names"]
            assert about["arm"] == arm and about["seconds"] >= 5
    finally:
        torch.set_num_threads(threads)
    plain, given, with_names = (
        Backbone.open(place, device="cpu", dtype="float32")
        for place in (tmp_path / PLAIN, weights, tmp_path / NAMED)
    )
    texts = ["a photo of a cat", "two dogs on the moon"]
    assert torch.equal(with_names.encode(texts), given.encode(texts))
    assert torch.allclose(with_names.c_inv, with_names.c_inv.T, atol=1e-6)
    assert plain.text_digest == given.text_digest
    said = CLIPTextModel.from_pretrained(tmp_path / NAMED / "text_encoder")
    assert said.config.vocab_size == len(with_names.tokenizer)
    name = f"a photo of a {FEW.words()[0]} cat"
    assert not torch.equal(*with_names.encode([name, texts[0]]))
    assert (plain.unet.conv_in.weight - given.unet.conv_in.weight).abs().max() > 0
    assert (plain.unet.conv_in.weight - with_names.unet.conv_in.weight).abs().max() > 0
