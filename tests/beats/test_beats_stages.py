"""The stages of the encoder's training: each writes a folder that the next reads, and goes on where it was cut off."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import beats
from beats import commands
from beats.compare import FIRST, RECIPES, Heard, RecipeConfig, Stage, compare_recipe, step_flops
from beats.config import (
    DistilConfig,
    MaskedStageConfig,
    RandomUnitsConfig,
    TaggedStageConfig,
    TokenizerStageConfig,
    UnitStageConfig,
    beats_config,
)
from beats.encoder import BeatsEncoder
from beats.frames import FrameClips, raw_frames
from beats.label import UnitCollate, label_units
from beats.probe import FEATURES, LOG_MEL
from beats.probe_data import ProbeSet
from beats.random_units import RandomUnits
from beats.stages import train_tokenizer
from beats.tags import TaggedClips
from beats.units import UnitsConfig, fit_residual_units, fit_units
from resp229k.audio import write_wav
from resp229k.clip import Clip, Event
from resp229k.corpus import Corpus
from training.errors import RunError
from training.files import read_json
from training.fitconfig import FitConfig

FIT = FitConfig(steps=3, batch_size=4, learning_rate=1e-3)
SMALL = {"seconds": 1.0, "shortest_columns": 3, "held_out": 0.3, "fit": FIT}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Noise and whistles of 16 subjects; one clip of each split that must not be heard."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    clips = []
    for i in range(18):
        wave = 0.05 * rng.standard_normal(16000)
        events = []
        if i % 2:
            wave += 0.2 * np.sin(2 * np.pi * 400 * np.arange(16000) / 16000)
            events = [Event(kind="wheeze", start=0.0, end=1.0)]
        write_wav(folder / f"{i}.wav", wave, synthetic=True)
        split = {16: "plan", 17: "test"}.get(i, "train")
        clips.append(
            Clip(clip_id=f"c{i}", recording_id=f"c{i}", subject_id=f"s{i}:0", source=f"s{i}", split=split,
                 path=f"{i}.wav", start=0.0, end=1.0, sample_rate=16000, events=events)
        )  # fmt: skip
    found = Corpus(folder, clips)
    found.save()
    return found


def test_frames_are_the_same_from_memory_and_from_disk(corpus: Corpus) -> None:
    kept, read = FrameClips([corpus], 1.0), FrameClips([corpus], 1.0, memory_gb=0)
    assert kept[3].shape == (98, 128)
    np.testing.assert_array_equal(kept[3], read[3])


def test_units_are_cropped_with_their_frames(corpus: Corpus) -> None:
    data = FrameClips([corpus], 1.0)
    torch.manual_seed(0)
    random = RandomUnits(RandomUnitsConfig(codebook=16, code_dim=8))
    units = label_units(random, data)
    assert units.shape == (18, 6, 8)
    # Each place's number instead of its unit, each frame's number instead of its power.
    places = np.arange(48).reshape(1, 6, 8).repeat(4, 0)
    frames = np.arange(98, dtype=np.float16)[None, :, None].repeat(128, 2).repeat(4, 0)
    for _ in range(20):
        batch = UnitCollate(3, change=False)([(frames[i], places[i], True) for i in range(4)])
        columns = batch["units"].shape[1]
        assert 3 <= columns <= 6
        assert batch["frames"].shape[1] == 16 * columns == int(batch["counts"][0])
        first = (batch["frames"][:, 0, 0] - raw_frames([frames[0]])[0, 0, 0]) / 6.55582
        torch.testing.assert_close(first, 2.0 * batch["units"][:, 0, 0].float(), atol=0.01, rtol=0)
    whole = UnitCollate(3, change=True)([(frames[0], places[0], False)])
    assert whole["units"].shape == (1, 6, 8)


def test_every_stage_writes_what_the_next_reads(corpus: Corpus, tmp_path: Path) -> None:
    folders = [str(corpus.folder)]
    heard = sorted(f"s{i}:0" for i in range(16))
    first = MaskedStageConfig(**SMALL, random=RandomUnitsConfig(codebook=16, code_dim=8))
    report = commands.masked(folders, first, tmp_path / "iter1").report
    assert report["clips"]["train"] + report["clips"]["held_out"] == 16
    assert -report["best_metric"] == pytest.approx(np.log(16), rel=0.2)
    one = beats.load_encoder(tmp_path / "iter1")
    assert one.provenance.subjects == heard

    taught = TokenizerStageConfig(
        **SMALL, teacher=str(tmp_path / "iter1"), codebook=8, code_dim=16, distil=DistilConfig(layers=1)
    )
    commands.tokenizer(folders, taught, tmp_path / "tok1")
    assert beats.load(tmp_path / "tok1")[1].config.codebook == 8

    second = MaskedStageConfig(**SMALL, units=str(tmp_path / "tok1"))
    commands.masked(folders, second, tmp_path / "iter2")
    assert beats.load_encoder(tmp_path / "iter2").provenance.subjects == heard
    assert read_json(tmp_path / "iter2" / "train.json")["units"]["codebook"] == 8

    named = TaggedStageConfig(**SMALL, stem="conv")
    assert commands.tagged(folders, named, tmp_path / "tagged").report["per_corpus"]
    fitted = UnitStageConfig(encoder=str(tmp_path / "tagged"), seconds=1.0, codebook=8)
    commands.units(folders, fitted, tmp_path / "units")
    assert beats.load(tmp_path / "units")[1].config.codebook == 8
    with pytest.raises(RunError, match="already exists"):
        commands.units(folders, fitted, tmp_path / "units")


@pytest.mark.parametrize("warm", [True, False])
def test_a_warm_tokenizer_starts_as_its_teacher(warm: bool, corpus: Corpus, tmp_path: Path) -> None:
    torch.manual_seed(1)
    teacher = BeatsEncoder(beats_config("tiny", "conv"))
    still = SMALL | {"fit": FIT.model_copy(update={"learning_rate": 1e-12})}
    config = TokenizerStageConfig(
        **still, teacher="", warm=warm, codebook=8, code_dim=16, distil=DistilConfig(layers=1)
    )
    found = train_tokenizer(FrameClips([corpus], 1.0), teacher, config, tmp_path / "fit").network.encoder
    assert found.conv_stem == warm
    if warm:
        for name, tensor in teacher.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], tensor)


def test_whom_the_teacher_heard_the_pupil_has_heard(corpus: Corpus, tmp_path: Path) -> None:
    """A test subject that taught the teacher contaminates the tokenizer and what is trained on its units."""
    half = [Corpus(corpus.folder, [c for c in corpus.clips if int(c.clip_id[1:]) in part])
            for part in (range(8), range(8, 16))]  # fmt: skip
    for i, part in enumerate(half):
        part = Corpus(tmp_path / f"half{i}", part.clips)
        for c in part.clips:
            write_wav(part.folder / c.path, corpus.audio(c), synthetic=True)
        part.save()
    first = MaskedStageConfig(**SMALL, random=RandomUnitsConfig(codebook=16, code_dim=8))
    commands.masked([str(tmp_path / "half0")], first, tmp_path / "iter1")
    taught = TokenizerStageConfig(
        **SMALL, teacher=str(tmp_path / "iter1"), codebook=8, code_dim=16, distil=DistilConfig(layers=1)
    )
    commands.tokenizer([str(tmp_path / "half1")], taught, tmp_path / "tok1")
    assert len(beats.load_tokenizer(tmp_path / "tok1").encoder.provenance.subjects) == 16


@pytest.mark.slow
def test_an_interrupted_stage_goes_on_as_if_it_had_not_been(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.trainer import HouseTrainer

    fit = FitConfig(steps=6, batch_size=4, learning_rate=1e-3, checkpoint_every=3, eval_every=3)
    config = MaskedStageConfig(**SMALL | {"fit": fit}, random=RandomUnitsConfig(codebook=16, code_dim=8))
    folders = [str(corpus.folder)]
    whole = commands.masked(folders, config, tmp_path / "whole")
    step = HouseTrainer.training_step
    done = 0

    def cut(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        nonlocal done
        done += 1
        if done == 5:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(HouseTrainer, "training_step", cut)
    with pytest.raises(KeyboardInterrupt):
        commands.masked(folders, config, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
    again = commands.masked(folders, config, tmp_path / "cut", resume=True)
    assert done == 8  # steps 1 to 5, then 4 to 6
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name


@pytest.mark.slow
def test_two_processes_train_the_published_stages(corpus: Corpus, tmp_path: Path) -> None:
    """Each writes one whole folder, and both hold to the end."""
    small = ["-o", "seconds=1", "-o", "shortest_columns=3", "-o", "held_out=0.3",
             "-o", "fit={steps: 3, batch_size: 4, eval_every: 2}"]  # fmt: skip
    stages = {
        "iter1": ["masked", "-o", "random={codebook: 16, code_dim: 8}"],
        "tok1": ["tokenizer", "-o", f"teacher={tmp_path / 'iter1'}", "-o", "codebook=8", "-o", "code_dim=16"],
        "iter2": ["masked", "-o", f"units={tmp_path / 'tok1'}"],
    }
    for out, (stage, *given) in stages.items():
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m",
             "agent.cli", "train", stage, "--corpus", str(corpus.folder), "--out", str(tmp_path / out),
             *given, *small],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert (tmp_path / out / "train.json").is_file(), done.stderr[-4000:]
        assert read_json(tmp_path / out / "train.json")["steps"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(stages)  # no checkpoints are left
    assert beats.load(tmp_path / "tok1")[1].config.codebook == 8
    assert len(beats.load_encoder(tmp_path / "iter2").provenance.subjects) == 16


def test_residual_codebooks_come_nearer_than_one() -> None:
    rng = np.random.default_rng(0)
    features = [rng.standard_normal((4, 8, 6)).astype(np.float32) for _ in range(40)]
    config = UnitsConfig(codebook=8, dim=6)
    one = fit_units(features, config, seed=0)
    many = fit_residual_units(features, config, depth=3, seed=0)
    x = torch.from_numpy(np.stack(features))
    units = many.units(x)
    assert units.shape == (40, 4, 8, 3)
    assert torch.equal(units[..., 0], one.units(x))
    z = (x - many.mean) / many.scale
    errors = []
    for depth in range(1, 4):
        near = sum(many.centroids[book][units[..., book]] for book in range(depth))
        errors.append(float((z - near).square().mean()))
    assert errors[0] > 1.1 * errors[1] > 1.2 * errors[2]


def test_recipes_spend_what_they_may(corpus: Corpus) -> None:
    heard = Heard(TaggedClips([corpus], 1.0), FrameClips([corpus], 1.0))
    config = RecipeConfig(batch_size=4, codebook=8)
    for stages in RECIPES.values():
        assert not stages or sum(stage.share for stage in stages) == pytest.approx(1)
    tagged, masked, distilled = (
        step_flops(Stage(kind, "patch", 1.0), heard, config) for kind in ("tagged", "masked", "tokenizer")
    )
    # A quarter of the tokens goes through three layers, all of them through one; what surrounds the layers
    # is paid twice.
    assert 0.6 < masked / tagged < 0.9
    # A teacher's forward, a third of a step, and an estimator of one layer on top.
    assert 1.6 < distilled / tagged < 2.0
    twice = step_flops(Stage("tagged", "patch", 1.0), heard, config.model_copy(update={"batch_size": 8}))
    assert twice == pytest.approx(2 * tagged, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_trained_and_probed(name: str, corpus: Corpus, tmp_path: Path) -> None:
    heard = Heard(TaggedClips([corpus], 1.0), FrameClips([corpus], 1.0))
    config = RecipeConfig(steps=4, batch_size=4, codebook=8)
    labels = np.arange(40) % 2
    frames = np.random.default_rng(0).standard_normal((40, 98, 128)).astype(np.float16)
    frames[labels == 1, :, 30] += 6
    sets = [
        ProbeSet(
            name="icbhi", classes=("normal", "wheeze"), frames=frames, labels=labels,
            subjects=np.array([f"p{i // 2 % 10}{i % 2}" for i in range(40)]), parts=np.array(["all"] * 40),
        )
    ]  # fmt: skip
    found = compare_recipe(name, heard, sets, config, 0, tmp_path)
    read = [row["read"] for row in found["rows"]]
    assert (LOG_MEL in read) == (name == "untrained, conv stem")
    assert "k-means 8" in read
    assert ("distilled 8" in read) == any(stage.kind == "tokenizer" for stage in RECIPES[name])
    assert ("residual 2 x 8" in read) == (name == FIRST)
    features = found["rows"][read.index(FEATURES)]
    assert features["chance"] == 0.5
    assert features["balanced_accuracy"] > 0.7  # a line in one bin is heard by any encoder
    assert [stage["kind"] for stage in found["stages"]] == [stage.kind for stage in RECIPES[name]]
