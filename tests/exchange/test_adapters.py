"""Which files there are, in which order, under which names and triggers; nothing is loaded."""

import pytest
import torch
from safetensors.torch import save_file

from baselines.adapter import EMBEDDING, LORA, TOKEN
from benchmarks.exchange.adapters import find_adapters, guests_of
from perfusion_core.errors import UserError


def lora(path, value=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"unet.x.lora.up.weight": torch.full((2, 2), value)}, path)
    return path


def word(path, key="emb_params"):
    save_file({key: torch.ones(1, 4)}, path)
    return path


def names(*given):
    return [adapter.name for adapter in find_adapters([str(one) for one in given])]


def test_kohyas_epochs_stand_in_their_order_and_the_end_last(tmp_path):
    for stem in ("sd15-cat", "sd15-cat-000010", "sd15-cat-000002"):
        lora(tmp_path / f"{stem}.safetensors")
    wanted = ["sd15-cat-000002", "sd15-cat-000010", "sd15-cat"]
    assert names(tmp_path) == wanted
    assert names(*sorted(tmp_path.iterdir(), reverse=True)) == wanted


def test_diffusers_checkpoints_stand_in_their_order_and_the_end_last(tmp_path):
    for place in ("checkpoint-1000", "checkpoint-500", "."):
        lora(tmp_path / "out-2" / place / "pytorch_lora_weights.safetensors")
    assert names(tmp_path / "out-2") == ["checkpoint-500", "checkpoint-1000", "out-2"]


def test_a_textual_inversions_steps_stand_before_its_end(tmp_path):
    for stem in ("learned_embeds", "learned_embeds-steps-1000", "learned_embeds-steps-500"):
        (tmp_path / "out").mkdir(exist_ok=True)
        word(tmp_path / "out" / f"{stem}.safetensors")
    steps = [f"learned_embeds-steps-{number}" for number in (500, 1000)]
    assert names(tmp_path / "out") == [*steps, "out"]


@pytest.mark.parametrize(
    "wanted",
    [["my_v2-000001", "my_v2-000002", "my_v2"], ["my_v2-000003", "my_v2"], ["e1", "e10", "e12"]],
)
def test_a_name_that_ends_in_a_digit_is_the_end_of_its_epochs(tmp_path, wanted):
    for stem in wanted:
        lora(tmp_path / f"{stem}.safetensors")
    assert names(tmp_path) == wanted


def test_links_of_a_cache_are_followed_and_named_as_they_stand(tmp_path):
    blob = lora(tmp_path / "blobs" / "0123abcd")
    one = linked(tmp_path / "snapshots" / "epoch.safetensors", blob)
    usual = linked(tmp_path / "cat" / "pytorch_lora_weights.safetensors", blob)
    assert names(one) == names(one.parent) == ["epoch"]
    assert names(usual) == names(usual.parent) == ["cat"]
    pipe = tmp_path / "pipe"
    linked(pipe / "model_index.json", made(tmp_path / "blobs" / "index", b"{}"))
    linked(pipe / "unet" / "diffusion_pytorch_model.safetensors", blob)
    [found] = find_adapters([str(pipe)])
    assert found.name == "pipe" and found.files[0][1].read_bytes() == blob.read_bytes()


def test_without_numbers_they_stand_as_given(tmp_path):
    files = [lora(tmp_path / f"{stem}.safetensors") for stem in ("b", "a", "c")]
    assert names(*files) == ["b", "a", "c"]


def test_a_name_may_be_given_and_signs_that_paths_do_not_take_are_left_out(tmp_path):
    first, second = lora(tmp_path / "lora.safetensors"), lora(tmp_path / "my cat (1).safetensors")
    assert names(f"mine={first}", second) == ["my-cat-1", "mine"]


def test_kinds_are_told_by_keys(tmp_path):
    found = find_adapters(
        [str(lora(tmp_path / "l.safetensors")), str(word(tmp_path / "w.safetensors", "<cat>"))]
    )
    assert [(one.kind, one.word) for one in found] == [(LORA, ""), (EMBEDDING, "<cat>")]


@pytest.mark.parametrize(
    ("trigger", "written"),
    [
        ("", TOKEN),
        ("{}", f"{TOKEN} {{}}"),
        ("cat-word", TOKEN),
        ("cat-word {}", f"{TOKEN} {{}}"),
        ("<cat> painted {}", f"{TOKEN} painted {{}}"),
    ],
)
def test_the_word_of_an_embedding_stands_where_the_trigger_says(tmp_path, trigger, written):
    [guest] = guests_of(find_adapters([str(word(tmp_path / "w.safetensors", "<cat>"))]), trigger)
    assert guest.given.about["trigger"] == written


