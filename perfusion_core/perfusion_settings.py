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

    steps: int = 400  # at most; validation keeps the best
    batch: int = 16
    accumulate: int = 1  # micro-batches of batch / accumulate
    lr: float = 0.03  # o_star_V
    lr_embedding: float = 0.006
    ema: float = 0.99  # of i_star
    train_bias: float = 0.75
    train_temperature: float = 0.1
    bias: float = BIAS  # of the validation's pictures: local lock, Sec. 4.4's range
    temperature: float = TEMPERATURE
    flip: bool = True  # never an asymmetric concept
    masks: bool = True  # Fig. 9c
    images: int = 0  # use only so many; 1: one-shot, Fig. 9a
    train_k: bool = False  # Fig. 9b: o_star_K learned as well
    # Fig. A.1: optimise the concept's position alone, then edit with Eq. 1; no validation
    vanilla_rome: bool = False
    checkpointing: bool = False
    # linear: Eq. 2, without bias and temperature; a recipe that leaves it out is what it always was
    gate: str = field(default="sigmoid", metadata={"later": True})
    # of POOLED; nothing on backbones without pooled text
    pooled: str = field(default="super", metadata={"later": True})

    def __post_init__(self) -> None:
        if self.gate not in GATES:
            raise unknown("gate", str(self.gate), GATES)
        if self.pooled not in POOLED:
            raise unknown("pooled text", str(self.pooled), POOLED)
