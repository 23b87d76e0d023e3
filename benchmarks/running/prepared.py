"""What is asked, found and planned before anything is done. In: a Config. Out: `Prepared`; nothing
is written.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.devices import device_name
from benchmarks.digests import digest
from benchmarks.disk import read_json
from benchmarks.paths import RESULTS, backbone_names
from benchmarks.planning import methods
from benchmarks.planning.backbones import Models, find_models
from benchmarks.planning.config import PRESETS, Config
from benchmarks.planning.plan import choose_prompts, make_plan
from benchmarks.planning.units import FLOOR, Method, Plan
from benchmarks.running.given_files import Guest, find_given, given_by
from benchmarks.running.refusals import refuse_known, refuse_unfit
from benchmarks.store import run_json
from benchmarks.store.reading import imported_methods
from benchmarks.store.run_folder import Store
from benchmarks.suite import concept_masks
from benchmarks.suite.catalog import PERFUSION, Catalog, Concept
from perfusion_core.errors import UserError
from perfusion_core.places import on_this_machine
from perfusion_core.weight_digests import file_sha256


@dataclass(frozen=True)
class Prepared:
    """All that is decided before anything is done."""

    config: Config
    catalog: Catalog
    concepts: tuple[Concept, ...]
    methods: tuple[Method, ...]
    models: Models
    plan: Plan
    protocol: Mapping[str, Any]
    digests: Mapping[str, Any]
    folder: Path
    device: str


def prepare_run(config: Config, guests: Sequence[Guest] = ()) -> Prepared:
    """Names first, which costs no torch and finds typing mistakes at once; what the backbone's kind
    refuses, before anything is fetched; then models, methods and the plan. `guests`: methods beside
    the configured ones, with their trained files.
    """
    if config.out:
        old = read_json(Path(config.out) / "run.json") or {}
        refuse_imported(Path(config.out), old, (FLOOR, *config.methods))
    methods.check_names(config.methods, config.method_files)
    on_this_machine(config.backbone, backbone_names())
    others = [guest.method for guest in guests]
    known = refuse_known(config, others)
    catalog = open_catalog(config)
    config = with_suite(config, catalog)
    concepts = chosen_concepts(config, catalog)
    for concept in concepts:
        choose_prompts(config.prompts, catalog.prompts, concept.group)
    models = find_models(
        config, None if known else partial(refuse_unfit, config=config, others=others)
    )
    chosen = methods.resolve_methods(config, models.miniature, models.joint)
    bare = {concept.name: concept.digest for concept in (*catalog.concepts, *concepts)}
    given = find_given(
        config.trained,
        chosen,
        concepts,
        in_pairs(config, catalog, concepts) if config.trained else (),
        config.method_files,
    )
    chosen, catalog, concepts = with_masks(
        config, chosen, catalog, concepts, {name for name, _ in given}
    )
    trained_elsewhere = {name for name, _ in given}
    chosen = tuple(
        replace(method, masks=None, untuned=False) if method.name in trained_elsewhere else method
        for method in chosen
    )
    chosen = (*chosen, *others)
    given |= given_by(guests, concepts)
    refuse_recipes(config, models, chosen, trained_elsewhere)
    if not models.covariance and (
        needy := [method.base for method in chosen if method.needs_covariance]
    ):
        raise UserError(f"the backbone {models.name} has no C yet, which {needy[0]} needs: "
                        f"perfbench covariance --backbone {config.backbone}")  # fmt: skip
    plan = make_plan(config, catalog, concepts, chosen, models.facts, given)
    device = device_name(config.device, elsewhere=config.engine == "ray")
    fixed = run_json.resolved_protocol(config, models, catalog)
    folder = Path(config.out) if config.out else usual_folder(config, models, fixed)
    digests = run_json.selected(catalog, concepts, bare, plan)
    return Prepared(config, catalog, concepts, chosen, models, plan, fixed, digests, folder, device)


def refuse_imported(folder: Path, about: Mapping[str, Any], names: Iterable[str]) -> None:
    """What was imported is there, and nothing trains or draws it."""
    imported = imported_methods(about) if run_json.can_go_on(about) else set()
    for name in names:
        if name == FLOOR and name in imported:
            raise UserError(
                f"{FLOOR} was imported into {folder}, and a run draws it itself: give another "
                f"folder with --out"
            )
        if name in imported:
            raise UserError(
                f"{name} was imported into {folder}: its pictures stay, and nothing is trained or "
                f"drawn; leave it out of --methods"
            )


def refuse_recipes(
    config: Config, models: Models, chosen: Iterable[Method], given: Collection[str]
) -> None:
    """By methods whose recipe does not fit every U-Net, from its configuration alone."""
    unet = read_json(Path(models.place) / "unet" / "config.json")
    if not unet:  # a single file, or a transformer: training itself looks at the layers
        return
    for method in chosen:
        if method.trained and method.name not in given:
            module = methods.load_method(method.base, config.method_files)
            if refuse := getattr(module, "refuse_backbone", None):
                with methods.called(method.name, method.config):
                    refuse(module.Config(**method.config), models.name, unet)


def usual_folder(config: Config, models: Models, protocol: Mapping[str, Any]) -> Path:
    return RESULTS / f"{config.preset}-{models.name.replace('/', '-')}-{digest(protocol)[:8]}"


def chosen_concepts(config: Config, catalog: Catalog) -> tuple[Concept, ...]:
    """Each once; two different ones cannot share a name, because it is their place in the run
    folder.
    """
    named = PRESETS[config.preset][1].get("concepts")
    if config.concepts == named and not set(named) <= {c.name for c in catalog.concepts}:
        raise UserError(
            f"--preset {config.preset} takes {', '.join(named)}, which the suite {catalog.name} "
            f"has not: give --concepts all, or names of `perfbench ls concepts --suite ...`"
        )
    found: dict[str, Concept] = {}
    for concept in (
        concept for name in config.concepts for concept in catalog.select_concepts(name)
    ):
        if found.setdefault(concept.name, concept).digest != concept.digest:
            raise UserError(
                f"--concepts has two different concepts called {concept.name}; rename the folder "
                f"of one"
            )
    return tuple(found.values())


def in_pairs(config: Config, catalog: Catalog, concepts: tuple[Concept, ...]) -> list[Concept]:
    """Those of --pairs, which need not be among the chosen ones."""
    return by_name([name for pair in config.pairs for name in pair.split("+")], concepts, catalog)


def by_name(names: Iterable[str], concepts: tuple[Concept, ...], catalog: Catalog) -> list[Concept]:
    """The chosen concept of each name; of any other name, the catalogue's."""
    known = {concept.name: concept for concept in concepts}
    return [known[name] if name in known else catalog.concept(name) for name in names]


