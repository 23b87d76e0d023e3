"""`perfbench export`: concepts as files that other programs open; the concept itself stays.

In: concept files or a LoRA of diffusers, a backbone, an operating point. Out: in a folder, an
embedding a concept and one LoRA in kohya's keys; what was lost is printed and in its header.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.disk import ask_for
from benchmarks.exchange import lora_files
from benchmarks.exchange.export_compare import Judge, compare
from benchmarks.exchange.gate_captions import captions_for
from benchmarks.exchange.parcel import UNTUNED, is_untuned
from benchmarks.exchange.static_concept import Static, full_rank, static_concepts
from benchmarks.figures.one_prompt.wanted import numbers
from benchmarks.planning.points import BIASES
from benchmarks.safe_paths import safe_name
from perfusion_core import __version__
from perfusion_core.admission import by_name, check_concepts
from perfusion_core.backbone import cross_attentions
from perfusion_core.concept import Concept
from perfusion_core.errors import NotAConcept, UserError, unknown
from perfusion_core.files import write_tensors
from perfusion_core.perfusion_settings import BIAS, LOCKS, TEMPERATURE

LEAST = 0.9  # R^2 of the gate below which an export draws something else
NAME = re.compile(r"\w[\w-]*")  # in prompts of other programs . : , < and > mean something


class Given(NamedTuple):
    name: str
    path: Path
    concept: Concept | None  # None: a LoRA


class Wanted(NamedTuple):
    """A file to be written."""

    tensors: lora_files.Tensors
    header: dict[str, str]


def export(args: argparse.Namespace) -> None:
    if args.lock not in LOCKS:
        raise unknown("lock", args.lock, LOCKS)
    if args.lock != "local":
        raise UserError(
            f"--lock {args.lock} cannot be exported: its keys are those of another prompt, and a "
            f"LoRA knows one; export --lock local, or draw with `perfbench generate`"
        )
    given = [read(word) for word in args.concepts]
    concepts = {one.name: one.concept for one in given if one.concept}
    refuse_names(given, concepts)
    out = Path(args.out)
    stem = safe_name("+".join(one.name for one in given), "the exported file's name")
    targets = [out / f"{lora_files.word_of(name)}.safetensors" for name in concepts]
    targets += [out / f"{stem}_lora.safetensors"]
    targets += [out / f"{stem}_bundle.safetensors"] if args.bundle else []
    targets += [out / name for name in ("compare.png", "compare.csv")] if args.compare else []
    refuse_targets(targets, [one.path for one in given], args.overwrite)
    if not concepts:
        if args.bundle or args.compare or args.rank:
            raise UserError(
                f"{given[0].path} is a LoRA, whose keys alone are changed; leave --bundle, "
                f"--compare and --rank out"
            )
        done = kohya_of(given[0], opened(args), stem)
        write({targets[0]: done._replace(header=done.header | untuned_among(given))})
        return
    bias, temperature = point_of(args, concepts)
    rank = rank_of(args, concepts)
    backbone = opened(args)
    layers = cross_attentions(backbone.unet)
    concepts = {name: concept.arranged(layers) for name, concept in concepts.items()}
    check_concepts(backbone.pipe, concepts, layers, args.force)
    judge = Judge(args, backbone) if args.compare else None
    found = made_static(args, backbone, concepts, bias, temperature, rank)
    about = told_in_header(backbone, found, concepts, bias, temperature) | untuned_among(given)
    write(wanted_files(backbone, found, concepts, stem, about, list(targets)))
    if judge:
        point = dict(zip(concepts, bias)), dict(zip(concepts, temperature))
        files = targets[: len(concepts) + 1]
        compare(args, judge, backbone, concepts, files, point)


def write(done: Mapping[Path, Wanted]) -> None:
    for path, wanted in done.items():
        write_tensors(path, wanted.tensors, wanted.header)
        print(path)


def opened(args: argparse.Namespace) -> Any:
    from benchmarks.devices import device_name
    from benchmarks.paths import backbone_names
    from perfusion_core.backbone import Backbone

    dtype = None if args.dtype == "auto" else args.dtype
    device, names = device_name(args.device), backbone_names()
    backbone = Backbone.open(
        args.backbone, device=device, dtype=dtype, revision=args.revision, names=names
    )
    if backbone.text.behind:
        raise UserError(
            f"the backbone {backbone.name!r} is of PixArt's or Sana's kind, and no program that "
            f"opens exported files knows a concept's layers there; draw with `perfbench generate` "
            f"or load_concepts"
        )
    return backbone


# ---- what is given ----


def read(word: str) -> Given:
    """FILE, FOLDER or NAME=FILE; a folder is one that `perfbench fit` left."""
    from baselines.lora import FILE
    from perfusion_core.perfusion import ONE_FILE

    name, equals, place = word.partition("=")
    if not equals or Path(word).exists():
        name, place = "", word
    path = Path(place)
    if path.is_dir():
        inside = [path / file for file in (ONE_FILE, FILE) if (path / file).is_file()]
        if not inside:
            raise UserError(f"{path} holds neither {ONE_FILE} nor {FILE}; name a concept file")
        path = inside[0]
    try:
        concept = Concept.load(path)
    except NotAConcept:
        usual = path.parent.resolve().name if path.name == FILE else path.stem
        return Given(checked(name or re.sub("[-_.]lora$", "", usual), word), path, None)
    return Given(checked(name or concept.placeholder, word), path, concept)


def checked(name: str, word: str) -> str:
    if not NAME.fullmatch(name):
        raise UserError(
            f"{word}: {name[:60]!r} cannot be a word in other programs' prompts; give it one of "
            f"letters, digits, _ and -: NAME={word.rpartition('=')[2]}"
        )
    return safe_name(name)


def refuse_names(given: Sequence[Given], concepts: Mapping[str, Concept]) -> None:
    if len(given) > 1 and len(concepts) < sum(one.concept is not None for one in given):
        twice = next(one for n, one in enumerate(given) if one.name in [g.name for g in given[:n]])
        raise UserError(
            f"two concepts are called {twice.name!r}; give one another name: OTHER={twice.path}"
        )
    if len(given) > 1 and len(concepts) < len(given):
        lora = next(one for one in given if one.concept is None)
        raise UserError(f"{lora.path} is a LoRA, not a concept; export it by itself")
    if len({name.casefold() for name in concepts}) < len(concepts):
        raise UserError(
            f"the names {', '.join(concepts)} differ in capitals only, and some disks do not tell "
            f"such files apart; give one another name: NAME=FILE"
        )


def refuse_targets(targets: Sequence[Path], inputs: Sequence[Path], overwrite: bool) -> None:
    for target in targets:
        ask_for(target)
        if not target.exists():
            continue
        if any(target.samefile(one) for one in inputs):
            raise UserError(
                f"{target} is what is exported, and it is never written over; give another --out"
            )
        if not overwrite:
            raise UserError(
                f"{target} is there already; give another --out, or --overwrite replaces it"
            )


# ---- what is written ----


def kohya_of(given: Given, backbone: Any, stem: str) -> Wanted:
    """The same matrices under kohya's keys."""
    factors = lora_files.read_lora(given.path, backbone)
    tensors = lora_files.kohya_tensors(factors, backbone)
    rank, digest = max(len(one.down) for one in factors.values()), lora_files.sha256_of(tensors)
    spec = lora_files.model_spec(backbone, digest, "lora", title=f"{given.name} (LoRA)")
    header = lora_files.kohya_header(backbone, digest, rank, f"{stem}_lora")
    told = in_header({"version": __version__, **made_on(backbone)})
    return Wanted(tensors, header | spec | told)


