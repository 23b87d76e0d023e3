"""`judge:URL` as a scorer of a run and of single pictures, against an endpoint of the tests' own:
what is sent, how often, what is kept, and that the key is kept nowhere.
"""

import json
import re
import shutil

import pandas as pd
import pytest
from hostile_kit import command, refused
from judge_kit import KEY, chat, endpoint, grades, http
from run_kit import arguments, copy_of_reference, reference, shared

from benchmarks import api
from benchmarks.cli import run
from benchmarks.scoring import chat_endpoint, judge
from benchmarks.store.reading import read_cells, read_rows, read_run
from benchmarks.store.unit_cache import unit_cache
from perfusion_core.errors import UserError


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    monkeypatch.setenv(chat_endpoint.KEY, KEY)
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PERFBENCH_CACHE_SIZE", "10MB")
    monkeypatch.setattr(judge, "PAUSE", 0.01)
    monkeypatch.setattr(chat_endpoint, "SECONDS", 5.0)


@pytest.fixture
def there(tmp_path):
    return copy_of_reference(tmp_path / "run")


def score(out, here, *words):
    return run(["score", str(out), "--scorers", here.judge, "--device", "cpu", *map(str, words)])


def pictures():
    return sum(cell.n for cell in read_cells(reference()))


def nowhere(folder, capsys, *more):
    """The key is in no file below a folder, and in nothing that was printed."""
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    said = capsys.readouterr()
    for text in (said.out, said.err, *more):
        assert KEY not in text
    return said


def test_a_run_is_graded_once(there, tmp_path, capsys):
    with endpoint(lambda n: grades(n % 5, (n + 1) % 5)) as here:
        assert score(there, here, "--limit", 100) == 0
        sent = len(here.asked)
        assert sent == pictures() and len({one.raw for one in here.asked}) == sent
        said = nowhere(tmp_path, capsys)
        assert f"{sent} pictures to grade, 0 answers are known: {sent} calls to http://" in said.err
        name = read_run(there)["scorers"][1]["name"]
        assert re.fullmatch(r"judge-small-eye-[0-9a-f]{8}", name)
        assert f"image_sim_{name}" in said.out and f"text_sim_raw_{name}" in said.out
        rows = read_rows(there, name)
        told = rows[rows["method"] != "real"]
        assert set(told["text_sim_raw"]) <= {0, 0.25, 0.5, 0.75, 1}
        assert told.loc[told["kind"] == "deform", "image_sim"].isna().all()
        assert told.loc[told["kind"] == "shape", "image_sim"].notna().all()
        assert rows.loc[rows["method"] == "real", "image_sim"].isna().all(), "it has no ceiling"
        table = pd.read_csv(there / "table.csv").set_index(["method", "point"])
        mine = told[told["method"] == "super"].groupby("concept")["text_sim_raw"].mean().mean()
        found = table.loc[("super", "default"), f"text_sim_raw_{name}"]
        assert found == pytest.approx(mine, abs=1e-6)
        for of in ("image_sim", "text_sim_raw"):  # nothing else moves
            before = pd.read_csv(reference() / "table.csv").set_index(["method", "point"])
            assert table[of].equals(before[of])
        # again: by the same pictures, questions and model, from the cache; without a --limit
        assert score(there, here, "--again") == 0
        shutil.rmtree(there / "rows" / name)
        assert score(there, here) == 0
        assert len(here.asked) == sent
        assert "0 calls to" in capsys.readouterr().err
        assert read_rows(there, name).equals(rows)
    found = [entry for entry in unit_cache().entries() if entry.kind == "answer"]
    assert len(found) == sent and unit_cache().check()[1] == []
    assert {tuple(sorted(entry.of)) for entry in found} == {
        ("model", "picture", "prompt", "references")
    }


def test_what_the_judge_sees(there):
    with endpoint(grades(1, 1)) as here:
        assert score(there, here, "--limit", 100) == 0
    for one in here.asked:
        assert one.raw.count(KEY.encode()) == 1 and f"Bearer {KEY}".encode() in one.head
        texts = [part["text"] for part in one.parts if part["type"] == "text"]
        assert re.fullmatch(r'The prompt: "[^"{}]+"', texts[2])
        assert "cat" in texts[2] or "teapot" in texts[2]
        assert len(one.pictures) == 4  # three references and the picture
        assert all(url.startswith("data:image/png;base64,") for url in one.pictures)
        for word in (b"perfusion", b"super", b"local-b", str(there).encode()):
            assert word not in one.raw.replace(b"User-Agent: perfbench", b"")
    assert len({one.pictures[-1] for one in here.asked}) > 1


