"""What decides the weights: the recipe's numbers on a CPU and on a GPU, the stages in their order,
their minutes.

In: nothing. Out: `Recipe`, `ON_GPU`, `MINUTES`, `STAGES`, the same of miniature-xl (`joint`);
importing them loads no torch.
"""

from dataclasses import dataclass, replace

# minutes of each stage: an hour at most on two cores of a CPU; together 23 on a large GPU
MINUTES = {
    "cpu": {
        "text": 10.0, "vae": 50.0, "unet": 60.0, "scorer": 30.0, "scorer2": 20.0,
        "factors": 20.0, "identity": 15.0, "segment": 10.0,
    },
    "cuda": {
        "text": 3.0, "vae": 4.0, "unet": 8.0, "scorer": 2.5, "scorer2": 1.5,
        "factors": 1.5, "identity": 1.5, "segment": 1.0,
    },
}  # fmt: skip
STAGES = tuple(MINUTES["cpu"])  # in the order of training; the last three are the judges
# of miniature-xl, which begins with finished weights: within three hours on two cores, with C
JOINT_MINUTES = {
    "cpu": {"text-xl": 20.0, "unet-xl": 135.0},
    "cuda": {"text-xl": 3.0, "unet-xl": 15.0},
}
JOINT_STAGES = tuple(JOINT_MINUTES["cpu"])


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, but the time they are given."""

    shards: int = 20
    shard: int = 10_000  # pictures
    seed: int = 0
    text_batch: int = 192
    text_lr: float = 3e-3
    # weight of the loss that keeps words apart: every position predicts its own token
    own_token: float = 1.0
    vae_batch: int = 16
    # whole pictures: on crops of 32, four times the variety for the same work, the norms learn
    # other statistics than they meet
    vae_crop: int = 64
    vae_lr: float = 5e-3
    kl: float = 1e-4
    unet_batch: int = 96
    unet_lr: float = 3e-3
    # how often the U-Net sees a picture with a material or a state: so many times as often as
    # another
    rare: float = 2.0
    # how much likelier the timesteps are at which a thing's marks are drawn: by half
    middle: float = 0.5
    drop_prompt: float = 0.1
    snr_cap: float = 5.0  # min-SNR weighting of the noise loss
    scorer_batch: int = 192
    scorer_lr: float = 3e-3
    # weight of the loss that pulls two pictures of one instance together
    same_instance: float = 1.0
    # captions of the scorer without the object's word, as the text metric writes them
    drop_word: float = 0.15
    judge_shards: int = 6  # of pictures of other instances
    judge_trips: int = 8_000  # of them through the VAE
    judge_batch: int = 192
    # the last part of a stage's time, in which its learning rate goes down to a twentieth
    settle: float = 0.25


# a GPU wants large batches, and with them more pictures and a little more speed
ON_GPU = Recipe(
    shards=32, text_batch=1024, text_lr=4e-3, vae_batch=96, unet_batch=1024, unet_lr=4e-3,
    scorer_batch=1024, scorer_lr=4e-3, judge_shards=16, judge_trips=60_000, judge_batch=768,
)  # fmt: skip


def joint(recipe: Recipe) -> Recipe:
    """Of miniature-xl, whose U-Net goes on from trained weights."""
    return replace(recipe, unet_lr=2e-3, settle=0.6)