def point_of(
    args: argparse.Namespace, concepts: Mapping[str, Concept]
) -> tuple[list[float], list[float]]:
    """Bias and temperature of each concept."""
    bias = by_name(numbers(args.bias, "--bias"), concepts, "bias", BIAS)
    temperature = by_name(
        numbers(args.temperature, "--temperature"), concepts, "temperature", TEMPERATURE
    )
    if max(map(abs, bias)) > BIASES:
        raise UserError(
            f"--bias {args.bias}: a bias above {BIASES} turns every concept off; give a lower one"
        )
    return bias, temperature


def rank_of(args: argparse.Namespace, concepts: Mapping[str, Concept]) -> int:
    most = full_rank(concepts)
    if args.rank and args.rank > most:
        raise UserError(
            f"--rank {args.rank}: the best static change of these concepts has rank {most}, and "
            f"more changes nothing; leave it out"
        )
    return args.rank or most


def made_static(
    args: argparse.Namespace,
    backbone: Any,
    concepts: Mapping[str, Concept],
    bias: list[float],
    temperature: list[float],
    rank: int,
) -> Static:
    """The map, and on stderr what is lost by it; refused where it tells too little of the gate."""
    words = list(dict.fromkeys(one.super_category for one in concepts.values()))
    drawn_world = (backbone.place / "scorer").is_dir()  # as a suite is chosen
    captions = captions_for(drawn_world, args.captions, words)
    found = static_concepts(backbone.pipe, concepts, captions, bias, temperature, rank)
    print("\n".join(f"perfbench: {line}" for line in told(found, concepts)), file=sys.stderr)
    weak = [name for name, value in found.explained.items() if not value >= LEAST]
    if weak and not args.force:
        raise UserError(
            f"a LoRA can express the gate of {weak[0]!r} only to R^2 "
            f"{found.explained[weak[0]]:.3f}, below {LEAST}, so other pictures would come out; "
            f"fit it again with `perfbench fit ... --for lora`, or write the files all the same "
            f"with --force"
        )
    return found


