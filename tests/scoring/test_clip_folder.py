"""A folder in open_clip's format, opened without open_clip, says what open_clip says."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.model import CLIP
from PIL import Image
from run_kit import ROOT, environment, make_scorer
from safetensors.torch import load_file, save_file

from benchmarks.paths import miniature_dir
from benchmarks.scoring.clip_folder import clean, is_plain, open_clip_folder
from benchmarks.scoring.lookup import find_scorer
from benchmarks.scoring.scorers import needs_open_clip
from benchmarks.suite.catalog import load_catalog

TEXTS = ["A cat on the beach", "two  spaces &amp; more", "Ünïcode “quotes”", "word " * 60, ""]


@pytest.fixture
def transformer(tmp_path):
    """A vision transformer under quick GELU, with random weights and the miniature's tokenizer."""
    torch.manual_seed(0)
    sides = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}
    texts = {"context_length": 32, "vocab_size": 1127, "width": 48, "heads": 4, "layers": 2}
    model = CLIP(24, sides, texts, quick_gelu=True)
    texts["hf_tokenizer_name"] = "tokenizer"
    about = {"embed_dim": 24, "vision_cfg": sides, "text_cfg": texts, "quick_gelu": True}
    pixels = {"mean": [0.2, 0.5, 0.6], "std": [0.25, 0.3, 0.2], "interpolation": "bilinear"}
    folder = tmp_path / "transformer"
    folder.mkdir()
    tell(folder, {"model_cfg": about, "preprocess_cfg": pixels})
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    for path in (miniature_dir() / "scorer").glob("tokenizer*.json"):
        shutil.copy(path, folder)
    return folder


def tell(folder: Path, about) -> None:
    (folder / "open_clip_config.json").write_text(json.dumps(about))


def pictures() -> list[Image.Image]:
    """Real ones, in every shape and mode that a file may have."""
    real = [Image.open(path) for path in sorted((ROOT / "concepts" / "cat").rglob("*.png"))[:3]]
    first = real[0]
    return [
        *real,
        *(first.resize(size) for size in ((100, 71), (64, 65), (20, 31))),
        first.convert("RGBA").resize((33, 47)),
        first.convert("L").resize((201, 203)),
        first.convert("P").resize((90, 64)),
    ]


@pytest.mark.parametrize("name", ["scorer", "scorer2", "transformer"])
def test_pixels_tokens_and_features_are_open_clips(name, request):
    shipped = name.startswith("scorer")
    folder = miniature_dir() / name if shipped else request.getfixturevalue(name)
    theirs, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    theirs.eval()
    tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
    ours = open_clip_folder(folder)
    assert ours and not needs_open_clip(find_scorer(str(folder), "x", folder))
    ours.model.eval()
    pixels = torch.stack([ours.prepare(picture) for picture in pictures()])
    assert torch.equal(pixels, torch.stack([prepare(picture) for picture in pictures()]))
    texts = [*TEXTS, *(prompt.template for prompt in load_catalog().prompts)]
    assert torch.equal(ours.tokenize(texts), tokenize(texts))
    with torch.inference_mode():
        pairs = [(ours.model.encode_image(pixels), theirs.encode_image(pixels))]
        pairs += [
            (ours.model.encode_text(tokens), theirs.encode_text(tokens))
            for tokens in tokenize(texts)[:, None]
        ]
    unit = torch.nn.functional.normalize
    for mine, expected in pairs:
        torch.testing.assert_close(unit(mine), unit(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "part, key, value",
    [
        ("vision_cfg", "pool_type", "avg"),
        ("vision_cfg", "timm_model_name", "vit_tiny_patch16_224"),
        ("vision_cfg", "image_size", [32, 32]),
        ("text_cfg", "pool_type", "last"),
        ("text_cfg", "hf_tokenizer_name", ""),
        ("model_cfg", "custom_text", True),
        ("preprocess_cfg", "resize_mode", "squash"),
        ("preprocess_cfg", "interpolation", "random"),
    ],
)
def test_what_is_not_plain_is_left_to_open_clip(part, key, value, transformer):
    about = json.loads((transformer / "open_clip_config.json").read_text())
    {**about, **about["model_cfg"]}[part][key] = value
    tell(transformer, about)
    assert not is_plain(transformer) and open_clip_folder(transformer) is None
    assert needs_open_clip(find_scorer(str(transformer), "x", transformer))


def test_weights_that_do_not_fit_are_left_to_open_clip(transformer, tmp_path):
    assert open_clip_folder(make_scorer(tmp_path / "no tokenizer", 1)) is None
    path = transformer / "open_clip_model.safetensors"
    state = load_file(path)
    state["visual.positional_embedding"] = torch.zeros(5, 64)  # of another resolution
    save_file(state, path)
    assert open_clip_folder(transformer) is None
    path.write_bytes(b"damaged")
    assert open_clip_folder(transformer) is None


def test_texts_are_cleaned_as_open_clip_cleans_them():
    from open_clip.tokenizer import get_clean_fn

    for text in (*TEXTS, "schÃ¶n", "&amp;amp;lt;", "\u00a0a\tb\n", "a\x1b[36;44mb"):
        assert clean(text) == get_clean_fn("whitespace")(text)


def test_a_shipped_scorer_loads_no_open_clip():
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from benchmarks.paths import miniature_dir\n"
        "from benchmarks.scoring.lookup import find_scorer\n"
        "from benchmarks.scoring.scorers import open_scorer\n"
        "open_scorer(find_scorer('auto', 'miniature', miniature_dir()), 'cpu').text('a cat')\n"
        "heavy = {'open_clip', 'timm', 'torchvision', 'diffusers', 'torch._dynamo', 'sympy'}\n"
        "print(*heavy & set(sys.modules))"
    )
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