def test_the_limit_is_never_passed(there, capsys):
    most = pictures()
    with endpoint(grades(2, 2)) as here:
        with pytest.raises(Exception, match=f"{most} calls are needed; give --limit {most}, or le"):
            score(there, here)
        assert here.asked == []
        assert score(there, here, "--limit", 3) == 0
        assert len(here.asked) == 3
        said = capsys.readouterr().err
        assert "at most 3 calls" in said and "has not scored every planned image" in said
        assert len(read_run(there)["scorers"]) == 1
        assert score(there, here, "--limit", most) == 0
        assert len(here.asked) == most, "what was answered is not asked again"
    assert len(read_run(there)["scorers"]) == 2


def test_refusals_are_counted_and_do_not_stop(there, tmp_path, capsys):
    def replies(n):
        return chat(f"I would rather not. {KEY}") if 4 <= n < 7 else grades(3, 3)

    with endpoint(replies) as here:
        assert score(there, here, "--limit", 100) == 0
        assert len(here.asked) == pictures() + 2  # one picture was asked three times
        said = nowhere(tmp_path, capsys)
        assert "1 without a grade" in said.err
        name = read_run(there)["scorers"][1]["name"]
        assert f"{name} gave no score for 1 of {pictures()} images" in said.out
        rows = read_rows(there, name)
        assert rows.loc[rows["method"] != "real", "text_sim_raw"].isna().sum() == 1
        assert run(["table", str(there)]) == 0 and run(["table", str(there), "--by", "kind"]) == 0
        capsys.readouterr()
        # a refusal is not kept: --again asks once more, and for nothing else
        assert score(there, here, "--again", "--limit", 100) == 0
        assert len(here.asked) == pictures() + 3
        assert "gave no score" not in capsys.readouterr().out


