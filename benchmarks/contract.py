"""Does a method keep its contract? (`python -m benchmarks.contract my_method.py`)

    python -m benchmarks.contract my_method.py [--backbone DIR]

Trains for a few steps, saves, loads, applies, restores, changes what it says it changes, and does
it all twice alike.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks.advice import advised
from benchmarks.planning import methods
from perfusion_core.errors import UserError

NAMES = ("thing", "other")
STEPS = 3


class Broken(UserError):
    """A method does not do what the contract says."""


def check(module: ModuleType, backbone: Any, word: str = "cat", tell: Callable[[str], None] = print) -> None:
    """Every check in turn; the first that fails is a `Broken` that says what to mend."""
    config = methods.recipe(module, module.NAME, {"steps": STEPS} if module.TRAINED else {}, miniature=True)
    with tempfile.TemporaryDirectory(prefix="perfbench-contract-") as folder:
        out = Path(folder)
        fits = fitted(module, backbone, config, word, out) if module.TRAINED else nothing(word, out)
        if module.TRAINED:
            tell("trains, saves, leaves the backbone as it was")
            same_again(module, backbone, config, word, out)
            tell("the same seed gives the same files")
        before = state(backbone)
        plain = picture(backbone, f"A {word} on the beach")
        first = applied(module, backbone, fits)
        expect(same(before, state(backbone)), "apply must leave the backbone bit for bit as it was")
        expect(np.array_equal(plain, picture(backbone, f"A {word} on the beach")), "after apply it must draw as before")
        tell("applies and restores")
        expect(np.array_equal(first, applied(module, backbone, fits)), "the same fit must draw the same picture")
        tell("draws the same twice")
        if module.TRAINED:
            expect(not np.array_equal(first, plain), "with the fit applied the picture must change")
            tell("changes the picture")
        try:
            with module.apply(backbone, fits, {}):
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            expect(same(before, state(backbone)), "apply must restore the backbone after an exception, too")
        tell("restores after an exception")


def fitted(module: ModuleType, backbone: Any, config: Any, word: str, out: Path) -> dict[str, Any]:
    """One fit, with the state that `keep` asks for, made without changing the backbone."""
    from perfusion_core.subject import Fitted

    before, steps = state(backbone), []
    about = train(module, backbone, config, word, out / "fit", keep=(2,), progress=lambda *step: steps.append(step[0]))
    expect(same(before, state(backbone)), "fit must leave nothing of itself in the backbone")
    expect(isinstance(about, dict), "fit must return a mapping for fit.json")
    expect(
        steps == list(range(1, STEPS + 1)), f"progress(step, steps, loss) must be called after each of {STEPS} steps"
    )
    expect(any((out / "fit").iterdir()), "fit must write its files into `out`")
    expect((out / "fit" / "step-2").is_dir(), "fit(keep=(2,)) must also write out/step-2/")
    loose = [path.name for path in (out / "fit").rglob("*") if path.suffix in (".pt", ".bin", ".pkl", ".ckpt", ".pth")]
    expect(not loose, f"weights are saved as safetensors, never as pickles ({', '.join(loose)})")
    return {NAMES[0]: Fitted(out / "fit", word)}


def nothing(word: str, out: Path) -> dict[str, Any]:
    from perfusion_core.subject import Fitted

    return {NAMES[0]: Fitted(out, word)}


def same_again(module: ModuleType, backbone: Any, config: Any, word: str, out: Path) -> None:
    train(module, backbone, config, word, out / "again", keep=(2,))
    files = sorted(path.relative_to(out / "fit") for path in (out / "fit").rglob("*") if path.is_file())
    for name in files:
        alike = (out / "again" / name).is_file() and (out / "fit" / name).read_bytes() == (
            out / "again" / name
        ).read_bytes()
        expect(alike, f"the same seed must give the same bytes; {name} differs")


def train(module: ModuleType, backbone: Any, config: Any, word: str, out: Path, **more: Any) -> Any:
    """Random pictures, the same at every call."""
    from perfusion_core.sampling import as_float
    from perfusion_core.subject import Subject

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, backbone.size, backbone.size, 3), dtype=np.uint8)
    prior = rng.integers(0, 256, (4, backbone.size, backbone.size, 3), dtype=np.uint8) if module.PRIOR else None
    masks = torch.ones(3, 1, backbone.size, backbone.size)
    out.mkdir()
    return module.fit(
        backbone, Subject(NAMES[0], word, as_float(pictures), masks, False), config, out, seed=1, prior=prior, **more
    )


def applied(module: ModuleType, backbone: Any, fits: dict[str, Any]) -> np.ndarray:
    with module.apply(backbone, fits, {}) as write:
        text = write(f"A {{{NAMES[0]}}} on the beach")
        expect(isinstance(text, str), "write must return the text to hand to `sample`")
        return picture(backbone, text)


def picture(backbone: Any, text: str) -> np.ndarray:
    from perfusion_core.sampling import sample

    return sample(backbone, [text], [1], steps=3)


def state(backbone: Any) -> dict[str, torch.Tensor]:
    """Every weight of the pipeline, and what hangs on it."""
    parts = {"unet": backbone.unet, "text": backbone.text_encoder, "vae": backbone.vae}
    return {
        f"{part}.{name}": t.detach().clone() for part, model in parts.items() for name, t in model.state_dict().items()
    }


def same(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def expect(fine: bool, otherwise: str) -> None:
    if not fine:
        raise Broken(otherwise)


@contextmanager
def sentences() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        sys.exit(f"contract: {advised(error)}")


def main() -> None:
    from benchmarks.paths import backbone_names
    from perfusion_core.backbone import Backbone

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", help="a file, or a name of `perfbench ls methods`")
    parser.add_argument("--backbone", default="miniature")
    parser.add_argument("--word", default="cat", help="a super-category of one token")
    args = parser.parse_args()
    with sentences():
        files = [args.method] if args.method.endswith(".py") else []
        known = methods.sources(files)
        name = next(reversed(known)) if files else args.method
        methods.check_names([name], files)
        backbone = Backbone.open(args.backbone, device="cpu", dtype="float32", names=backbone_names())
        check(methods.load(name, files), backbone, args.word)
    print(f"{name} keeps the contract")


if __name__ == "__main__":
    main()
