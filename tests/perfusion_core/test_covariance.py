"""C: estimated over the right tokens, resumed, found by digest, inverted with the smallest
shrinkage.
"""

import json
from dataclasses import replace
from itertools import islice

import pytest
import torch
from conftest import WORDS

from benchmarks.advice import advised
from perfusion_core.covariance import (
    Covariance,
    estimate,
    home,
    inverse,
    lookup_covariance,
    read_captions,
    read_covariance,
    write_covariance,
)
from perfusion_core.errors import UserError

CAPTIONS = [
    f"a {a} photo of the {b} and {c}" for a in WORDS[:6] for b in WORDS[6:12] for c in WORDS[12:15]
]


def one_by_one(backbone, captions):
    """Without batches, padding or masks: every caption alone, exactly as long as it is."""
    total, tokens = torch.zeros(32, 32, dtype=torch.float64), 0
    for caption in captions:
        ids = backbone.tokenizer(
            caption, truncation=True, max_length=32, return_tensors="pt"
        ).input_ids
        for e in backbone.text_encoder(ids)[0][0].double():
            total += torch.outer(e, e)
            tokens += 1
    return total / tokens, tokens


def test_only_bos_to_eos_tokens_of_the_output_that_the_unet_sees(tiny_backbone, tmp_path):
    # one longer than fits
    captions = ["a cat", "a very small dog on the moon " * 9, *CAPTIONS[:20]]
    right, tokens = one_by_one(tiny_backbone, captions)
    ours = estimate(tiny_backbone, captions, tmp_path / "c", source="here", batch=7)
    assert (ours.tokens, ours.captions) == (tokens, 22)
    torch.testing.assert_close(ours.matrix, right, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(read_covariance(tmp_path / "c").matrix, ours.matrix, rtol=0, atol=0)


def test_resumes_where_it_stopped(tiny_backbone, tmp_path):
    whole = estimate(tiny_backbone, CAPTIONS, tmp_path / "whole", source="here", batch=8)

    def broken():
        yield from CAPTIONS[:60]
        raise KeyboardInterrupt

    seen = []
    with pytest.raises(KeyboardInterrupt):
        estimate(tiny_backbone, broken(), tmp_path / "c", source="here", batch=8, every=2)
    again = estimate(
        tiny_backbone, CAPTIONS, tmp_path / "c", source="here", batch=8, progress=seen.append
    )
    assert seen[0] == 48  # seven batches were done, six of them written
    assert torch.equal(again.total, whole.total)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("c")] == ["c"]


def test_never_goes_on_with_other_captions(tiny_backbone, tmp_path):
    right = estimate(tiny_backbone, CAPTIONS[:40], tmp_path / "right", source="here")
    other = Covariance(
        torch.eye(32, dtype=torch.float64), 9, 3, tiny_backbone.text_digest, "elsewhere"
    )
    for wrong in (other, replace(other, source="here", digest="0" * 16)):
        write_covariance(wrong, tmp_path / "c.part")
        assert torch.equal(
            estimate(tiny_backbone, CAPTIONS[:40], tmp_path / "c", source="here").total, right.total
        )


def test_limit_and_too_few(tiny_backbone, tmp_path):
    assert (
        estimate(tiny_backbone, CAPTIONS, tmp_path / "c", source="here", limit=30, batch=8).captions
        == 30
    )
    with pytest.raises(UserError, match="too few"):
        estimate(tiny_backbone, ["a cat"], tmp_path / "d", source="here")


def test_inverse_and_its_smallest_shrinkage():
    rng = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(12, 12, generator=rng, dtype=torch.float64))
    good = (q * torch.logspace(0, 3, 12, dtype=torch.float64)) @ q.T
    c_inv, shrink = inverse(good)
    assert shrink == 0
    torch.testing.assert_close(c_inv @ good, torch.eye(12, dtype=torch.float64))
    bad = (q * torch.logspace(-6, 3, 12, dtype=torch.float64)) @ q.T
    c_inv, shrink = inverse(bad)
    torch.testing.assert_close(
        c_inv @ (bad + shrink * torch.eye(12, dtype=torch.float64)),
        torch.eye(12, dtype=torch.float64),
    )
    assert torch.linalg.cond(c_inv).item() == pytest.approx(1e4, rel=1e-6)


