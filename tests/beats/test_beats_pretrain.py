"""Event-tag supervision: targets, held-out groups, and a whole small pre-training."""

from pathlib import Path

import numpy as np
import pytest
import torch

import beats
from beats.config import TAGS, BeatsPretrainConfig, UnitFitConfig, beats_config
from beats.encoder import BeatsEncoder
from beats.frames import FrameRows, held_out
from beats.pretrain import pretrain_beats
from beats.tagger import EventTagger, positive_weight, tag_auc
from beats.tags import (
    PRESENT,
    SOMEWHERE,
    UNKNOWN,
    TagCollate,
    TaggedClips,
    clip_tags,
    clip_targets,
    column_targets,
)
from resp229k.audio import Preprocess, write_wav
from resp229k.clip import Clip, Event
from resp229k.corpus import Corpus
from training.errors import AudioError, DataError
from training.fitconfig import FitConfig

CRACKLE, FINE, COARSE, WHEEZE, _, STRIDOR, SQUAWK, COUGH = range(len(TAGS))


def clip(number: int = 0, events: list[Event] | None = None, **fields) -> Clip:
    values = {"clip_id": f"c{number}", "recording_id": f"c{number}", "subject_id": f"s{number % 4}:{number}",
              "source": f"s{number % 4}", "split": "pretrain", "path": f"{number}.wav", "start": 0.0,
              "end": 1.0, "sample_rate": 16000, "events": events or [], **fields}  # fmt: skip
    return Clip(**values)


def toy_corpus(folder: Path, count: int = 24) -> Corpus:
    rng = np.random.default_rng(0)
    clips = []
    for i in range(count):
        wave, events = 0.02 * rng.standard_normal(16000), []
        if i % 3:
            start = rng.uniform(0, 0.4)
            part = slice(int(start * 16000), int((start + 0.5) * 16000))
            pitch = 400 if i % 3 == 1 else 1500
            wave[part] += 0.3 * np.sin(2 * np.pi * pitch * np.arange(8000) / 16000)[: part.stop - part.start]
            kind = "wheeze" if i % 3 == 1 else "stridor"
            events = [Event(kind=kind, start=start, end=start + 0.5)]
        write_wav(folder / f"{i}.wav", wave, synthetic=True)
        clips.append(clip(i, events))
    return Corpus(folder, clips)


def test_tags_of_a_clip():
    how = Preprocess(seconds=2.0, fit="loop")
    events = [Event(kind="fine crackle", start=0.1, end=0.2), Event(kind="wheeze", start=0, end=1)]
    tags = clip_tags(clip(0, events), 16000, how)
    assert tags.shape == (200, len(TAGS))
    np.testing.assert_array_equal(tags[:100], tags[100:])  # looped like the wave
    assert (tags[10:20, [CRACKLE, FINE]] == PRESENT).all()
    assert tags[:10, FINE].sum() == tags[:, COARSE].sum() == 0
    assert (tags[:, WHEEZE] == SOMEWHERE).all()
    vague = clip_tags(clip(0, [Event(kind="crackle", start=0.1, end=0.2)]), 16000, how)
    assert (vague[10:20, [FINE, COARSE]] == UNKNOWN).all()
    assert (vague[10:20, CRACKLE] == PRESENT).all()
    cut = clip_tags(clip(0, [Event(kind="stridor", start=1.9, end=2.1)], end=4.0), 64000, how)
    assert cut.shape == (200, len(TAGS))
    assert cut[90:110, STRIDOR].all()
    assert cut[:90, STRIDOR].sum() == 0


def test_targets():
    tags = torch.zeros(1, 32, len(TAGS), dtype=torch.uint8)
    tags[0, 3, FINE] = PRESENT
    tags[0, :, WHEEZE] = SOMEWHERE
    tags[0, 20, COARSE] = UNKNOWN
    columns, clips = column_targets(tags)[0], clip_targets(tags)[0]
    assert columns[:, FINE].tolist() == [1, 0]
    assert columns[:, WHEEZE].isnan().all()
    assert columns[0, COARSE] == 0
    assert columns[1, COARSE].isnan()
    assert clips[[FINE, WHEEZE]].tolist() == [1, 1]
    assert clips[COARSE].isnan()
    assert clips[STRIDOR] == 0
    assert positive_weight(clip_targets(tags.repeat(3, 1, 1))).tolist() == pytest.approx([3**0.5, 1, 1, 1, *4 * [3**0.5]])  # fmt: skip