def test_the_files_bytes_and_the_trigger_are_part_of_the_key(tmp_path):
    place = tmp_path / "one.safetensors"

    def key(value, trigger):
        [guest] = guests_of(find_adapters([str(lora(place, value))]), trigger)
        return guest.given.digest

    keys = [key(1.0, "sks {}"), key(2.0, "sks {}"), key(1.0, "ohwx {}")]
    assert len(set(keys)) == 3 and key(1.0, "sks {}") == keys[0]


def pickled(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"unet.x.lora.up.weight": torch.ones(2, 2)}, path)
    return path


def made(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tensors(path, **named):
    save_file({key.replace("__", "."): torch.ones(1) for key in named}, path)
    return path


def linked(path, to):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(to)
    return path


def of_pickles(folder):
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    pickled(folder / "unet" / "diffusion_pytorch_model.bin")
    return folder


def two(folder):
    for number in (1, 2):
        lora(folder / f"{number}.safetensors")
    return folder


BAD = {  # what is wrong -> what is given, and what the sentence says
    "nothing there": (lambda t: t / "none", "there is no"),
    "a pickle": (lambda t: pickled(t / "a.pt"), "is a pickle"),
    "a checkpoint": (lambda t: pickled(t / "a.ckpt"), "is a pickle"),
    "a pickle under another name": (lambda t: pickled(t / "a.safetensors"), "no safetensors file"),
    "a folder of a pickle": (
        lambda t: pickled(t / "f" / "pytorch_lora_weights.bin").parent,
        "is a pickle",
    ),
    "a pipeline of pickles": (lambda t: of_pickles(t / "p"), "is a pickle"),
    "another file": (lambda t: made(t / "a.txt", b"x"), "not a .safetensors file"),
    "a torn file": (lambda t: made(t / "a.safetensors", b"\x90\x00\x00"), "no safetensors file"),
    "an empty file": (lambda t: tensors(t / "a.safetensors"), "holds no tensor"),
    "an empty folder": (lambda t: made(t / "f" / "readme.md", b"").parent, "holds no adapter"),
    "a whole model": (
        lambda t: tensors(t / "a.safetensors", model__diffusion_model__a=1, b=1),
        "--backbone",
    ),
    "something else": (lambda t: tensors(t / "a.safetensors", a=1, b=1), "its keys are a, b"),
    "a link to nothing": (lambda t: linked(t / "a" / "b.safetensors", t / "c").parent, "no saf"),
    "a name of ours": (lambda t: lora(t / "perfusion.safetensors"), "is the name of a method"),
    "a device of Windows": (lambda t: lora(t / "con.safetensors"), "cannot name a method"),
    "a comma in a name": (lambda t: f"a,b={lora(t / 'a.safetensors')}", "cannot name a method"),
    "a name of several": (
        lambda t: f"x={two(t / 'f')}",
        "a name is for one file",
    ),
}


@pytest.mark.parametrize("wrong", BAD)
def test_what_is_no_adapter_is_one_sentence(tmp_path, wrong):
    make, said = BAD[wrong]
    with pytest.raises(UserError) as told:
        find_adapters([str(make(tmp_path))])
    assert said in str(told.value) and "\n" not in str(told.value)


def test_two_files_of_one_name_need_another(tmp_path):
    files = [lora(tmp_path / folder / "a.safetensors") for folder in ("x", "y")]
    with pytest.raises(UserError, match="both called a"):
        names(*files)
    assert names(files[0], f"b={files[1]}") == ["a", "b"]


@pytest.mark.parametrize(
    ("trigger", "said"),
    [
        ("", "which words was it trained with"),
        ("{} and {}", "one {} at most"),
        ("{cat}", "one {} at most"),
        ("a\nb", "can be printed"),
        ("x" * 201, "at most 200"),
    ],
)
def test_a_trigger_that_cannot_be_written_is_one_sentence(tmp_path, trigger, said):
    found = find_adapters([str(lora(tmp_path / "a.safetensors"))])
    with pytest.raises(UserError) as told:
        guests_of(found, trigger)
    assert said in str(told.value)


def test_two_words_do_not_tell_which_is_the_embedding(tmp_path):
    found = find_adapters([str(word(tmp_path / "a.safetensors"))])
    with pytest.raises(UserError, match="which word is the embedding"):
        guests_of(found, "my sks {}")