def test_found_by_the_text_encoders_digest(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    mine, other = (
        Covariance(torch.eye(4, dtype=torch.float64), 9, 3, digest, "here")
        for digest in ("mine", "other")
    )
    (tmp_path / "backbone").mkdir()
    with pytest.raises(UserError) as caught:
        lookup_covariance("mine", [tmp_path / "backbone"], "sd")
    assert "perfbench covariance --backbone sd" in advised(caught.value)
    write_covariance(other, tmp_path / "backbone" / "covariance.safetensors")
    with pytest.raises(UserError, match="another text encoder"):
        lookup_covariance("mine", [tmp_path / "backbone"], "sd")
    write_covariance(mine, home(tmp_path / "single.safetensors", "mine", fetched=False))
    assert lookup_covariance("mine", [tmp_path / "backbone"], "sd").digest == "mine"
    assert home(tmp_path / "backbone", "mine", fetched=False).parent == tmp_path / "backbone"
    assert (
        home(tmp_path / "backbone", "mine", fetched=True).parent
        == tmp_path / "cache" / "covariance"
    )


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "c").write_bytes(b"not this")
    with pytest.raises(UserError, match="damaged"):
        read_covariance(tmp_path / "c")


def test_captions_of_a_data_set(tmp_path, monkeypatch):
    """A folder is read as the hub's data sets are, streamed by split; what cannot be fetched is one
    sentence.
    """
    import datasets
    import pandas as pd

    for split in ("train", "test"):
        pd.DataFrame({"id": range(9), "text": [f"a {split} cat {n}" for n in range(9)]}).to_parquet(
            tmp_path / f"{split}.parquet"
        )
    assert list(islice(read_captions(str(tmp_path)), 2)) == ["a train cat 0", "a train cat 1"]
    assert next(read_captions(str(tmp_path), part="test")) == "a test cat 0"
    with pytest.raises(
        UserError, match=r"neither a file nor a data set that can be fetched .*trian"
    ):
        next(read_captions(str(tmp_path), part="trian"))

    def unreachable(*_, **__):
        raise ConnectionError("no network here\nand more")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(
        UserError, match=r"owner/captions is neither .*\(no network here\); give --captions"
    ):
        next(read_captions("owner/captions"))


def test_rows_without_a_caption(tmp_path):
    """Empty ones are left out, as if they were not there; what is no text is refused."""
    rows = ["a cat", None, "", "  ", "a dog"]
    path = tmp_path / "captions.jsonl"
    path.write_text(
        "\n".join(
            json.dumps({"caption": row, "captions": ["a cat", "a dog"], "id": 3}) for row in rows
        )
    )
    assert list(read_captions(str(path))) == ["a cat", "a dog"]
    for column, kind in (("captions", "list"), ("id", "int")):
        with pytest.raises(
            UserError,
            match=f"holds no texts but {kind}; give --column one of: caption, captions, id",
        ):
            next(read_captions(str(path), column))


@pytest.mark.parametrize("kind", ["txt", "csv", "jsonl", "parquet"])
def test_captions_of_every_kind_of_file(kind, tmp_path):
    import pandas as pd

    path = tmp_path / f"captions.{kind}"
    frame = pd.DataFrame({"url": ["u"] * 9, "caption": [f"a cat {n}" for n in range(9)]})
    {
        "txt": lambda: path.write_text("\n".join(frame.caption)),
        "csv": lambda: frame.to_csv(path, index=False),
        "jsonl": lambda: path.write_text(
            "\n".join(json.dumps(row) for row in frame.to_dict("records"))
        ),
        "parquet": lambda: frame.to_parquet(path),
    }[kind]()
    assert list(islice(read_captions(str(path)), 5)) == list(frame.caption[:5])
    if kind == "csv":
        assert next(read_captions(str(path), "url")) == "u"
        with pytest.raises(UserError, match="url, caption"):
            next(read_captions(str(path), "title"))
