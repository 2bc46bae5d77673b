"""Adapters: published formats in, recordings out; listed defects met, unknown labels found."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from resp229k.quarantine import refuse
from resp229k.sources import icbhi, sprsound
from training.errors import DataError

MODULES = {"SPRSound": sprsound, "ICBHI_2017": icbhi}


def test_sprsound_fields(published: Path) -> None:
    recordings = list(sprsound.discover(published / "SPRSound"))
    assert len(recordings) == 12
    fourth = recordings[3]
    assert fourth.recording_id == "sprsound:90000003_3.3_1_p4_3"
    assert fourth.subject_id == "sprsound:90000003"
    assert fourth.labels == {"spr_record": "Normal", "disease16": "Asthma"}
    assert fourth.metadata.model_dump(exclude_none=True) == {
        "age_years": 3.3,
        "sex": "female",
        "site": "right lateral chest",
        "diagnosis": "Asthma",
        "findings": "Normal",
    }
    event = fourth.stretches[1]
    assert (event.start, event.end, event.icbhi4) == (1.0, 1.9, "both")
    assert event.labels == {"spr_event": "Wheeze+Crackle"}
    assert fourth.present and fourth.fault is None and fourth.notes == ()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [("Rhonchi", "wheeze"), ("Stridor", "wheeze"), ("Coarse Crackle", "crackle"), ("Normal", "normal")],
)
def test_sprsound_event_types(published: Path, raw: str, expected: str) -> None:
    file = next((published / "SPRSound" / "train_json").iterdir())
    event = {"start": "0", "end": "500", "type": raw}
    file.write_text(json.dumps({"record_annotation": "CAS", "event_annotation": [event]}))
    found = [r for r in sprsound.discover(published / "SPRSound") if r.path.stem == file.stem]
    assert found[0].stretches[0].icbhi4 == expected


def test_sprsound_refinement_and_contradictions(published: Path) -> None:
    folder = published / "SPRSound"
    summary = folder / "Patient Summary"
    (summary / "Grand_Challenge'24_excerpt_refined_other.csv").write_text(
        "patient_num,disease_2022,disease_2024\n90000001,Other respiratory diseases,Bronchiectasia\n"
    )
    text = (summary / "SPRSound_patient_summary.csv").read_text()
    (summary / "SPRSound_patient_summary.csv").write_text(
        text.replace("0,90000000,Asthma,3,M", "0,90000000,Asthma,3.2,F").replace(
            "2,90000002,Asthma,3.2,M\n", ""
        )
    )
    first, second, third = list(sprsound.discover(folder))[:3]
    assert len(first.notes) == 2 and first.metadata.age_years == 3.0 and first.metadata.sex == "male"
    assert second.labels["disease16"] == "Bronchiectasis" and second.metadata.diagnosis == "Bronchiectasia"
    assert "disease16" not in third.labels and third.notes == ("patient is not in the summary",)


def test_sprsound_without_summary(published: Path) -> None:
    for file in (published / "SPRSound" / "Patient Summary").iterdir():
        file.unlink()
    assert all("disease16" not in r.labels for r in sprsound.discover(published / "SPRSound"))


def test_icbhi_fields(published: Path) -> None:
    recordings = list(icbhi.discover(published / "ICBHI_2017"))
    assert len(recordings) == 12  # filename_format.txt is no annotation
    second = recordings[1]
    assert second.subject_id == "icbhi:302" and second.device == "Meditron"
    assert [(s.start, s.end, s.icbhi4) for s in second.stretches] == [
        (0.1, 1.1, "normal"),
        (1.1, 2.4, "crackle"),
    ]
    assert second.labels == {"disease16": "COPD"}
    assert second.metadata.model_dump(exclude_none=True) == {
        "age_years": 70,
        "sex": "female",
        "bmi": 33.5,
        "site": "left anterior chest",
        "diagnosis": "COPD",
    }


def test_absent_audio_is_no_error(published: Path) -> None:
    (published / "ICBHI_2017/ICBHI_final_database/301_1b1_Al_sc_Meditron.wav").unlink()
    assert [r.present for r in icbhi.discover(published / "ICBHI_2017")] == [False] + [True] * 11


@pytest.mark.parametrize("text", ["{", "[]", '{"record_annotation": "Normal"}'])
def test_unreadable_sprsound_annotation_is_a_fault(published: Path, text: str) -> None:
    next((published / "SPRSound" / "train_json").iterdir()).write_text(text)
    assert sum(r.fault is not None for r in sprsound.discover(published / "SPRSound")) == 1


@pytest.mark.parametrize("text", ["0.1 0.9 1\n", "a b 0 0\n", "0.1 0.9 2 0\n", "nan 0.9 0 0\n"])
def test_unreadable_icbhi_annotation_is_a_fault(published: Path, text: str) -> None:
    (published / "ICBHI_2017/ICBHI_final_database/301_1b1_Al_sc_Meditron.txt").write_text(text)
    faults = [r.fault for r in icbhi.discover(published / "ICBHI_2017")]
    assert faults[0] is not None and faults[1:] == [None] * 11


def test_unknown_labels_are_findings_listed_together(published: Path) -> None:
    folder = published / "SPRSound"
    for file, kind in zip(sorted((folder / "train_json").iterdir()), ("Squawk", "Rub"), strict=False):
        event = {"start": "0", "end": "500", "type": kind}
        file.write_text(json.dumps({"record_annotation": "Odd", "event_annotation": [event]}))
    recordings = list(sprsound.discover(folder))
    for recording, kind in zip(recordings, ("Squawk", "Rub"), strict=False):
        event, record = recording.unknown
        assert event.path == record.path == f"SPRSound/train_json/{recording.path.stem}.json"
        assert (event.detail, record.detail) == (f"event '{kind}'", "record annotation 'Odd'")
        assert event.clip_id == f"sprsound-{recording.path.stem}-000" and record.clip_id is None
        assert not recording.stretches[0].known and "spr_record" not in recording.labels
    assert not any(recording.unknown for recording in recordings[2:])
    with pytest.raises(DataError, match="event 'Rub', event 'Squawk', record annotation 'Odd'") as caught:
        refuse([finding for recording in recordings for finding in recording.unknown], folder)
    assert str(folder) in str(caught.value) and "resp229k/taxonomy.py" in str(caught.value)


def test_unknown_diagnosis_names_its_table(published: Path) -> None:
    (published / "ICBHI_2017/patient_diagnosis.csv").write_text("301,Gout\n")
    first = next(iter(icbhi.discover(published / "ICBHI_2017")))
    (finding,) = first.unknown
    assert finding.path == "ICBHI_2017/patient_diagnosis.csv" and first.labels == {}
    assert finding.detail == "diagnosis of patient 301 'Gout'"
    summary = published / "SPRSound/Patient Summary/SPRSound_patient_summary.csv"
    summary.write_text(summary.read_text().replace("90000000,Asthma", "90000000,Gout"))
    first = next(iter(sprsound.discover(published / "SPRSound")))
    (finding,) = first.unknown
    assert finding.path == "SPRSound/Patient Summary/SPRSound_patient_summary.csv"
    assert first.labels == {"spr_record": "Normal"}


@pytest.mark.parametrize("name", MODULES)
def test_missing_or_empty_folder_names_the_cure(tmp_path: Path, name: str) -> None:
    for make in (False, True):
        if make:
            (tmp_path / name).mkdir()
        with pytest.raises(DataError, match="RESP_DATA") as caught:
            list(MODULES[name].discover(tmp_path / name))
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ICBHI_2017/demographic_info.txt", "301 old F NA NA NA\n"),
        ("ICBHI_2017/demographic_info.txt", "301 70 F\n"),
        ("SPRSound/Patient Summary/SPRSound_patient_summary.csv", "patient,disease\n1,Asthma\n"),
    ],
)
def test_broken_patient_table(published: Path, path: str, text: str) -> None:
    (published / path).write_text(text)
    folder = path.split("/")[0]
    with pytest.raises(DataError, match=folder):
        list(MODULES[folder].discover(published / folder))


@pytest.mark.real
def test_real_icbhi_counts(resp_data: Path) -> None:
    recordings = list(icbhi.discover(resp_data / "ICBHI_2017"))
    assert len(recordings) == 920
    assert Counter(s.icbhi4 for r in recordings for s in r.stretches) == {
        "normal": 3642,
        "crackle": 1864,
        "wheeze": 886,
        "both": 506,
    }
    assert sum(r.present for r in recordings) == 92
    assert len({r.subject_id for r in recordings}) == 126
    assert not any(r.fault or r.notes for r in recordings)


@pytest.mark.real
def test_real_sprsound_counts(resp_data: Path) -> None:
    recordings = list(sprsound.discover(resp_data / "SPRSound"))
    assert len(recordings) == 1949 and all(r.present for r in recordings)
    assert sum(len(r.stretches) for r in recordings) == 6656
    assert len({r.subject_id for r in recordings}) == 251
    poor = [r for r in recordings if r.labels["spr_record"] == "Poor Quality"]
    assert len(poor) == 177 and not any(r.stretches for r in poor)
    assert Counter(note for r in recordings for note in r.notes) == {
        "age in the file name differs from the summary": 70
    }
