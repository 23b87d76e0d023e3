"""CLIP's two networks in torch alone, with the names that open_clip gives their weights.

In: sizes, pixels, tokens. Out: features, not yet of unit length. (Radford et al. 2021, Sec. 2.4.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class PictureSizes:
    """Of the side that sees: a residual network where `layers` counts blocks of four stages, a
    vision transformer where it is a number."""

    image_size: int
    layers: int | Sequence[int]
    width: int
    head_width: int = 64
    patch_size: int = 0


@dataclass(frozen=True)
class TextSizes:
    """Of the side that reads."""

    context_length: int
    vocab_size: int
    width: int
    heads: int
    layers: int


class QuickGelu(nn.Module):
    """What OpenAI's own weights were trained with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


# ---- transformers ----


class Block(nn.Module):
    """Attention and a small network, each on what was normalised and added to what came."""

    def __init__(self, width: int, heads: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", activation())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, heads: int, layers: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, activation) for _ in range(layers))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class VisionTransformer(nn.Module):
    """Patches and a class token in; the class token's projection out."""

    def __init__(self, sizes: PictureSizes, out: int, activation: type[nn.Module]) -> None:
        super().__init__()
        patch, width = sizes.patch_size, sizes.width
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        tokens = (sizes.image_size // patch) ** 2 + 1
        self.positional_embedding = nn.Parameter(torch.empty(tokens, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, width // sizes.head_width, sizes.layers, activation)  # type: ignore[arg-type]
        self.proj = nn.Parameter(torch.empty(width, out))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)  # [n, patches, width]
        token = self.class_embedding.expand(len(patches), 1, -1)
        x = torch.cat([token, patches], dim=1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x)))[:, 0] @ self.proj


# ---- the residual network ----


class Bottleneck(nn.Module):
    """A ResNet block whose stride is a mean over neighbours, so that nothing is skipped."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after)
        self.stride = stride
        self.downsample = nn.Sequential()
        if stride > 1 or before != after:
            self.downsample.add_module("-1", nn.AvgPool2d(stride))
            self.downsample.add_module("0", nn.Conv2d(before, after, 1, bias=False))
            self.downsample.add_module("1", nn.BatchNorm2d(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        inner = F.avg_pool2d(inner, self.stride) if self.stride > 1 else inner
        return F.relu(self.bn3(self.conv3(inner)) + self.downsample(x))


class AttentionPool(nn.Module):
    """The mean over places asks all places: [n, c, h, w] -> [n, out]."""

    def __init__(self, side: int, width: int, heads: int, out: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.empty(side**2 + 1, width))
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.c_proj = nn.Linear(width, width), nn.Linear(width, out)
        self.heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = x.flatten(2).permute(2, 0, 1)  # [h w, n, c]
        x = torch.cat([places.mean(dim=0, keepdim=True), places])
        x = x + self.positional_embedding[:, None]
        q, k, v, c = self.q_proj, self.k_proj, self.v_proj, self.c_proj
        # all places ask, and the first answer is used: shapes, and so low bits, are open_clip's
        return F.multi_head_attention_forward(
            x, x, x, x.shape[-1], self.heads,
            None, torch.cat([q.bias, k.bias, v.bias]), None, None, False, 0.0,
            c.weight, c.bias, training=False, need_weights=False, use_separate_proj_weight=True,
            q_proj_weight=q.weight, k_proj_weight=k.weight, v_proj_weight=v.weight,
        )[0][0]  # fmt: skip


class ResidualNetwork(nn.Module):
    """Three convolutions, four stages, and attention where others take a mean."""

    def __init__(self, sizes: PictureSizes, out: int) -> None:
        super().__init__()
        width = sizes.width
        stem = (3, width // 2, width // 2, width)
        self.conv1 = nn.Conv2d(*stem[0:2], 3, stride=2, padding=1, bias=False)
        self.conv2 = nn.Conv2d(*stem[1:3], 3, padding=1, bias=False)
        self.conv3 = nn.Conv2d(*stem[2:4], 3, padding=1, bias=False)
        self.bn1, self.bn2, self.bn3 = map(nn.BatchNorm2d, stem[1:])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(width, stage, blocks)
            for stage, blocks in enumerate(sizes.layers)  # type: ignore[arg-type]
        )
        last = 32 * width
        self.attnpool = AttentionPool(sizes.image_size // 32, last, last // sizes.head_width, out)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(pixels)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.avg_pool2d(F.relu(self.bn3(self.conv3(x))), 2)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.attnpool(x)


def _stage(stem: int, stage: int, blocks: int) -> nn.Sequential:
    """Each stage is twice as wide as the one before it, and half as large but for the first."""
    width = stem * 2**stage
    before = 2 * width if stage else stem  # four times the width of the stage before
    first = Bottleneck(before, width, stride=2 if stage else 1)
    return nn.Sequential(first, *(Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)))


# ---- both ----


class ClipNetworks(nn.Module):
    """Pictures and texts in one space."""

    def __init__(
        self, out: int, pictures: PictureSizes, texts: TextSizes, activation: type[nn.Module]
    ) -> None:
        super().__init__()
        self.visual: nn.Module = (
            VisionTransformer(pictures, out, activation)
            if isinstance(pictures.layers, int)
            else ResidualNetwork(pictures, out)
        )
        width, length = texts.width, texts.context_length
        # made so, it draws no first numbers: on the meta device these would load torch's compiler
        self.token_embedding = nn.Embedding.from_pretrained(torch.empty(texts.vocab_size, width))
        self.positional_embedding = nn.Parameter(torch.empty(length, width))
        self.transformer = Transformer(width, texts.heads, texts.layers, activation)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, out))
        self.logit_scale = nn.Parameter(torch.empty(()))  # in the file, and of no use to a cosine

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """[n, 3, side, side] -> [n, out]"""
        return self.visual(pixels)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """[n, length] -> [n, out]: read at the first token with the highest number, the end."""
        x = self.token_embedding(tokens) + self.positional_embedding
        length = tokens.shape[1]
        later = torch.full((length, length), float("-inf"), device=tokens.device).triu_(1)
        x = self.ln_final(self.transformer(x, later))
        return (
            x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)] @ self.text_projection
        )
