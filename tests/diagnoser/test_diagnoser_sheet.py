"""Metadata of files to diagnose: what is read, what is told, what is refused."""

from pathlib import Path

import pytest

from diagnoser.sheet import FIELDS, read_sheet
from resp229k.clip import Clip, Metadata
from resp229k.narrative import told
from resp229k.tasks import TASKS
from training.errors import DataError


def sheet(tmp_path: Path, text: str):
    path = tmp_path / "metadata.csv"
    path.write_text(text)
    return read_sheet(path)


def test_rows_become_narratives(tmp_path):
    found = sheet(
        tmp_path,
        "file,age_years,sex,site,symptoms,conditions,ward\n"
        "a.wav,61,male,left posterior chest,cough; Fever,none,3\nsub/b.wav,,,,,,\n",
    )
    assert found.unread == ("ward",)
    known = found.rows["a.wav"]
    assert (known.age_years, known.sex, known.symptoms, known.conditions) == (
        61,
        "male",
        ("cough", "Fever"),
        (),
    )
    text = found.narrative("a.wav", "icbhi4", 0)
    assert text is not None
    for word in ("61", "fever or muscle pain", "no respiratory condition", "left"):
        assert word in text
    assert found.rows["sub/b.wav"] == Metadata()
    assert found.narrative("c.wav", "icbhi4", 0) is None


def test_every_field_that_is_told_can_be_given():
    """And no other: a column that is never told would be read for nothing."""
    everything = {
        "age_years": 61.0, "age_band": "45-64", "sex": "male", "bmi": 20.0, "weight_kg": 60.0, "height_cm": 170.0,
        "site": "left posterior chest", "smoker": "no", "region": "Wales", "symptoms": ("cough",),
        "conditions": ("asthma",), "diagnosis": "COPD", "findings": "CAS", "status": "healthy",
        "expert_diagnoses": ("COPD",), "expert_findings": ("wheeze",), "covid_test": "Positive",
        "viral_load": "high", "test_method": "PCR", "narrative": "COPD",
    }  # fmt: skip
    assert set(everything) == set(Metadata.model_fields)
    clip = Clip(
        clip_id="a", recording_id="a", subject_id="a", source="s", split="test", path="a", start=0, end=1,
        sample_rate=1, metadata=Metadata(**everything),
    )  # fmt: skip
    assert {field for task in TASKS for field in told(clip, task)} == set(FIELDS)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("name,sex\na.wav,male\n", "no column 'file'"),
        ("file,age_years\na.wav,old\n", "row 2, age_years"),
        ("file,sex\na.wav,M\n", "row 2, sex"),
        ("file,age_years\na.wav,61\na.wav,62\n", "row 3 names a.wav again"),
        ("file,age_years\na.wav,61\n./a.wav,62\n", "row 3 names a.wav again"),
        ("file,age_years\n,61\n", "row 2 names no file"),
        ("file,age_years\na.wav\n", "row 2 has not as many cells"),
        ("file,age_years\na.wav,61,male\n", "row 2 has not as many cells"),
        ("", "no column 'file'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, reason):
    with pytest.raises(DataError, match=reason):
        sheet(tmp_path, text)


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "metadata.csv").write_bytes(b"file\n\xff\xfe.wav\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_sheet(tmp_path / "metadata.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_sheet(tmp_path / "none.csv")