FAULTS = {
    "too many requests": http("", f"429 {KEY}"),
    "broken": http(KEY, "503 Service Unavailable"),
    "torn": grades(1, 1)[:-9],
    "silent": [9.0],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_is_repeated(there, tmp_path, capsys, monkeypatch, fault):
    monkeypatch.setattr(chat_endpoint, "SECONDS", 0.3)
    with endpoint(lambda n: FAULTS[fault] if n < 2 else grades(1, 1)) as here:
        assert score(there, here, "--limit", 100) == 0
    assert len(here.asked) == pictures() + 2 and here.asked[0].raw == here.asked[2].raw
    nowhere(tmp_path, capsys)


def shows(one):
    return one.pictures[-1]


def test_a_picture_that_always_fails_is_a_refusal(there, capsys):
    def replies(n):
        if n == 1:
            bad.append(shows(here.asked[1]))
        return http("", "503 Busy") if shows(here.asked[n]) in bad else grades(1, 1)

    bad = []
    with endpoint(replies) as here:
        assert score(there, here, "--limit", 100) == 0
        assert len(here.asked) == pictures() + 2
        name = read_run(there)["scorers"][1]["name"]
        assert f"{name} gave no score for 1 of" in capsys.readouterr().out
        bad.clear()
        assert score(there, here, "--again", "--limit", 100) == 0
        assert len(here.asked) == pictures() + 3


def test_five_pictures_in_a_row_that_fail_stop_it(there, capsys):
    with endpoint(lambda n: grades(1, 1) if n < 2 else http("", "503 Busy")) as here:
        assert score(there, here, "--limit", 100) == 1
    assert len(here.asked) == 2 + 5 * 3
    assert "failed for 5 pictures in a row: it answers 503" in capsys.readouterr().err


def test_a_model_that_refuses_a_temperature_is_asked_without(there):
    def replies(n):
        cold = "temperature" in here.asked[n].body
        return http("", "400 Bad Request") if cold else grades(2, 1)

    with endpoint(replies) as here:
        assert score(there, here, "--limit", 100) == 0
    sent = [one.body for one in here.asked]
    assert ["temperature" in body for body in sent] == [True] + [False] * pictures()
    assert sent[0] == {**sent[1], "temperature": 0}


DOWN = {
    "no key": (http(KEY, f"401 {KEY}"), 1, "is the key in PERFBENCH_JUDGE_KEY right"),
    "no model": (http(KEY, "404 Not Found"), 1, "are the address and the model's name right"),
    "moved": (http("", "302 Found", "Location: http://127.0.0.1:1/"), 1, "never followed"),
    "broken": (http(KEY, "500 Internal Server Error"), 3, "asked 3 times for one picture"),
    "huge": (chat(KEY * 20_000), 3, "more than 256 KB"),
    "no chat": (http(f"<html>{KEY}"), 3, "is no chat completion"),
    "blind": (chat(KEY), 24, "none of the first 8 pictures"),
    "refusing": (http(KEY, "400 Bad Request"), 2, "400 Bad Request before any picture has a grade"),
    "too large": (http(KEY, "413 Too Large"), 1, "413"),
}  # fmt: skip


@pytest.mark.parametrize("case", DOWN)
def test_an_endpoint_that_does_not_answer_is_left_alone(there, tmp_path, capsys, case):
    reply, calls, why = DOWN[case]
    with endpoint(reply) as here:
        assert score(there, here, "--limit", 100) == 1
    assert len(here.asked) == calls
    said = nowhere(tmp_path, capsys)
    assert why in said.err and len(read_run(there)["scorers"]) == 1
    if calls < 3:  # nothing was asked that could be a refusal
        rows = [read_rows(there, place.name) for place in (there / "rows").glob("judge-*")]
        assert all(set(frame["method"]) <= {"real"} for frame in rows)
    assert "Traceback" not in said.err and not (there / "failed").exists()


def test_a_run_of_somebody_else_asks_nobody(there, capsys):
    """run.json may name any address; the key goes where this command says."""
    with endpoint(grades(4, 4)) as thief:
        about = json.loads((there / "run.json").read_text())
        about["config"]["scorers"].append(thief.judge)
        source = thief.judge.partition(":")[2]
        about["scorers"].append({"name": "judge-small-eye-01234567", "kind": "judge",
                                 "source": source, "weights": "", "preprocessing": "",
                                 "pixels": ""})  # fmt: skip
        (there / "run.json").write_text(json.dumps(about))
        assert run(["score", str(there), "--again", "--device", "cpu"]) == 0
        run(["table", str(there)])
    assert thief.asked == []


def test_a_judge_draws_beside_a_run(tmp_path, capsys, monkeypatch):
    """`run` with a judge: refused without a limit, refused as the first scorer or in processes; the
    rows are those of `score`."""
    out = copy_of_reference(tmp_path / "run")
    with endpoint(grades(2, 3)) as here:
        words = ["run", *arguments(shared(), out)]
        told = refused(monkeypatch, capsys, *words, "--scorers", f"auto,{here.judge}")
        assert f"give --judge-limit {pictures()}" in told
        told = refused(monkeypatch, capsys, *words, "--scorers", here.judge)
        assert "name another before it" in told
        told = refused(monkeypatch, capsys, *words, "--scorers", f"auto,{here.judge}",
                       "--engine", "processes", "--judge-limit", 9)  # fmt: skip
        assert "asked by one process" in told
        config = tmp_path / "c.toml"
        config.write_text(f'scorers = ["auto", "{here.judge}"]')
        told = refused(monkeypatch, capsys, *words, "--config", config)
        assert "names a judge" in told and here.asked == []
        more = ["--scorers", f"auto,{here.judge}", "--judge-limit", "100"]
        assert run([*words, *more]) == 0
        assert len(here.asked) == pictures()
    said = nowhere(tmp_path, capsys)
    assert "image_sim_judge-small-eye-" in said.out


# ---- measure ----


@pytest.fixture
def few(tmp_path):
    cell = next(c for c in read_cells(reference()) if c.concept == "cat")
    place = reference() / "images" / cell.method / cell.point / "cat" / cell.prompt_id
    shutil.copytree(place, tmp_path / "few", ignore=lambda _, names: {"cell.json"} & set(names))
    return [tmp_path / "few", "--references", reference() / "concepts" / "cat"]


def test_measure(few, tmp_path, capsys, monkeypatch):
    words = ["measure", *map(str, few), "--prompt", "A {} on the beach", "--super-category", "cat"]
    with endpoint(lambda n: chat("no") if n in (1, 2, 3) else grades(3, 1)) as here:
        words += ["--scorers", here.judge]
        told = refused(monkeypatch, capsys, *words)
        assert "2 calls are needed; give --limit 2" in told
        assert run([*words, "--limit", "9", "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert row["image_sim"] == 0.75 and row["text_sim_word"] == 0.25
        assert row["ceiling"] is None and row["text_sim_raw"] is None
        assert [len(one) for one in row["each"]] == [3, 1]
        assert '"A cat on the beach"' in here.asked[0].parts[-3]["text"]
        assert run([*words, "--limit", "9"]) == 0 and len(here.asked) == 5
        said = nowhere(tmp_path, capsys)
        assert "0.7500" in said.out and "divided by 4" in said.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--prompt", "A {}"], "compares pictures with references and with a prompt"),
        (["REFERENCES", "--prompt", "A {}", "--limit", "9"], "give --super-category WORD"),
        (["--prompt", "A {}", "--limit", "0"], "out of range"),
        (["--prompt", "A {}", "--limit", "some"], "not a whole number"),
    ],
)
def test_mistakes_in_measure(few, capsys, monkeypatch, words, told):
    real = few[1:] if words[0] == "REFERENCES" else []
    words = [word for word in words if word != "REFERENCES"]
    with endpoint(grades(1, 1)) as here:
        said = refused(
            monkeypatch, capsys, "measure", few[0], *real, *words, "--scorers", here.judge
        )
    assert told in said and here.asked == []


def test_scripts_give_a_limit_too(few):
    given = {"references": few[2], "prompts": "A {}", "word": "cat"}
    with endpoint(grades(4, 2)) as here:
        with pytest.raises(UserError, match="2 calls are needed"):
            api.measure(few[0], **given, scorers=[here.judge])
        [answer] = api.measure(few[0], **given, scorers=[here.judge], limit=2)
    assert (answer.image_sim, answer.text_sim_word) == (1.0, 0.5) and len(here.asked) == 2


def test_an_import_names_score_instead(few, tmp_path, capsys, monkeypatch):
    words = ["import", few[0], "--as", "mine", "--out", tmp_path / "new"]
    with endpoint(grades(1, 1)) as here:
        told = refused(monkeypatch, capsys, *words, "--scorers", f"miniature,{here.judge}")
    assert f"score {tmp_path / 'new'} --scorers judge:URL#MODEL --limit N" in told
    assert here.asked == [] and not (tmp_path / "new").exists()


def test_a_dead_endpoint_in_measure(few, capsys, monkeypatch):
    with endpoint(http(KEY, "401 No")) as here:
        status, said = command(monkeypatch, capsys, "measure", *few, "--prompt", "A {}",
                               "--super-category", "cat", "--limit", 9,
                               "--scorers", here.judge)  # fmt: skip
    assert status == 2 and "is the key in" in said and KEY not in said and len(here.asked) == 1


@pytest.mark.parametrize(
    "words",
    [["score", "RUN", "--limit", "3"], ["measure", "RUN", "--prompt", "A {}", "--limit", "3"],
     ["run", "--preset", "micro", "--judge-limit", "3"]],
)  # fmt: skip
def test_a_limit_of_nothing_is_a_mistake(capsys, monkeypatch, words):
    words = [str(reference()) if word == "RUN" else word for word in words]
    assert "counts calls of judges, and none is named" in refused(monkeypatch, capsys, *words)


def test_without_a_cache_it_says_so(there, capsys, monkeypatch):
    monkeypatch.setenv("PERFBENCH_CACHE_SIZE", "0")
    with endpoint(grades(1, 1)) as here:
        assert score(there, here, "--limit", 100) == 0
    assert "no answer is kept" in capsys.readouterr().err and len(read_run(there)["scorers"]) == 2