def told_in_header(
    backbone: Any,
    found: Static,
    concepts: Mapping[str, Concept],
    bias: list[float],
    temperature: list[float],
) -> dict[str, str]:
    said = {
        "version": __version__,
        **made_on(backbone),
        "concepts": " ".join(f"{name}={one.super_category}" for name, one in concepts.items()),
        "bias": " ".join(f"{value:g}" for value in bias),
        "temperature": " ".join(f"{value:g}" for value in temperature),
        "gate_r2": " ".join(f"{value:.4f}" for value in found.explained.values()),
        **{f"error_{name}": f"{value:.4f}" for name, value in asdict(found.errors).items()},
        "captions": found.captions,
        "lost": lost(concepts),
    }
    return in_header(said)


def made_on(backbone: Any) -> dict[str, str]:
    return {"backbone": f"{backbone.name} {backbone.digest}"}


def in_header(said: Mapping[str, str]) -> dict[str, str]:
    return {f"perfbench.{name}": value for name, value in said.items()}


def untuned_among(given: Iterable[Given]) -> dict[str, str]:
    """For the header: whose rates were a guess; nothing where none's were."""
    names = [one.name for one in given if is_untuned(one.path)]
    return {UNTUNED: " ".join(names)} if names else {}


def wanted_files(
    backbone: Any,
    found: Static,
    concepts: Mapping[str, Concept],
    stem: str,
    about: dict[str, str],
    targets: list[Path],
) -> dict[Path, Wanted]:
    done: dict[Path, Wanted] = {}
    for name, concept in concepts.items():
        tensors = lora_files.embedding_tensors(name, concept.embedding, concept.widths)
        spec = lora_files.model_spec(
            backbone,
            lora_files.sha256_of(tensors),
            "textual-inversion",
            title=f"{name}, the word of a Perfusion concept",
            trigger_phrase=lora_files.word_of(name),
        )
        done[targets.pop(0)] = Wanted(tensors, spec | about)
    lora = lora_files.kohya_tensors(found.factors, backbone)
    vectors = {name: concept.embedding for name, concept in concepts.items()}
    bundle = lora_files.bundle_tensors(lora, vectors, backbone.text.widths)
    for kind, tensors in (("lora", lora), ("bundle", bundle)):
        if not targets or not targets[0].stem.endswith(f"_{kind}"):
            continue
        digest = lora_files.sha256_of(tensors)
        spec = lora_files.model_spec(
            backbone,
            digest,
            "lora",
            title=f"{stem}, a Perfusion concept without its gate",
            description="; ".join(told(found, concepts)),
            trigger_phrase=", ".join(map(lora_files.word_of, concepts)),
            usage_hint="strength 1, with the embedding of the same name in the prompt",
        )
        header = lora_files.kohya_header(backbone, digest, found.rank, f"{stem}_{kind}")
        done[targets.pop(0)] = Wanted(tensors, header | spec | about)
    return done


# ---- what is said ----


def told(found: Static, concepts: Mapping[str, Concept]) -> list[str]:
    r2 = ", ".join(f"{name} {value:.3f}" for name, value in found.explained.items())
    e = found.errors
    return [
        f"rank {found.rank}, from {found.fitted_on} texts ({found.captions}); R^2 of the gate on "
        f"others: {r2}",
        f"K and V are off by {e.word_k:.1%} and {e.word_v:.1%} of the edit at the word, by "
        f"{e.prompt_k:.1%} and {e.prompt_v:.1%} over the prompt",
        f"lost: {lost(concepts)}",
    ]


def lost(concepts: Mapping[str, Concept]) -> str:
    gated = any(concept.gate != "linear" for concept in concepts.values())
    first = "bias and temperature are fixed, a LoRA's strength is neither; " if gated else ""
    pooled = any(len(one.widths) > 1 and one.pooled != "concept" for one in concepts.values())
    second = "other programs pool the word itself, not its super-category; " if pooled else ""
    last = "" if len(concepts) > 1 else "; a second concept needs a file of both"
    return (
        f"{first}{second}no global lock; good for this checkpoint's weights of K and V alone{last}"
    )
