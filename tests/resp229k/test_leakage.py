"""The leakage audit: closed forms where everything or nothing is given away, and its command."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import agent.cli as cli
import resp229k.leakage as leakage_module
from agent.cli.data_leakage import leakage
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from resp229k.leakage import DRAWN, MAJORITY, WITHHELD, Audit, ProbeResult, audit_corpus, audit_release, auroc
from resp229k.leakage_plot import plot_audit
from resp229k.leakage_probes import KeyProbe, columns, mask, told_fields
from resp229k.sources import sprsound
from resp229k.sources.recording import Recording
from resp229k.tasks import TASKS
from training.errors import DataError

SOUNDS: dict[str, list[str]] = {
    "normal": [],
    "crackle": ["crackle"],
    "wheeze": ["wheeze"],
    "both": ["crackle", "wheeze"],
}


def clip(index: int, **values: Any) -> Clip:
    rng = np.random.default_rng(index)
    fields: dict[str, Any] = {
        "clip_id": f"c{index}", "recording_id": f"x:{index}", "subject_id": f"x:{index // 2}", "source": "x",
        "split": "train", "path": "a.flac", "start": 0, "end": 1, "sample_rate": 8000, "device": "y",
        "metadata": {"age_years": int(rng.integers(20, 60)), "sex": str(rng.choice(["female", "male"]))},
    }  # fmt: skip
    return Clip.model_validate(fields | values)


def corpus(clips: list[Clip]) -> Corpus:
    return Corpus(Path("corpora/made"), clips)


def probes(audit: Audit) -> dict[str, ProbeResult]:
    (task,) = audit.tasks
    return {probe.probe: probe for probe in task.probes}


@pytest.fixture(scope="module")
def sounding() -> Audit:
    """Sound labels that neither person nor origin knows of, each in its clip's events."""
    names = list(SOUNDS)
    labels = np.random.default_rng(0).permutation([names[i % 4] for i in range(160)])
    return audit_corpus(
        corpus(
            [
                clip(i, labels={"icbhi4": str(label)},
                     events=[{"kind": kind, "start": 0, "end": 1} for kind in SOUNDS[label]])
                for i, label in enumerate(labels)
            ]
        ),
        seeds=1,
    )  # fmt: skip


def test_labels_independent_of_everything_stay_at_chance(sounding: Audit) -> None:
    found = probes(sounding)
    for name in ("text", "text, masked", "text with equipment", "told fields", "source", "device", DRAWN):
        assert found[name].balanced_accuracy.mean == pytest.approx(0.25, abs=0.12), name
        assert found[name].auroc.mean == pytest.approx(0.5, abs=0.12), name
    assert found[MAJORITY].balanced_accuracy.mean == pytest.approx(0.25, abs=0.02)
    assert found[MAJORITY].auroc.mean == 0.5


def test_the_leaky_row_and_the_withheld_fields_are_found(sounding: Audit) -> None:
    found = probes(sounding)
    assert found["leaky text"].macro_f1.mean == 1
    assert found[WITHHELD].macro_f1.mean == 1
    assert "no crackles" in found["leaky text"].words["normal"]
    # Cutting out the words is no cure: what is left of the negation still tells "normal".
    assert found["leaky text, masked"].auroc.mean > 0.7
    assert "no" in found["leaky text, masked"].words["normal"]
    assert not {"crackle", "crackles", "wheezes"} & {
        word for said in found["leaky text, masked"].words.values() for text in said for word in text.split()
    }


