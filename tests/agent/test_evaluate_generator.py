"""What a generator is compared on: halves, contamination, clips drawn and kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from generated_fakes import CLASSES, FakeGenerator, make_corpus

from agent.generated.draw import Drawer, coloured, content_swap, plain, style_swap
from agent.generated.protocol import Sides, as_test, check_apart, check_judge, halve, make_sides
from resp229k.audio import RATE
from resp229k.corpus import Corpus
from training.errors import ContaminationError, DataError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def sides(corpus: Corpus) -> Sides:
    return sides_of(corpus)


def sides_of(corpus: Corpus, tail: tuple[str, ...] | None = None) -> Sides:
    train, test = corpus.subset(split="train"), corpus.subset(split="test")
    return make_sides("mine", "icbhi4", CLASSES, train, test, tail, taught=set(train.subjects))


def test_halves_share_no_subject_and_hold_as_many_clips_of_each_class(sides: Sides) -> None:
    two = halve(sides, 5, seed=1)
    assert not {c.subject_id for c in two.a} & {c.subject_id for c in two.b}
    for half in (two.a, two.b):
        assert Counter(c.labels["icbhi4"] for c in half) == dict.fromkeys(CLASSES, 5)
    assert two == halve(sides, 5, seed=1)
    assert two != halve(sides, 5, seed=2)


def test_a_half_takes_new_subjects_before_second_clips(sides: Sides) -> None:
    two = halve(sides, 3, seed=0)
    for name in CLASSES:
        mine = [c.subject_id for c in two.a if c.labels["icbhi4"] == name]
        assert len(set(mine)) == 3


def test_a_class_of_one_subject_cannot_be_halved(corpus: Corpus) -> None:
    clips = [c for c in corpus.clips if c.labels["icbhi4"] != "both" or c.subject_id.endswith("both-0")]
    with pytest.raises(DataError, match="both are of 1 subjects"):
        halve(sides_of(Corpus(corpus.folder, clips)), 4, seed=0)


def test_classes_without_test_clips_are_not_compared(corpus: Corpus) -> None:
    clips = [c for c in corpus.clips if c.split == "train" or c.labels["icbhi4"] in CLASSES[:2]]
    assert sides_of(Corpus(corpus.folder, clips)).classes == CLASSES[:2]
    with pytest.raises(DataError, match="1 of the generator's classes"):
        sides_of(Corpus(corpus.folder, [c for c in clips if c.labels["icbhi4"] == "normal"]))


def test_the_tail_is_what_the_training_side_has_under_one_percent_of(corpus: Corpus) -> None:
    train = corpus.subset(split="train").clips
    copies = [c.model_copy(update={"clip_id": f"{c.clip_id}-{i}"}) for i in range(60) for c in train]
    rare = [c for c in copies if c.labels["icbhi4"] != "both"] + [
        c for c in train if c.labels["icbhi4"] == "both"
    ]
    test = corpus.subset(split="test").clips
    assert sides_of(Corpus(corpus.folder, rare + test)).tail == ("both",)
    assert sides_of(corpus).tail == ()
    assert sides_of(corpus, ("crackle",)).tail == ("crackle",)
    with pytest.raises(DataError, match="tail class 'Asthma' is not compared"):
        sides_of(corpus, ("Asthma",))


def test_the_training_side_holds_the_subjects_that_taught_the_generator(corpus: Corpus) -> None:
    train, test = corpus.subset(split="train"), corpus.subset(split="test")
    one = train.subjects[0]
    found = make_sides("mine", "icbhi4", CLASSES, train, test, None, taught={one})
    assert found.train.subjects == [one]


def test_test_subjects_that_a_network_knows_are_refused() -> None:
    check_apart(["a", "b"], {"generator": ["c"], "judge": []})
    with pytest.raises(
        ContaminationError, match=r"the judge was trained on 1 of the 2 test subjects, e\.g\. b"
    ):
        check_apart(["a", "b"], {"generator": ["c"], "judge": ["b", "c"]})


def test_a_judge_of_the_generators_subjects_is_refused() -> None:
    check_judge(["a"], ["b"], Path("judge"))
    with pytest.raises(ContaminationError, match="shares 1 subjects with the generator"):
        check_judge(["a", "b"], ["b"], Path("judge"))


def test_every_clip_lends_its_style_once_and_never_to_itself(sides: Sides) -> None:
    half = halve(sides, 5, seed=0).a
    asks = plain(half, "icbhi4", 1.0, seed=0)
    assert [ask.label for ask in asks] == [clip.labels["icbhi4"] for clip in half]
    assert all(ask.reference.clip_id != clip.clip_id for ask, clip in zip(asks, half, strict=True))
    assert {ask.reference.clip_id for ask in asks} == {clip.clip_id for clip in half}
    assert any(ask.reference.labels["icbhi4"] != ask.label for ask in asks)


def test_swaps_hold_one_thing_fixed(sides: Sides) -> None:
    half = halve(sides, 5, seed=0).a
    styles = style_swap(half, "icbhi4", 1.0, seed=0)
    contents = content_swap(half, "icbhi4", CLASSES, 1.0, seed=0)
    assert len(contents) == len(half)
    for group in {ask.group for ask in styles}:
        mine = [ask for ask in styles if ask.group == group]
        assert len({ask.label for ask in mine}) == 1
        assert len({ask.reference.device for ask in mine}) == len(mine) == 3  # the corpus has three devices
    for group in {ask.group for ask in contents}:
        mine = [ask for ask in contents if ask.group == group]
        assert len({ask.reference.clip_id for ask in mine}) == 1
        assert {ask.label for ask in mine} == set(CLASSES)


def test_one_device_swaps_subjects(sides: Sides) -> None:
    half = [c.model_copy(update={"device": "only", "source": "s"}) for c in halve(sides, 5, seed=0).a]
    first = [ask for ask in style_swap(half, "icbhi4", 1.0, seed=0) if ask.group == 0]
    assert len({ask.reference.subject_id for ask in first}) == len(first) == 4


def test_clips_are_made_once_and_made_anew_for_another_seed(sides: Sides, tmp_path: Path) -> None:
    generator, drawer = FakeGenerator(), Drawer(sides.test, "icbhi4", tmp_path)
    asks = plain(halve(sides, 4, seed=0).a, "icbhi4", 1.0, seed=0)
    first = drawer.neural(generator, asks, "neural", 3)  # type: ignore[arg-type]
    again = drawer.neural(generator, asks, "neural", 3)  # type: ignore[arg-type]
    assert generator.calls == 1
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert [wave.size for wave in first] == [round(ask.seconds * RATE) for ask in asks]
    drawer.neural(generator, asks, "neural", 4)  # type: ignore[arg-type]
    drawer.neural(generator, asks[:-1], "neural", 3)  # type: ignore[arg-type]
    generator.digests = {"mllm": "other"}
    drawer.neural(generator, asks, "neural", 3)  # type: ignore[arg-type]
    assert generator.calls == 4


def test_units_of_a_clip_are_decoded_in_the_style_of_another(sides: Sides, tmp_path: Path) -> None:
    generator, drawer = FakeGenerator(), Drawer(sides.test, "icbhi4", tmp_path)
    half = halve(sides, 4, seed=0).a
    half = [c.model_copy(update={"end": 0.5 + 0.01 * i}) for i, c in enumerate(half)]
    asks = plain(half, "icbhi4", 1.0, seed=0)
    told = [
        replace(ask, content=clip if i else None)
        for i, (ask, clip) in enumerate(zip(asks, half, strict=True))
    ]
    for _ in range(2):
        drawer.neural(generator, told, "neural replayed", 3)  # type: ignore[arg-type]
    assert generator.calls == 1
    assert generator.asked[0].units is None
    for ask, clip, request in list(zip(asks, half, generator.asked, strict=True))[1:]:
        assert request.units is not None
        # Every clip has a length of its own here, so that this says whose units they are.
        assert request.units.tolist() == [[sides.test.audio(clip).size, round(RATE * clip.seconds)]]
        assert (request.reference_id, request.label) == (ask.reference.clip_id, ask.label)
        assert request.reference_id != clip.clip_id
    swapped = [replace(told[1], content=told[2].content), *told[1:]]
    drawer.neural(generator, swapped, "neural replayed", 3)  # type: ignore[arg-type]
    assert generator.calls == 2


def test_an_interrupted_set_is_made_again(sides: Sides, tmp_path: Path) -> None:
    generator, drawer = FakeGenerator(), Drawer(sides.test, "icbhi4", tmp_path)
    asks = plain(halve(sides, 4, seed=0).a, "icbhi4", 1.0, seed=0)
    generator.fail = True
    with pytest.raises(KeyboardInterrupt):
        drawer.neural(generator, asks, "neural", 3)  # type: ignore[arg-type]
    generator.fail = False
    assert len(drawer.neural(generator, asks, "neural", 3)) == len(asks)  # type: ignore[arg-type]


def test_noise_keeps_spectrum_and_level_and_loses_the_content() -> None:
    rng = np.random.default_rng(0)
    wave = np.convolve(rng.normal(size=2 * RATE), np.ones(8) / 8, mode="same").astype(np.float32) * 0.1
    wave[RATE:] *= 0.1  # loud, then quiet: content
    made = coloured(wave, 2 * RATE, seed=0)
    assert np.sqrt(np.mean(made**2)) == pytest.approx(np.sqrt(np.mean(wave**2)), rel=0.02)
    bands = [np.abs(np.fft.rfft(x))[:RATE].reshape(20, -1).mean(1) for x in (wave, made)]
    assert np.corrcoef(*np.log(bands))[0, 1] > 0.98
    halves = [np.square(made[part]).mean() for part in (slice(RATE), slice(RATE, None))]
    assert halves[0] == pytest.approx(halves[1], rel=0.2)
    assert not np.array_equal(made, coloured(wave, 2 * RATE, seed=1))


def test_as_test_moves_all_clips(corpus: Corpus) -> None:
    assert {clip.split for clip in as_test(corpus.clips, corpus.folder).clips} == {"test"}
