"""Placeholders, positions, super-category words, and learned vectors in a prompt."""

import pytest
import torch
from conftest import WORDS

from perfusion_core.errors import UserError
from perfusion_core.prompts import TEMPLATES, Word, encode, fill, super_token, tokenize

CAT, POT = Word("cat"), Word("teapot")


def test_fill():
    assert fill("A {tom} in a {pot}!", {"tom": CAT, "pot": POT}) == (
        "A cat in a teapot!",
        [("tom", 2, 5), ("pot", 11, 17)],
    )


@pytest.mark.parametrize(
    "text",
    [
        "A {tom}",
        "{tom}, on the  beach",
        "THE SMALL {tom}-like toy",
        "photo of {tom} and {tom}",
        "a cat and {tom}",
    ],
)
def test_positions_are_those_of_the_token(tiny_backbone, text):
    ids, positions = tokenize(tiny_backbone.tokenizer, [text], {"tom": CAT})
    token = super_token(tiny_backbone.tokenizer, "cat")
    where = [m for m, i in enumerate(ids[0].tolist()) if i == token]
    # the plain word is not the concept
    assert positions[0]["tom"] == (where[1:] if text.startswith("a cat") else where)


def test_any_position(tiny_backbone):
    for before in range(0, 29):
        _, positions = tokenize(tiny_backbone.tokenizer, ["a " * before + "{tom}"], {"tom": CAT})
        assert positions[0] == {"tom": [before + 1]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a " * 40 + "{tom}", "cut off"),
        ("a {tom}s", "word of its own"),
        ("a tom{tom}", "word of its own"),
        ("a {tim}", "did you mean 'tom'"),
    ],
)
def test_refusals(tiny_backbone, text, says):
    with pytest.raises(UserError, match=says):
        tokenize(tiny_backbone.tokenizer, [text], {"tom": CAT})


def test_a_super_category_of_several_tokens_is_reported(tiny_backbone):
    with pytest.raises(UserError, match=r"'xylophone' is 9 tokens"):
        super_token(tiny_backbone.tokenizer, "xylophone")
    with pytest.raises(UserError, match=r"2 tokens.*teddy . toy"):
        super_token(tiny_backbone.tokenizer, "teddy toy")


def test_a_vector_replaces_only_its_word(tiny_backbone):
    """Written over the embedding, the vector acts as an added token with that row would."""
    encoder, tokenizer = tiny_backbone.text_encoder, tiny_backbone.tokenizer
    dog = encoder.get_input_embeddings().weight[super_token(tokenizer, "dog")].detach()
    texts = ["a {tom} on the beach", "snow", "on the moon a cat and a {tom}"]
    ours, positions = encode(encoder, tokenizer, texts, {"tom": Word("cat", dog)})
    torch.testing.assert_close(
        ours, tiny_backbone.encode(["a dog on the beach", "snow", "on the moon a cat and a dog"])
    )
    assert [p.get("tom") for p in positions] == [[2], None, [8]]
    assert not encoder.get_input_embeddings()._forward_hooks


def test_gradient_reaches_the_vector_and_nothing_else(tiny_backbone):
    vector = torch.zeros(32, requires_grad=True)
    out, _ = encode(
        tiny_backbone.text_encoder,
        tiny_backbone.tokenizer,
        ["a {tom} and {tom}"],
        {"tom": Word("cat", vector)},
    )
    out.sum().backward()
    assert vector.grad.abs().sum() > 0
    assert all(p.grad is None for p in tiny_backbone.text_encoder.parameters())


def test_templates_are_those_of_the_prompts_folder():
    from benchmarks.paths import data_dir

    assert (data_dir("prompts") / "training.txt").read_text().splitlines() == list(TEMPLATES)
    assert all(
        word.lower() in WORDS for template in TEMPLATES for word in template.split() if word != "{}"
    )
