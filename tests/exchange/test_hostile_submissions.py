"""Forged submissions: each kind is refused in one sentence, and nothing of it reaches the disk.

All are made of a real one, most with a manifest, digests and tables that fit what was forged.
"""

import gzip
import io
import json
import lzma
import tarfile
import zipfile

import numpy as np
import pytest
import submission_kit as kit
from hostile_kit import make_victim, untouched

from benchmarks.cli import run
from benchmarks.exchange.submissions.submission_archive import UNPACKED, members
from benchmarks.miniature.which_world import WORLDS, world_here
from perfusion_core.errors import UserError

IMAGE, TEXT, SEED, INDEX = 9, 10, 8, 7  # columns of a row
PLAN = "plan.csv"
OTHER = next(world for world in WORLDS if world != world_here())
COMMAND = "::error::hello"  # what a workflow's log obeys at the beginning of a line


def drop_lines(n):
    return kit.rows_changed(lambda lines: lines[:-n])


def twice(lines):
    return [*lines, lines[-1]]


def deform_gets_image(lines):
    at = next(k for k, line in enumerate(lines) if ",deform," in line)
    return [*lines[:at], kit.cell_set(lines[at], IMAGE, "0.9"), *lines[at + 1 :]]


def plan_without(files):
    """A hard prompt that one method alone does not have."""
    lines = files[PLAN].decode().splitlines(keepends=True)
    keep = [line for line in lines if not line.startswith("perfusion,local-b0.60-t0.15,cat,")]
    files[PLAN] = "".join(keep).encode()


def plan_twice(files):
    lines = files[PLAN].decode().splitlines(keepends=True)
    files[PLAN] = "".join([*lines, lines[-1]]).encode()


def better_table(files):
    lines = files["table.csv"].decode().splitlines(keepends=True)
    head = lines[0].split(",")
    at = next(k for k, line in enumerate(lines) if line.startswith("method,cd,"))
    lines[at] = kit.cell_set(lines[at], head.index("harmonic"), "0.9")
    files["table.csv"] = "".join(lines).encode()


def cell_of_lines(files):
    """A quoted name with line ends, of which a log would take one for a command."""
    lines = files["table.csv"].decode().splitlines(keepends=True)
    at = next(k for k, line in enumerate(lines) if line.startswith("method,cd,"))
    lines[at] = kit.cell_set(lines[at], 2, f'"default\n{COMMAND}\nverified"')
    files["table.csv"] = "".join(lines).encode()


def negative_cost(files):
    lines = files["table.csv"].decode().splitlines(keepends=True)
    head = lines[0].rstrip("\n").split(",")
    lines[1] = kit.cell_set(lines[1], head.index("kilobytes"), "-5")
    files["table.csv"] = "".join(lines).encode()


def other_scorer(about):
    about["scorers"][0]["name"] = "my-scorer-00000000"
    about["protocol"]["scorers"] = ["my-scorer-00000000"]


def renamed_rows(files):
    kit.run_json(other_scorer)(files)
    for name in [name for name in files if name.startswith("rows/")]:
        files[name.replace(kit.SCORER, "my-scorer-00000000")] = files.pop(name)


def public_scorer(files):
    renamed_rows(files)
    kit.run_json(lambda about: about["scorers"][0].update(source="ViT-B-32-quickgelu:openai"))(
        files
    )


def weaker(about):
    about["scorers"][0]["weights"] = "0" * 64


def fewer_steps(about):
    about["protocol"]["steps"] = 10


def bomb() -> bytes:
    """Three hundred million zeros in some 45 kB."""
    return lzma.compress(bytes(UNPACKED + 2**25), preset=1)


def empty_streams() -> bytes:
    """Twenty thousand streams of nothing behind a real archive."""
    return kit.real_archive() + 20_000 * lzma.compress(b"", check=lzma.CHECK_NONE)


def zip_bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("run.json", bytes(2**24))
    return out.getvalue()