def open_catalog(config: Config) -> Catalog:
    """The suite that was asked for; else the drawn concepts for a miniature, the photographs for
    anything else.
    """
    from benchmarks.suite.importers import open_suite

    place = backbone_names().get(config.backbone, Path(config.backbone))
    return open_suite(config.suite or ("miniature" if (place / "scorer").is_dir() else "photos"))


def with_suite(config: Config, catalog: Catalog) -> Config:
    """Another suite brings its own number of images, steps and guidance, where nothing else was
    asked for.
    """
    theirs, plain = catalog.protocol, Config()
    wanted: dict[str, Any] = {
        "images": theirs.images_per_prompt,
        "steps": theirs.steps,
        "guidance": theirs.guidance,
    }
    if theirs == PERFUSION or config.preset != "paper":
        return config
    return replace(
        config,
        **{
            key: value
            for key, value in wanted.items()
            if getattr(config, key) == getattr(plain, key)
        },
    )


def with_masks(
    config: Config,
    chosen: tuple[Method, ...],
    catalog: Catalog,
    concepts: tuple[Concept, ...],
    given: Collection[str] = (),  # methods that are not trained here
) -> tuple[tuple[Method, ...], Catalog, tuple[Concept, ...]]:
    """The masks that were asked for, where a method looks at masks at all; `none` also tells the
    methods so.
    """
    if config.masks == "none":
        chosen = tuple(methods.without_masks(method, config.method_files) for method in chosen)
    elif not any(method.config.get("masks") and method.name not in given for method in chosen):
        return chosen, catalog, concepts
    masked = concept_masks.chooser(config.masks, config.clipseg)
    pairs = {name for pair in config.pairs for name in pair.split("+")}
    others = tuple(masked(c) if c.images and c.name in pairs else c for c in catalog.concepts)
    return chosen, replace(catalog, concepts=others), tuple(masked(concept) for concept in concepts)


def planned_concepts(prepared: Prepared) -> list[Concept]:
    """The selected concepts, and those of pairs."""
    names = dict.fromkeys(name for cell in prepared.plan.cells for name in cell.concepts)
    return by_name(names, prepared.concepts, prepared.catalog)


def concept_key(concept: Concept, size: int) -> str:
    return digest(["concept", concept.digest, size])


def publish_pictures(store: Store, concept: Concept, size: int) -> None:
    """A concept's pictures in a run folder, and beside them those that no method sees."""
    key = concept_key(concept, size)
    store.publish_concept(concept.name, key, partial(pictures, concept, size))
    publish_heldout(store, concept, size)


def publish_heldout(store: Store, concept: Concept, size: int) -> None:
    if concept.heldout:
        key = digest(["heldout", [file_sha256(path) for path in concept.heldout], size])
        store.publish_heldout(concept.name, key, partial(squares, concept.heldout, size))


def pictures(concept: Concept, size: int, out: Path) -> None:
    """A concept's images, and masks where it has them, as the backbone draws: squares of its
    size.
    """
    from PIL import Image

    from benchmarks.suite.image_files import load_mask

    squares(concept.images, size, out)
    if concept.masks:
        (out / "masks").mkdir()
    for number, path in enumerate(concept.masks):
        Image.fromarray(load_mask(path, size)).save(out / "masks" / f"{number}.png")


def frames_of(
    concepts: Iterable[Concept], models: Models
) -> dict[str, tuple[tuple[int, ...], ...]]:
    """How each concept's photographs were taken and cut; nothing where no U-Net is told."""
    from benchmarks.suite.image_files import frame_of

    if not models.joint:
        return {}
    return {one.name: tuple(frame_of(path, models.size) for path in one.images) for one in concepts}


def squares(files: Sequence[Path], size: int, out: Path) -> None:
    from PIL import Image

    from benchmarks.suite.image_files import load_rgb

    for number, path in enumerate(files):
        Image.fromarray(load_rgb(path, size)).save(out / f"{number}.png")


def scorer_names(models: Models) -> list[str]:
    return [scorer.name for scorer in models.scorers]
