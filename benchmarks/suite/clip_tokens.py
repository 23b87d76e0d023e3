"""CLIP's tokens, counted without loading a model: its byte pairs lie in the open_clip package.

In: nothing. Out: a tokenizer of the `tokenizers` library that splits texts as CLIP's does.
"""

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from perfusion_core.errors import UserError

# open_clip.tokenizer reads so many: the vocabulary without bytes, start and end
PAIRS = 49152 - 256 - 2
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # OpenAI's


def clip_tokenizer() -> Any:
    """Of Stable Diffusion 1.x and 2.x; without start and end."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    lines = gzip.decompress(_byte_pairs().read_bytes()).decode("utf-8").split("\n")
    merges = [(a, b) for a, b in (line.split() for line in lines[1 : 1 + PAIRS])]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(a + b for a, b in merges)]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), "removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    return tokenizer


def _byte_pairs() -> Path:
    """Found without importing the package, which would load torch."""
    spec = find_spec("open_clip")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(place) / "bpe_simple_vocab_16e6.txt.gz").is_file():
            return path
    raise UserError(
        "the package open_clip_torch is not installed as a whole; install it: pip install "
        "open_clip_torch"
    )