def test_a_kind_that_a_corpus_never_names_is_unknown_in_it(tmp_path):
    heard = toy_corpus(tmp_path / "toy", 4)
    cough = [clip(i, [Event(kind="cough", start=0.1, end=0.5)]) for i in range(4)]
    for i in range(4):
        write_wav(tmp_path / "cough" / f"{i}.wav", np.full(16000, 0.1), synthetic=True)
    tags = TaggedClips([heard, Corpus(tmp_path / "cough", cough)], 1.0).tags
    assert (tags[:4][..., [CRACKLE, SQUAWK, COUGH]] == UNKNOWN).all()
    assert not (tags[:4][..., [WHEEZE, STRIDOR]] == UNKNOWN).any()
    assert (tags[4:][..., WHEEZE] == UNKNOWN).all()
    assert (tags[4:, 20:40, COUGH] == PRESENT).all()


def test_held_out_keeps_groups_together():
    clips = [clip(i, source="large", subject_id=f"large:{i % 30}") for i in range(300)]
    train, kept = held_out(clips, 0.3, seed=0)
    assert 30 < len(kept) < 150
    assert sorted([*train, *kept]) == list(range(300))
    assert not {clips[i].subject_id for i in train} & {clips[i].subject_id for i in kept}
    small = [clip(i, source=f"s{i // 10}", subject_id=f"s{i // 10}:{i}") for i in range(300)]
    train, kept = held_out(small, 0.3, seed=0)
    assert not {small[i].source for i in train} & {small[i].source for i in kept}
    assert (kept == held_out(small, 0.3, seed=0)[1]).all()
    given = [clip(i, split="select" if i % 2 else "pretrain") for i in range(4)]
    assert [part.tolist() for part in held_out(given, 0.3, seed=0)] == [[0, 2], [1, 3]]
    with pytest.raises(DataError, match="leave 0 for training"):
        held_out(given[1::2], 0.3, seed=0)


def test_tag_auc_leaves_out_what_is_not_said():
    targets = np.full((4, len(TAGS)), np.nan)
    targets[:, WHEEZE] = [0, 1, 1, np.nan]
    logits = np.tile(np.array([[0.0], [1.0], [2.0], [-5.0]]), (1, len(TAGS)))
    assert tag_auc(logits, targets) == {TAGS[WHEEZE]: 1.0}


def test_every_parameter_of_the_tagger_gets_a_gradient(tmp_path):
    data = TaggedClips([toy_corpus(tmp_path, 6)], 1.0)
    torch.manual_seed(0)
    tagger = EventTagger(BeatsEncoder(beats_config("tiny", "conv")), torch.ones(len(TAGS))).train()
    rows = FrameRows(data, np.arange(6), data.tags, train=True)
    tagger(**TagCollate(3, change=True)([rows[i] for i in range(6)])).loss.backward()
    for name, parameter in tagger.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith("k_proj.bias"):  # softmax does not see it
            assert parameter.grad.abs().sum() > 0, name


def test_pretraining_writes_a_loadable_folder(tmp_path):
    config = BeatsPretrainConfig(
        stem="conv",
        seconds=1.0,
        shortest_columns=4,
        held_out=0.3,
        units=UnitFitConfig(codebook=8, clips=12),
        fit=FitConfig(steps=6, batch_size=8, learning_rate=2e-3),
    )
    corpus = toy_corpus(tmp_path / "toy")
    report = pretrain_beats([corpus], config, tmp_path / "beats")
    assert report["steps"] == 6
    areas = report["per_corpus"]["toy"]["clip"]
    assert set(areas) == {"wheeze", "stridor"}
    encoder, tokenizer = beats.load(tmp_path / "beats")
    assert encoder.config.stem == "conv"
    assert encoder.provenance.subjects == corpus.subjects
    assert not any(p.requires_grad for p in encoder.parameters())
    with torch.no_grad():
        features = encoder.encode(torch.randn(1, 16000), torch.tensor([16000])).features
    assert tokenizer.units(features).max() < 8
    assert sorted(p.name for p in (tmp_path / "beats").iterdir()) == ["encoder", "pretrain.json", "tokenizer"]


def test_pretraining_refuses(tmp_path):
    with pytest.raises(DataError, match="no clips"):
        TaggedClips([Corpus(tmp_path, [])], 1.0)
    corpus = toy_corpus(tmp_path / "toy", 3)
    (tmp_path / "toy" / "1.wav").write_bytes(b"broken")
    with pytest.raises(AudioError, match=r"1\.wav"):
        TaggedClips([corpus], 1.0)
