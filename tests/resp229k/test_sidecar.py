"""Annotations beside a recording."""

import json
from pathlib import Path

import pytest

from resp229k.sources.sidecar import annotated
from training.errors import DataError


def test_both_formats_in_seconds(tmp_path):
    (tmp_path / "a.txt").write_text("0.5 2.0 1 0\n2.0 3.5 0 1\n3.5 5 0 0\n\n")
    events = [{"start": "250", "end": "1250", "type": "Fine Crackle"}]
    (tmp_path / "b.json").write_text(json.dumps({"record_annotation": "DAS", "event_annotation": events}))
    cycles = annotated("a", tmp_path)
    assert cycles is not None
    assert [(one.start, one.end, one.kinds) for one in cycles] == [
        (0.5, 2.0, ("crackle",)), (2.0, 3.5, ("wheeze",)), (3.5, 5.0, ()),
    ]  # fmt: skip
    found = annotated("b", tmp_path)
    assert found is not None
    assert [(one.start, one.end, one.kinds) for one in found] == [(0.25, 1.25, ("fine crackle",))]
    assert annotated("c", tmp_path) is None


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.txt", "patient coughed twice\n"),
        ("a.json", "{}"),
        ("a.json", "[]"),
        ("a.json", "no json"),
        ("a.json", '{"event_annotation": [{"start": "x", "end": "1", "type": "Normal"}]}'),
    ],
)
def test_another_file_of_that_name_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match="is no annotation") as caught:
        annotated("a", tmp_path)
    assert str(caught.value.path) == str(tmp_path / name)


@pytest.mark.real
def test_every_annotation_of_the_publishers_is_read(resp_data: Path):
    for folder, suffix in (
        (resp_data / "ICBHI_2017/ICBHI_final_database", "txt"),
        (resp_data / "SPRSound/train_json", "json"),
    ):
        files = sorted(folder.glob(f"*.{suffix}"))
        assert len(files) > 900
        assert all(annotated(file.stem, folder) is not None for file in files)
