"""Does a method keep its contract? (`python -m benchmarks.contract my_method.py`)

    python -m benchmarks.contract my_method.py [--backbone DIR]

Trains for a few steps, saves, loads, applies, restores, changes what it says it changes, and does
it all twice alike.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from benchmarks.advice import advised
from benchmarks.planning import methods
from benchmarks.planning.method_text import OPTIONAL, Said, constants, said_of
from benchmarks.planning.points import OperatingPoint
from benchmarks.running.trained_kinds import files_of, tensors_in
from perfusion_core.errors import UserError

NAMES, OTHER = ("thing", "other"), "dog"  # two concepts; the second one's super-category
STEPS = 3


class Broken(UserError):
    """A method does not do what the contract says."""


def check_method(
    module: ModuleType, backbone: Any, word: str = "cat", tell: Callable[[str], None] = print
) -> None:
    """Every check in turn; the first that fails is a `Broken` that says what to mend."""
    said = said_at_top(module)
    tell("says what it is at its top")
    config = methods.recipe(
        module, module.NAME, {"steps": STEPS} if module.TRAINED else {}, miniature=True
    )
    with tempfile.TemporaryDirectory(prefix="perfbench-contract-") as folder:
        out = Path(folder)
        fits = fitted(module, backbone, config, word, out) if module.TRAINED else nothing(word, out)
        if module.TRAINED:
            tell("trains, saves, leaves the backbone as it was")
            same_again(module, backbone, config, word, out)
            tell("the same seed gives the same files")
            if said.uses_covariance is False:
                without_covariance(module, backbone, config, word, out)
                tell("does not look at C")
            if said.one_file:
                one_file(out / "fit", said.one_file, word)
                tell("leaves one file")
            if said.files:
                files(out / "fit", said.files)
                tell("leaves the files that it says")
        before = state(backbone)
        plain = picture(backbone, f"A {word} on the beach")
        first = applied(module, backbone, fits)
        expect(same(before, state(backbone)), "apply must leave the backbone bit for bit as it was")
        expect(
            np.array_equal(plain, picture(backbone, f"A {word} on the beach")),
            "after apply it must draw as before",
        )
        tell("applies and restores")
        expect(
            np.array_equal(first, applied(module, backbone, fits)),
            "the same fit must draw the same picture",
        )
        tell("draws the same twice")
        if said.text_side:
            expect(
                np.array_equal(first, left(module, backbone, fits)),
                "TEXT_SIDE = True, but what apply changes is more than texts, K and V",
            )
            tell("shares batches with other methods")
        if len(said.points) > 1:
            settings = {name: OperatingPoint.parse(name).settings for name in said.points}
            seen = {applied(module, backbone, fits, s).tobytes() for s in settings.values()}
            expect(len(seen) == len(settings), "POINTS names points whose pictures are the same")
            tell("draws other pictures at each of its points")
        if module.TRAINED:
            expect(not np.array_equal(first, plain), "with the fit applied the picture must change")
            tell("changes the picture")
        together(
            module, backbone, {**fits, NAMES[1]: another(module, backbone, config, out)}, said.pairs
        )
        expect(
            same(before, state(backbone)),
            "two concepts together must leave the backbone as it was, too",
        )
        tell("draws two concepts together" if said.pairs else "draws its concepts one by one")
        try:
            with module.apply(backbone, fits, {}):
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            expect(
                same(before, state(backbone)),
                "apply must restore the backbone after an exception, too",
            )
        tell("restores after an exception")


def fitted(module: ModuleType, backbone: Any, config: Any, word: str, out: Path) -> dict[str, Any]:
    """One fit, with the state that `keep` asks for, made without changing the backbone."""
    from perfusion_core.subject import Fitted

    before, steps = state(backbone), []
    about = train(
        module,
        backbone,
        config,
        word,
        out / "fit",
        keep=(2,),
        progress=lambda *step: steps.append(step[0]),
    )
    expect(same(before, state(backbone)), "fit must leave nothing of itself in the backbone")
    expect(isinstance(about, dict), "fit must return a mapping for fit.json")
    expect(
        steps == list(range(1, STEPS + 1)),
        f"progress(step, steps, loss) must be called after each of {STEPS} steps",
    )
    expect(any((out / "fit").iterdir()), "fit must write its files into `out`")
    expect((out / "fit" / "step-2").is_dir(), "fit(keep=(2,)) must also write out/step-2/")
    loose = [
        path.name
        for path in (out / "fit").rglob("*")
        if path.suffix in (".pt", ".bin", ".pkl", ".ckpt", ".pth")
    ]
    expect(not loose, f"weights are saved as safetensors, never as pickles ({', '.join(loose)})")
    return {NAMES[0]: Fitted(out / "fit", word)}


def said_at_top(module: ModuleType) -> Said:
    """The optional names, which plans, figures and `perfbench tune` read without running the
    file.
    """
    assert module.__file__
    said = said_of(module.__file__)
    for name, value in constants(module.__file__).items():
        if name in OPTIONAL:
            expect(
                getattr(module, name) == value,
                f"{name} must not be changed after the line that says it",
            )
    for rate in said.tuned:
        fine = isinstance(getattr(module.Config(), rate, None), float)
        expect(fine, f"TUNED names {rate}, which is no number of Config such as 0.01")
    for rate in said.tuned_ranges:
        expect(rate in said.tuned, f"TUNED_RANGES names {rate}, which TUNED does not")
    return said


def without_covariance(
    module: ModuleType, backbone: Any, config: Any, word: str, out: Path
) -> None:
    """A fit beside another C gives the same files."""
    before = vars(backbone).get("c_inv")
    width = backbone.text.width
    vars(backbone)["c_inv"] = torch.linspace(1, 9, width, dtype=torch.float64).diag()
    try:
        same_again(
            module,
            backbone,
            config,
            word,
            out,
            "elsewhere",
            "USES_COVARIANCE = False, and with another C",
        )
    finally:
        del vars(backbone)["c_inv"]
        if before is not None:
            vars(backbone)["c_inv"] = before


def one_file(folder: Path, name: str, word: str) -> None:
    left = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    expect(
        left == sorted([name, f"step-2/{name}"]),
        f"ONE_FILE = {name!r}, but fit left {', '.join(left)}",
    )
    with safe_open(folder / name, "np") as file:
        kind = (file.metadata() or {}).get("super_category")
    expect(kind == word, f"the header of {name} must say the super_category")


def files(folder: Path, wanted: Mapping[str, str]) -> None:
    """All that FILES says, at the end and at a kept step, and no tensors elsewhere."""
    for state in (folder, folder / "step-2"):
        found = {
            path.relative_to(state).as_posix(): tensors_in("fit", path)
            for path in state.rglob("*.safetensors")
            if state != folder or "step-2" not in path.relative_to(state).parts
        }
        expect(
            found.keys() == files_of(wanted, found),
            f"FILES says {', '.join(wanted)} and what their tensors are called, but fit left "
            f"{', '.join(sorted(found.keys() - files_of(wanted, found)))} otherwise",
        )


def another(module: ModuleType, backbone: Any, config: Any, out: Path) -> Any:
    """A second fit, of a concept of another kind."""
    from perfusion_core.subject import Fitted

    if module.TRAINED:
        train(module, backbone, config, OTHER, out / "other", name=NAMES[1])
    return Fitted(out / "other", OTHER)


def together(module: ModuleType, backbone: Any, fits: dict[str, Any], pairs: bool) -> None:
    """Both concepts in one prompt; or the sentence of a method that cannot."""
    try:
        with module.apply(backbone, fits, {}) as write:
            picture(backbone, write(f"A {{{NAMES[0]}}} and a {{{NAMES[1]}}} on the beach"))
    except UserError as error:
        sentence = "a method that cannot draw two of its concepts together has to say PAIRS = False"
        expect(not pairs, f"{sentence} ({error})")
    else:
        expect(pairs, "PAIRS = False, but apply takes two concepts; it has to raise a UserError")


def nothing(word: str, out: Path) -> dict[str, Any]:
    from perfusion_core.subject import Fitted

    return {NAMES[0]: Fitted(out, word)}


def same_again(
    module: ModuleType, backbone: Any, config: Any, word: str, out: Path, place: str = "again",
    when: str = "the same seed must give the same bytes;",
) -> None:  # fmt: skip
    train(module, backbone, config, word, out / place, keep=(2,))
    files = sorted(
        path.relative_to(out / "fit") for path in (out / "fit").rglob("*") if path.is_file()
    )
    for name in files:
        other = out / place / name
        expect(
            other.is_file() and (out / "fit" / name).read_bytes() == other.read_bytes(),
            f"{when} {name} differs",
        )


def train(
    module: ModuleType,
    backbone: Any,
    config: Any,
    word: str,
    out: Path,
    name: str = NAMES[0],
    **more: Any,
) -> Any:
    """Random pictures, the same at every call."""
    from perfusion_core.sampling import as_float
    from perfusion_core.subject import Subject

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, backbone.size, backbone.size, 3), dtype=np.uint8)
    prior = (
        rng.integers(0, 256, (4, backbone.size, backbone.size, 3), dtype=np.uint8)
        if module.PRIOR
        else None
    )
    masks = torch.ones(3, 1, backbone.size, backbone.size)
    out.mkdir()
    return module.fit(
        backbone,
        Subject(name, word, as_float(pictures), masks, False),
        config,
        out,
        seed=1,
        prior=prior,
        **more,
    )


def applied(
    module: ModuleType, backbone: Any, fits: dict[str, Any], point: Mapping[str, Any] | None = None
) -> np.ndarray:
    with module.apply(backbone, fits, dict(point or {})) as write:
        text = write(f"A {{{NAMES[0]}}} on the beach")
        expect(isinstance(text, str), "write must return the text to hand to `sample`")
        return picture(backbone, text)


def left(module: ModuleType, backbone: Any, fits: dict[str, Any]) -> np.ndarray:
    """The picture of `applied`, from its text side alone: the method is gone when it is drawn."""
    from perfusion_core.sampling import draw, prepared

    with module.apply(backbone, fits, {}) as write:
        wanted = prepared(backbone, [write(f"A {{{NAMES[0]}}} on the beach")], [1], 6.0)
    return draw(backbone, wanted, steps=3, guidance=6.0)


def picture(backbone: Any, text: str) -> np.ndarray:
    from perfusion_core.sampling import sample

    return sample(backbone, [text], [1], steps=3)


def state(backbone: Any) -> dict[str, torch.Tensor]:
    """Every weight of the pipeline, and what hangs on it."""
    parts = {"unet": backbone.unet, "vae": backbone.vae}
    parts |= {reader.part: reader.model for reader in backbone.text.readers}
    return {
        f"{part}.{name}": t.detach().clone()
        for part, model in parts.items()
        for name, t in model.state_dict().items()
    }


def same(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return before.keys() == after.keys() and all(
        torch.equal(before[name], after[name]) for name in before
    )


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

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("method", help="a method file, or a name that `perfbench ls methods` lists")
    parser.add_argument(
        "--backbone", default="miniature", help="backbone to test on (default: miniature)"
    )
    parser.add_argument(
        "--word", default="cat", help="super-category of the test concept: a word of one token"
    )
    args = parser.parse_args()
    with sentences():
        files = [args.method] if args.method.endswith(".py") else []
        known = methods.sources(files)
        name = next(reversed(known)) if files else args.method
        methods.check_name(name, files)
        backbone = Backbone.open(
            args.backbone, device="cpu", dtype="float32", names=backbone_names()
        )
        check_method(methods.load_method(name, files), backbone, args.word)
    print(f"{name} keeps the contract")


if __name__ == "__main__":
    main()