def many_names() -> bytes:
    name = tarfile.TarInfo("run.json")
    return kit.packed([(name, b"{}"), (name, b"{}")])


FORGED = {
    "rows edited, their digest not": (
        lambda: kit.forged(kit.text_changed(kit.ROWS, "perfusion,local", "perfusion,global", 1)),
        "is not as it was scored",
    ),
    "rows edited, digest and manifest made to fit": (
        lambda: kit.forged(kit.first_row(IMAGE, "0.990000")),
        "cells.csv was edited",
    ),
    "a table edited": (lambda: kit.forged(better_table), "table.csv was edited: harmonic of"),
    "cells edited": (
        lambda: kit.forged(kit.text_changed("cells.csv", ",0.6", ",0.7", 1)),
        "cells.csv was edited",
    ),
    "metrics lack a row": (
        lambda: kit.forged(lambda files: files.__setitem__(
            "metrics.csv", b"".join(files["metrics.csv"].splitlines(keepends=True)[:-1]))),
        "metrics.csv was edited: its rows or columns",
    ),
    "a picture without its row": (lambda: kit.forged(drop_lines(1)), "1 planned cells have not"),
    "a rows file is missing": (
        lambda: kit.forged(lambda files: files.pop(kit.ROWS)),
        "10 planned cells have not all their rows",
    ),
    "a method without the cells of super": (
        lambda: kit.forged(plan_without),
        "perfusion/local-b0.60-t0.15 lacks 10 cells that super has",
    ),
    "a cell planned twice": (lambda: kit.forged(plan_twice), "plan.csv has a cell twice"),
    "a row twice": (
        lambda: kit.forged(kit.rows_changed(twice)),
        "this image has a row twice",
    ),
    "another seed": (lambda: kit.forged(kit.first_row(SEED, "7")), "its seed is '7', and the"),
    "a picture beyond the plan": (
        lambda: kit.forged(kit.first_row(INDEX, "9")),
        "2 images are planned",
    ),
    "a row of no planned cell": (
        lambda: kit.forged(kit.first_row(0, "0" * 64)),
        "has a row of no planned cell",
    ),
    "NaN": (lambda: kit.forged(kit.first_row(TEXT, "nan")), "is 'nan', which is no number"),
    "infinity": (lambda: kit.forged(kit.first_row(TEXT, "inf")), "is 'inf', which is no number"),
    "a cosine above 1": (
        lambda: kit.forged(kit.first_row(TEXT, "1.200000")),
        "text_sim_raw is '1.200000', which cannot be",
    ),
    "an empty score": (
        lambda: kit.forged(kit.first_row(TEXT, "")),
        "text_sim_raw is empty",
    ),
    "a score that the protocol has not": (
        lambda: kit.forged(kit.rows_changed(deform_gets_image)),
        "image_sim is there, and the protocol has none",
    ),
    "a lower ceiling": (
        lambda: kit.forged(kit.rows_changed(lambda lines: lines[:3], kit.REAL_ROWS)),
        "cat has 2 rows of its own pictures",
    ),
    "no ceiling": (
        lambda: kit.forged(lambda files: files.pop(kit.REAL_ROWS)),
        "cat has 0 rows of its own pictures",
    ),
    "an easier prompt": (
        lambda: kit.forged(kit.text_changed(PLAN, "A {cat} on the beach", "A {cat}")),
        "plan.csv asks something else than the suite miniature does",
    ),
    "another word to score against": (
        lambda: kit.forged(kit.text_changed(PLAN, "A on the beach", "A cat")),
        "plan.csv asks something else",
    ),
    "a path upwards": (lambda: kit.beside("rows/../../../evil.csv"), "it is the folder itself or"),
    "an absolute path": (lambda: kit.beside("/tmp/evil.csv"), "it is absolute"),
    "a link": (lambda: kit.beside("pictures.csv", tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
    "a hard link": (lambda: kit.beside("pictures.csv", tarfile.LNKTYPE, "run.json"), "is a link"),
    "a device": (lambda: kit.beside("pictures.csv", tarfile.FIFOTYPE), "is no plain file"),
    "a packed file that readers would unpack": (
        lambda: kit.beside(f"{kit.ROWS}.gz"),
        "which no submission has",
    ),
    "an xz bomb": (bomb, "it unpacks to more than"),
    "a bomb of empty streams": (empty_streams, "it has an empty stream"),
    "a gzip bomb": (lambda: gzip.compress(bytes(2**24)), "it is a gzip file, and was not unpacked"),
    "a zip bomb": (zip_bomb, "it is a zip file, and was not unpacked"),
    "no archive": (lambda: b"hello", "it is no archive that is known"),
    "cut off": (lambda: kit.real_archive()[:-40], "it is cut off"),
    "a bit turned": (
        lambda: kit.real_archive()[:900] + b"\xff\xff" + kit.real_archive()[902:],
        "it is damaged",
    ),
    "a file twice": (many_names, "it has 'run.json' twice"),
    "another protocol": (
        lambda: kit.forged(kit.run_json(fewer_steps)),
        "it calls its protocol quick, and it is another one (steps: 20 -> 10)",
    ),
    "a protocol nobody knows": (
        lambda: kit.forged(kit.run_json(lambda about: about["protocol"].update(preset="best"))),
        "its protocol is called 'best'",
    ),
    "another scorer": (lambda: kit.forged(renamed_rows), "is another than those known here"),
    "a public scorer that would have to be fetched": (
        lambda: kit.forged(public_scorer),
        "name it for the check: --scorers clip:ViT-B-32-quickgelu:openai",
    ),
    "a scorer's name on other weights": (
        lambda: kit.forged(kit.run_json(weaker)),
        "has other weights than the one of that name here",
    ),
    "another backbone": (
        lambda: kit.forged(kit.run_json(lambda about: about["backbone"].update(sha256="0" * 16))),
        "has another digest than miniature here",
    ),
    "another world": (
        lambda: kit.forged(kit.run_json(lambda about: about["backbone"].update(world=OTHER))),
        f"it was drawn in the {OTHER} world of the miniature",
    ),
    "another concept": (
        lambda: kit.forged(
            kit.run_json(lambda about: about["digests"]["concepts"].update(cat="0" * 16))
        ),
        "it was made of other texts or pictures",
    ),
    "a digest of several lines": (
        lambda: kit.forged(kit.run_json(lambda about: about["digests"]["concepts"].update(
            cat=f"0\n{COMMAND}\nverified"))),
        "(concept cat: '0\\n::error::hello\\nverified' -> ",
    ),
    "a cell of several lines in a table": (
        lambda: kit.forged(cell_of_lines),
        "table.csv was edited: point of ",
    ),
    "a score with a line end": (
        lambda: kit.forged(kit.first_row(TEXT, f'"9{chr(10)}"')),
        "text_sim_raw is '9\\n', which cannot be",
    ),
    "a protocol that is a list": (
        lambda: kit.forged(kit.run_json(lambda about: about["protocol"].update(preset=["quick"]))),
        "its protocol is called ['quick']",
    ),
    "a protocol that is an object": (
        lambda: kit.forged(kit.run_json(lambda about: about["protocol"].update(preset={"a": 1}))),
        "its protocol is called {'a': 1}",
    ),
    "a number beyond all in run.json": (
        lambda: kit.forged(kit.text_changed("run.json", '"steps": 20,', '"steps": 1e999,', 1)),
        "run.json is no JSON that can be read: 1e999 is not finite",
    ),
    "a whole number beyond all in run.json": (
        lambda: kit.forged(
            kit.text_changed("run.json", '"steps": 20,', f'"steps": {10**400},', 1)
        ),
        "run.json is no JSON that can be read",
    ),
    "a version of tomorrow": (
        lambda: kit.with_manifest(lambda about: about.update(version=2)),
        "it is of version 2, and version 1 is read",
    ),
    "another format": (
        lambda: kit.with_manifest(lambda about: about.update(format="zip")),
        "its format is 'zip'",
    ),
    "a manifest that lists what is not there": (
        lambda: kit.with_manifest(lambda about: about["files"].update({"more.csv": {}})),
        "lists 'more.csv', which is not there",
    ),
    "a file that the manifest does not list": (
        lambda: kit.with_manifest(lambda about: about["files"].pop("plan.csv")),
        "it holds 'plan.csv', which manifest.json does not list",
    ),
    "a file changed after the manifest": (
        lambda: kit.with_manifest(lambda about: about["files"]["run.json"].update(bytes=1)),
        "run.json is not the file that manifest.json lists",
    ),
    "a name that is a path": (
        lambda: kit.with_manifest(lambda about: about.update(name="a/evil")),
        "cannot be the name of a file: it has /",
    ),
    "a name that leads upwards": (
        lambda: kit.with_manifest(lambda about: about.update(name="..")),
        "it is the folder itself or the one above",
    ),
    "a name that is no text": (
        lambda: kit.with_manifest(lambda about: about.update(name=["evil"])),
        "has no name of at most 100 printed characters",
    ),
    "other trained files than run.json tells": (
        lambda: kit.forged(lambda files: files.__setitem__("trained.json", json.dumps(
            {"cd": {"cat": {"digest": "0" * 64}}}).encode())),
        "has another digest than run.json tells",
    ),
    "trained files of a path": (
        lambda: kit.forged(lambda files: files.__setitem__("trained.json", json.dumps(
            {"../../victim": {"cat": {"digest": "0" * 64}}}).encode())),
        "names '../../victim', which is no method",
    ),
    "a cost below nothing": (lambda: kit.forged(negative_cost), "kilobytes is below 0"),
    "run.json of no run": (
        lambda: kit.forged(lambda files: files.__setitem__("run.json", b"[" * 100_000)),
        "run.json is no JSON that can be read",
    ),
    "a thumbnail that is none": (
        lambda: kit.forged(lambda files: files.__setitem__(
            "thumbnails/cd/default/cat/s01.jpg", b"<script>")),
        "is no JPEG",
    ),
    "a thumbnail of no cell": (
        lambda: kit.forged(lambda files: files.__setitem__(
            "thumbnails/cd/default/cat/s99.jpg", b"x")),
        "is the picture of no planned cell",
    ),
    "pixels of no cell": (
        lambda: kit.forged(lambda files: files.__setitem__(
            "pictures.csv", b"method,point,concept,prompt_id,pixels\na,b,c,d,e\n")),
        "pictures.csv has a row of no planned cell",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_submission_is_refused(kind, tmp_path, capsys):
    make, sentence = FORGED[kind]
    victim = make_victim(tmp_path / "victim")
    archive = kit.place(tmp_path, make())
    capsys.readouterr()
    with untouched(victim):
        assert run(["submission", "verify", str(archive)]) == 1
    said = capsys.readouterr().out
    assert said.startswith("theirs.perfbench.tar.xz: refused: ") and said.count("\n") == 1
    assert sentence in said, said
    assert said[:-1].isprintable() and "\n::" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == [archive.name, "victim"]


def test_the_real_one_of_which_they_are_made_is_not_refused(tmp_path, capsys):
    archive = kit.place(tmp_path, kit.forged(lambda files: None))
    assert run(["submission", "verify", str(archive), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "recomputed"


def test_a_bomb_costs_no_more_memory_than_the_limit(monkeypatch):
    """The limit itself is lowered, so that the test needs little."""
    from benchmarks.exchange.submissions import submission_archive as archive

    monkeypatch.setattr(archive, "UNPACKED", 10_000)
    asked = []
    real = lzma.LZMADecompressor

    class Watched:
        def __init__(self, *args, **more):
            self.inner = real(*args, **more)

        def decompress(self, data, most):
            text = self.inner.decompress(data, most)
            asked.append(len(text))
            return text

        def __getattr__(self, name):
            return getattr(self.inner, name)

    monkeypatch.setattr(archive.lzma, "LZMADecompressor", Watched)
    with pytest.raises(archive.Refused, match="unpacks to more"):
        archive.unpacked_text(lzma.compress(bytes(2**20)))
    assert sum(asked) <= 10_001


def test_many_streams_are_read_once_and_counted(monkeypatch):
    """What a decoder is given is what it copies: no more than a piece a stream, for any number."""
    from benchmarks.exchange.submissions import submission_archive as archive

    given = []
    real = lzma.LZMADecompressor

    class Watched:
        def __init__(self, *args, **more):
            self.inner = real(*args, **more)

        def decompress(self, data, most):
            given.append(len(data))
            return self.inner.decompress(data, most)

        def __getattr__(self, name):
            return getattr(self.inner, name)

    monkeypatch.setattr(archive.lzma, "LZMADecompressor", Watched)
    one = lzma.compress(b"x")
    assert archive.unpacked_text(one * 2000) == b"x" * 2000
    assert len(given) < 2 * 2000 + 100 and max(given) <= 2**13
    monkeypatch.setattr(archive, "STREAMS", 1999)
    with pytest.raises(archive.Refused, match="more than 1,999 streams"):
        archive.unpacked_text(one * 2000)


def test_streams_of_any_length_are_read_to_their_end():
    """Their ends fall before, on and behind those of the pieces; noise does not get shorter."""
    from benchmarks.exchange.submissions.submission_archive import PIECE, unpacked_text

    rng = np.random.default_rng(0)
    texts = [rng.bytes(n) for n in (1, *range(PIECE - 80, PIECE - 40), 5 * PIECE, 2**21, 3)]
    assert unpacked_text(b"".join(map(lzma.compress, texts))) == b"".join(texts)


def test_a_header_that_asks_for_memory_is_refused(monkeypatch):
    from benchmarks.exchange.submissions import submission_archive as archive

    monkeypatch.setattr(archive, "MEMORY", 2**16)
    with pytest.raises(archive.Refused, match="damaged"):
        archive.unpacked_text(lzma.compress(b"x", preset=9))


def test_members_of_nonsense_are_a_sentence():
    from benchmarks.exchange.submissions.submission_archive import Refused

    with pytest.raises(Refused, match="no tar"):
        members(b"\x01" * 2048)


def test_whatever_a_verdict_tells_stays_in_its_line():
    from benchmarks.exchange.submissions.submission_verify import RECOMPUTED, Verdict, told_text

    hostile = f"x\n{COMMAND}\r{COMMAND}\u2028{COMMAND}\x1b[2J"
    found = Verdict("a", "", RECOMPUTED, name=hostile, by=hostile, told=[hostile], why=hostile)
    for verdict in (found, Verdict(hostile, "", "refused", why=hostile)):
        lines = told_text(verdict).removesuffix("\n").split("\n")
        assert len(lines) == (3 if verdict is found else 1)
        assert all(line.isprintable() and not line.startswith("::") for line in lines)


def test_scorers_are_looked_up_only_where_the_command_names_them(tmp_path, monkeypatch):
    """Whatever an archive says of public ones: each would be a download."""
    from benchmarks.exchange.submissions import known_here
    from benchmarks.scoring.lookup import find_scorer

    asked = []

    def watched(word, *more):
        asked.append(word)
        return find_scorer(word, *more)

    monkeypatch.setattr(known_here, "find_scorer", watched)
    told = [{"name": f"x-{k}", "kind": "clip", "source": word.partition(":")[2]}
            for k, word in enumerate(known_here.PUBLIC)]  # fmt: skip
    known_here.scorers_here({"scorers": told}, known_here.Places())
    assert asked == ["auto"]
    given = str(kit.ROOT / "benchmarks" / "nowhere")
    with pytest.raises(UserError, match="unknown scorer"):
        known_here.scorers_here({"scorers": told}, known_here.Places(scorers=("auto", given)))
    assert asked == ["auto", "auto", given]
