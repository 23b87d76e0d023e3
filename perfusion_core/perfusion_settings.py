"""What Perfusion can be told: when it is trained (`Config`), and when it draws. Imports no
torch.
"""

from dataclasses import dataclass, field

from perfusion_core.errors import unknown

LOCKS = ("local", "global")
GATES = ("sigmoid", "linear")  # linear: vanilla ROME, and what a LoRA can hold
# whose prompt is pooled where a U-Net reads pooled text beside its cross-attentions: the
# super-category's, which is locked as keys are, or the concept's own
POOLED = ("super", "concept")
BIAS, TEMPERATURE = 0.6, 0.15  # of the gate when it draws


@dataclass(frozen=True)
class Config:
    """Section 4.4 of the paper."""

    steps: int = 400  # The most training steps; validation keeps the best one.
    batch: int = 16  # The pictures of each training step.
    accumulate: int = 1  # The micro-batches of a step, each of batch / accumulate pictures.
    lr: float = 0.03  # The learning rate of the values, o_star_V.
    lr_embedding: float = 0.006  # The learning rate of the word's embedding.
    ema: float = 0.99  # The decay of the running mean of i_star.
    train_bias: float = 0.75  # The gate's bias while training.
    train_temperature: float = 0.1  # The gate's temperature while training.
    bias: float = BIAS  # The bias of the validation's pictures: local lock, Sec. 4.4's range.
    temperature: float = TEMPERATURE  # The temperature of the validation's pictures.
    flip: bool = True  # Whether pictures are mirrored at random; never an asymmetric concept.
    masks: bool = True  # Whether the loss is weighted by masks (Fig. 9c).
    images: int = 0  # Use only so many images, 0 all of them; 1 is one-shot (Fig. 9a).
    train_k: bool = False  # Whether o_star_K is learned as well (Fig. 9b).
    # Fig. A.1: optimise the concept's position alone, then edit with Eq. 1, without validation.
    vanilla_rome: bool = False
    # Whether the U-Net's activations are computed again: less memory, a third more time.
    checkpointing: bool = False
    # `sigmoid`, or `linear`: Eq. 2, without bias and temperature. A recipe may leave it out.
    gate: str = field(default="sigmoid", metadata={"later": True})
    # Whose prompt is pooled, `super` or `concept`; nothing on backbones without pooled text.
    pooled: str = field(default="super", metadata={"later": True})

    def __post_init__(self) -> None:
        if self.gate not in GATES:
            raise unknown("gate", str(self.gate), GATES)
        if self.pooled not in POOLED:
            raise unknown("pooled text", str(self.pooled), POOLED)