def test_label_is_the_source() -> None:
    sources = ("hospital", "clinic", "home")
    classes = ("Asthma", "COPD", "Control")
    audit = audit_corpus(
        corpus(
            [
                clip(i, source=sources[i // 2 % 3], labels={"disease16": classes[i // 2 % 3]})
                for i in range(90)
            ]
        ),
        ["disease16"],
        seeds=1,
    )
    found = probes(audit)
    assert found["source"].macro_f1.mean == found["source"].auroc.mean == 1
    assert found["text with equipment"].macro_f1.mean == 1
    assert "clinic" in found["text with equipment"].words["COPD"]
    assert found["text"].balanced_accuracy.mean == pytest.approx(1 / 3, abs=0.15)
    assert found["device"].auroc.mean == 0.5


def test_classes_with_few_subjects_and_clips_of_several_are_left_out_by_name() -> None:
    clips = [clip(i, labels={"disease16": ("Asthma", "COPD")[i % 2]}) for i in range(24)]
    clips += [clip(100 + i, subject_id="x:one", labels={"disease16": "URTI"}) for i in range(9)]
    clips += [clip(200, multi_labels={"disease16": ("COPD", "Heart Failure")})]
    clips += [clip(300, labels={"disease16": "LRTI"}, synthetic=True)]
    (task,) = audit_corpus(corpus(clips), ["disease16"], seeds=1).tasks
    assert task.classes == {"Asthma": 12, "COPD": 12}
    assert task.left_out == {"URTI": "1 subjects, fewer than the 5 folds", "clips of several classes": "1"}
    assert (task.clips, task.subjects) == (24, 12)


def test_nothing_to_judge_is_said() -> None:
    (task,) = audit_corpus(corpus([clip(i, labels={"covid": "positive"}) for i in range(20)])).tasks
    assert task.probes == [] and task.classes == {"positive": 20}
    with pytest.raises(DataError, match="task covid"):
        audit_corpus(corpus([clip(0, labels={"icbhi4": "normal"})]), ["covid"])
    with pytest.raises(DataError, match="unknown task"):
        audit_corpus(corpus([clip(0)]), ["nonsense"])


@pytest.mark.slow
def test_subjects_never_help_themselves() -> None:
    """A word per subject and a label per subject: known on other clips of them, useless on others."""
    rng = np.random.default_rng(3)
    labels = {subject: str(rng.choice(["positive", "negative"])) for subject in range(60)}
    clips = [
        clip(i, subject_id=f"x:{i % 60}", device=f"device{i % 60}", labels={"covid": labels[i % 60]})
        for i in range(180)
    ]
    found = probes(audit_corpus(corpus(clips), ["covid"], seeds=1))
    assert found["device"].auroc.mean == 0.5
    assert found["text with equipment"].balanced_accuracy.mean < 0.65


class Release:
    """An adapter of a release whose texts state the disease, or a random one."""

    def __init__(self, honest: bool):
        self.honest = honest

    def discover(self, root: Path) -> Iterator[Recording]:
        rng = np.random.default_rng(0)
        for index in range(120):
            label = ("Asthma", "COPD", "Pulmonary Fibrosis")[index % 3]
            said = label if not self.honest else str(rng.choice(["a walk", "a meal", "some rest"]))
            yield Recording(
                source="resp229k_release",
                recording_id=f"resp229k_release:{'abc'[index % 3]}.{index}",
                subject_id=f"resp229k_release:{'abc'[index % 3]}.{index}",
                path=root / "a.wav",
                labels={"disease16": label},
                metadata={"narrative": f"After {rng.integers(9)} days of {said} the patient came."},
            )
        yield Recording(source="r", recording_id="r:x", subject_id="r:x", path=root / "b.wav")


@pytest.mark.parametrize("honest", [False, True])
def test_release_texts(honest: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage_module, "adapter", lambda name: Release(honest))
    audit = audit_release(tmp_path, seeds=2)
    found = probes(audit)
    masked, chance = found["released text, masked"], pytest.approx(1 / 3, abs=0.12)
    assert masked.balanced_accuracy.mean == chance
    if honest:
        assert found["released text"].balanced_accuracy.mean == chance
    else:
        assert found["released text"].macro_f1.mean == 1
        assert "fibrosis" in found["released text"].words["Pulmonary Fibrosis"]
    assert found["source"].macro_f1.mean == 1
    assert audit.tasks[0].left_out == {"recordings without a narrative": "1"}
    with pytest.raises(DataError, match="no such folder"):
        audit_release(tmp_path / "none")


@pytest.mark.slow
def test_same_figures_again_and_others_by_seed() -> None:
    clips = [clip(i, labels={"covid": ("positive", "negative")[i % 2]}) for i in range(40)]
    first, again = (audit_corpus(corpus(clips), seeds=2) for _ in range(2))
    assert first == again
    assert probes(first)["text"].macro_f1.std > 0


@pytest.mark.parametrize(
    ("text", "task", "left"),
    [
        ("No crackles or Wheezes were detected.", "icbhi4", "No or were detected."),
        ("Fine crackles, wheezing", "spr_event", ","),
        ("Long-standing COPD and pulmonary fibrosis", "disease16", "Long-standing and"),
        ("tested for COVID-19: positive", "covid", "tested for :"),
        ("CAS & DAS in a case", "spr_record", "in a case"),
        ("an asthmatic of 60 years with a cold", "disease16", "an of 60 years with a"),
        ("no abnormality", "icbhi4", "no abnormality"),
    ],
)
def test_mask(text: str, task: str, left: str) -> None:
    assert mask(text, task) == left


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_class_name_is_masked(task: str) -> None:
    assert all(mask(f"It is {name.lower()} now", task) == "It is now" for name in TASKS[task].classes)


def test_columns_of_fields() -> None:
    rows = [{"age": 3.0, "sick": ("a", "b"), "site": "x"}, {"age": None, "sick": ()}, {"age": 5.0}]
    made = columns(rows)  # age, age missing, three answers, one site
    assert np.isnan(made[1, 0]) and made[[0, 2], 0].tolist() == [3, 5]
    assert made[:, 1].tolist() == [0, 1, 0]
    assert sorted(made[:, 2:].T.tolist()) == [[0, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]]
    assert columns([{}, {}]).shape == (2, 1)


@pytest.mark.parametrize(("years", "as_told"), [(6.9, 6.0), (0.75, 0.8), (None, None)])
def test_told_age_is_no_finer_than_the_narrative(years: float | None, as_told: float | None) -> None:
    assert told_fields(clip(0, metadata={"age_years": years}), "icbhi4").get("age_years") == as_told


def test_an_origin_is_scored_against_all() -> None:
    probe = KeyProbe(["a", "a", "b", "new"])
    given = probe.judge(np.array([0, 1, 2]), np.array([0, 2, 3]), np.array([0, 1, 1, 0]), 0)
    assert given == pytest.approx(np.array([[1.5, 0.75], [0, 1.5], [1, 1]]), abs=1e-8)
    assert given[2].argmax() == 1  # never seen: the commonest class
    assert np.isfinite(probe.judge(np.array([0]), np.array([1]), np.array([0, 1, 1, 2]), 0)).all()


@pytest.mark.slow
def test_an_origin_that_shifts_a_rare_class_is_not_taken_for_chance() -> None:
    """5 % positive in one device and 35 % in the other: the majority of both is negative."""
    clips = [
        clip(i, device=("a", "b")[i // 2 % 2], labels={"covid": "positive" if rare else "negative"})
        for i in range(400)
        for rare in [i // 4 % 20 < (1, 7)[i // 2 % 2]]
    ]
    found = probes(audit_corpus(corpus(clips), ["covid"], seeds=1))["device"]
    assert found.balanced_accuracy.mean == pytest.approx((7 / 8 + 19 / 32) / 2)
    assert found.auroc.mean == pytest.approx(found.balanced_accuracy.mean, abs=0.05)
    assert found.macro_f1.mean > 0.5


@pytest.mark.slow
def test_a_random_origin_stays_at_chance() -> None:
    rng = np.random.default_rng(5)
    clips = [
        clip(
            i, device=str(rng.choice(["a", "b"])), labels={"covid": str(rng.choice(["positive", "negative"]))}
        )
        for i in range(400)
    ]
    found = probes(audit_corpus(corpus(clips), ["covid"], seeds=1))["device"]
    assert found.balanced_accuracy.mean == pytest.approx(0.5, abs=0.08)
    assert found.auroc.mean == pytest.approx(0.5, abs=0.08)


def test_auroc_is_scikit_learns() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    truth, score = rng.random(99) < 0.3, rng.integers(0, 9, 99)  # with ties
    assert auroc(truth, score) == pytest.approx(roc_auc_score(truth, score))


def test_plot(sounding: Audit, tmp_path: Path) -> None:
    plot_audit(sounding, tmp_path / "figures" / "audit.png")
    assert (tmp_path / "figures" / "audit.png").read_bytes()[:4] == b"\x89PNG"


# ---- the command, run as `resp-agent` runs it


def run(monkeypatch: pytest.MonkeyPatch, *args: str | Path) -> int:
    app = typer.Typer()
    app.command()(leakage)
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["resp-agent", *map(str, args)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    clips = [clip(i, labels={"covid": ("positive", "negative")[i % 2]}) for i in range(40)]
    clips += [clip(99, labels={"disease16": "URTI"})]
    Corpus(tmp_path / "corpus", clips).save()
    return tmp_path / "corpus"


def test_command(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    written, drawn = folder.parent / "audit.json", folder.parent / "audit.png"
    assert run(monkeypatch, folder, "--json", written, "--plot", drawn) == 0
    said = capsys.readouterr().out
    assert "covid: 40 clips of 20 subjects" in said
    assert "left out: URTI: 1 subjects" in said
    audit = Audit.model_validate_json(written.read_text())
    assert json.loads(written.read_text())["seeds"] == 3
    assert [task.task for task in audit.tasks] == ["disease16", "covid"]
    assert drawn.is_file()


@pytest.mark.parametrize("case", ["task", "corpus", "both", "neither", "release", "seeds", "json"])
def test_wrong_input_exits_with_2(folder: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: dict[str, list[str | Path]] = {
        "task": [folder, "--task", "nonsense"],
        "corpus": [folder / "none"],
        "both": [folder, "--release", folder],
        "neither": [],
        "release": ["--release", folder / "none"],
        "seeds": [folder, "--seeds", "2"],
        "json": [folder, "--json", folder],
    }
    assert run(monkeypatch, *wrong[case]) == 2


def test_command_needs_nothing_heavy_at_import() -> None:
    import subprocess

    code = "import sys, agent.cli.data_leakage; print({'sklearn', 'numpy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_release_by_its_adapter(tmp_path: Path) -> None:
    rows = [
        {"audio_filename": f"{101 + i}_1b1_Al_sc_Meditron.wav",
         "description": f"Nothing of note but {('COPD', 'asthma')[i % 2]}.", "disease": ("COPD", "Asthma")[i % 2]}
        for i in range(40)
    ]  # fmt: skip
    (tmp_path / "audio_descriptions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = probes(audit_release(tmp_path, seeds=1))
    assert found["released text"].macro_f1.mean == 1
    assert found["released text, masked"].auroc.mean == 0.5


@pytest.mark.real
@pytest.mark.slow
def test_real_narratives_keep_the_findings_back(resp_data: Path) -> None:
    clips = [
        clip(
            index, subject_id=found.subject_id, source=found.source, device=found.device,
            labels={"spr_record": found.labels["spr_record"]}, metadata=found.metadata,
            events=[{"kind": kind, "start": 0, "end": 1} for part in found.stretches for kind in part.kinds],
        )
        for index, found in enumerate(sprsound.discover(resp_data / sprsound.FOLDER))
        if found.fault is None and "spr_record" in found.labels
    ]  # fmt: skip
    found = probes(audit_corpus(corpus(clips), ["spr_record"], seeds=1))
    assert len(clips) > 1900
    # Age and place say a little of the findings; the texts say no more than these fields do.
    assert found["text"].macro_f1.mean < found["told fields"].macro_f1.mean + 0.05 < 0.35
    assert found["leaky text"].macro_f1.mean > 0.75
