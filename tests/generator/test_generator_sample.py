from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from generator_fixtures import CODEBOOK, DIM

from beats.config import BeatsConfig, UnitsConfig
from beats.encoder import BeatsEncoder
from beats.units import UnitTokenizer
from generator.codec import PEAK, at_level, level
from generator.config import FlowConfig, MLLMConfig, SampleConfig
from generator.decoder import FlowDecoder
from generator.mllm import RespMLLM
from generator.sample import Generated, Generator, Request
from generator.together import check_beats
from generator.write import write_clips
from resp229k.audio import RATE, is_tagged_synthetic, prepare, write_wav
from resp229k.corpus import Corpus
from training.errors import AudioError, CheckpointError, DataError, NonFiniteError
from training.files import read_json
from training.model import Provenance, weights_digest


@pytest.fixture
def generator(mllm_config: MLLMConfig, flow_config: FlowConfig) -> Generator:
    torch.manual_seed(0)
    small = BeatsConfig(
        embed_dim=DIM, dim=DIM, ffn_dim=16, layers=1, heads=2, conv_pos=8, conv_pos_groups=2, max_distance=400
    )
    flow = FlowDecoder(flow_config)
    for parameter in flow.flow.backbone.leave.parameters():  # type: ignore[union-attr]
        torch.nn.init.normal_(parameter, std=0.1)
    units = UnitTokenizer(UnitsConfig(codebook=CODEBOOK, dim=DIM))
    return Generator(
        BeatsEncoder(small),
        units,
        RespMLLM(mllm_config),
        flow,
        SampleConfig(batch=3, steps=2),
        {"mllm": "0" * 64},
    )


@pytest.fixture
def requests(corpus: Corpus) -> list[Request]:
    clips = [corpus.clips[i] for i in (0, 1, 1, 2)]
    return [
        Request("icbhi4", "wheeze", corpus.folder / clip.path, clip.clip_id, clip.subject_id, seconds)
        for clip, seconds in zip(clips, (0.8, 0.8, 0.8, 0.5), strict=True)
    ]


def test_n_requests_give_n_different_clips_of_exact_length(
    generator: Generator, requests: list[Request], tmp_path: Path
) -> None:
    made = generator.generate(requests, seed=3)
    assert [clip.wave.size for clip in made] == [12_800, 12_800, 12_800, 8_000]
    assert [clip.units.shape for clip in made if clip.units is not None] == [(4, 8)] * 3 + [(3, 8)]
    paths = write_clips(made, tmp_path, weights=generator.digests, subjects_hash=generator.subjects_hash)
    assert len({path.read_bytes() for path in paths}) == 4
    assert all(is_tagged_synthetic(path) for path in paths)
    record = read_json(paths[0].with_suffix(".json"))
    assert record["synthetic"] is True
    assert (record["task"], record["label"]) == ("icbhi4", "wheeze")
    assert record["reference"] == "train0"
    assert record["weights"] == {"mllm": "0" * 64}
    assert str(tmp_path) not in paths[0].with_suffix(".json").read_text()
    assert sf.info(paths[0]).samplerate == RATE


def test_a_clip_does_not_depend_on_its_batch(generator: Generator, requests: list[Request]) -> None:
    together = generator.generate(requests, seed=3)
    again = generator.generate(requests, seed=3)
    assert all(np.array_equal(a.wave, b.wave) for a, b in zip(together, again, strict=True))
    generator.config = SampleConfig(batch=1, steps=2)
    for a, b in zip(generator.generate(requests, seed=3), together, strict=True):
        assert np.array_equal(a.units, b.units)
        assert np.abs(a.wave - b.wave).mean() < 0.1 * level(b.wave)
    other = generator.generate(requests, seed=4)
    assert not np.array_equal(other[0].wave, together[0].wave)


def test_other_labels_give_other_units_and_leave_the_neighbours_alone(
    generator: Generator, requests: list[Request]
) -> None:
    made = generator.generate(requests, seed=3)
    swapped = [replace(requests[0], label="normal"), *requests[1:]]
    other = generator.generate(swapped, seed=3)
    assert not np.array_equal(other[0].units, made[0].units)
    for a, b in zip(other[1:], made[1:], strict=True):
        assert np.array_equal(a.units, b.units)
    # Whatever place a label has in its batch, the clip is the same.
    turned = [swapped[i] for i in (1, 0, 2, 3)]
    alone = [generator.generate([request], seed=3)[0] for request in (turned[0], swapped[0])]
    assert np.array_equal(generator.generate(turned, seed=3)[0].units, alone[0].units)
    assert np.array_equal(other[0].units, alone[1].units)


@pytest.mark.parametrize(
    ("changes", "units_too"),
    [
        ({"temperature": 0.3}, True),
        ({"top_p": 0.3}, True),
        ({"label_guidance": 4.0}, True),
        ({"style_guidance": 4.0}, True),
        ({"steps": 5}, False),
        ({"method": "euler"}, False),
        ({"method": "dopri5", "steps": None, "sway": 0.0, "rtol": 1e-4, "atol": 1e-4}, False),
        ({"guidance": 4.0}, False),
        ({"sway": 0.5}, False),
        ({"noise": 0.5}, False),
    ],
    ids=str,
)
def test_every_setting_reaches_its_network(
    generator: Generator, mllm_config: MLLMConfig, requests: list[Request], changes: dict, units_too: bool
) -> None:
    torch.manual_seed(1)
    guided = RespMLLM(mllm_config.model_copy(update={"label_dropout": 0.1, "style_dropout": 0.1}))
    for parameter in guided.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    parts = (generator.encoder, generator.quantizer, guided, generator.flow)
    plain, changed = (
        Generator(*parts, SampleConfig(**{"steps": 2, **values})).generate(requests, seed=3)
        for values in ({}, changes)
    )
    same = [np.array_equal(a.units, b.units) for a, b in zip(plain, changed, strict=True)]
    assert all(same) != units_too and any(same) != units_too
    for a, b in zip(plain, changed, strict=True):
        assert np.abs(a.wave - b.wave).max() > 1e-3


@pytest.mark.parametrize("seconds", [0.175, 0.333, 0.5001, 0.9])
def test_durations_are_exact_and_nothing_clips_or_is_silent(
    generator: Generator, requests: list[Request], seconds: float
) -> None:
    rng = np.random.default_rng(0)
    bursts = (rng.normal(0, 1, RATE) * (rng.random(RATE) < 0.01)).astype(np.float32)
    loud = np.clip(20 * bursts, -1, 1) + 0.3 * rng.normal(size=RATE).astype(np.float32)
    asks = [replace(requests[0], seconds=seconds), replace(requests[1], reference=loud, seconds=seconds)]
    for clip in generator.generate(asks, seed=1):
        assert clip.wave.size == round(seconds * RATE)
        assert np.abs(clip.wave).max() <= PEAK * 1.000001 and level(clip.wave) > 1e-4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_clips_of_the_cpu(generator: Generator, requests: list[Request]) -> None:
    made = generator.generate(requests, seed=3)
    for a, b in zip(generator.to("cuda").generate(requests, seed=3), made, strict=True):
        assert a.wave.shape == b.wave.shape and (a.units == b.units).mean() > 0.9
    assert generator.units_of([requests[0].wave()], [0.5])[0].shape == (3, 8)


def test_given_units_are_decoded_and_the_others_written(
    generator: Generator, requests: list[Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert generator.mllm is not None
    written = generator.generate(requests, seed=3)
    own = np.random.default_rng(0).integers(0, generator.mllm.config.codebook, (4, 8))
    given = [requests[0], replace(requests[1], units=own), *requests[2:]]
    made = generator.generate(given, seed=3)
    assert np.array_equal(made[1].units, own) and not np.array_equal(made[1].wave, written[1].wave)
    for i in (0, 2, 3):
        assert np.array_equal(made[i].units, written[i].units)
        assert np.abs(made[i].wave - written[i].wave).mean() < 0.1 * level(made[i].wave)
    # The clip alone, and nothing written beside it: what it is decoded from does not pass the Resp-MLLM.
    generator.config = SampleConfig(batch=1, steps=2)
    monkeypatch.setattr(generator.mllm, "sample", None)
    assert np.array_equal(generator.generate(given[1:2], seed=3)[0].units, own)
    paths = write_clips([made[1], written[1]], tmp_path, weights={}, subjects_hash="")
    assert [("units_sha256" in read_json(path.with_suffix(".json"))) for path in paths] == [True, False]
    for wrong in (own[:3], own[:, :7], own - own.max() - 1, own + generator.mllm.config.codebook, own * 1.0):
        with pytest.raises(DataError, match=r"units of shape .* from 0 to"):
            generator.generate([replace(requests[0], units=wrong)], seed=3)

    with pytest.raises(DataError, match="events or give units"):
        generator.generate([replace(requests[0], units=own, events="10 crackle")], seed=3)


def test_units_of_a_recording_are_those_that_training_read(generator: Generator, corpus: Corpus) -> None:
    generator.quantizer.centroids.normal_()
    wave = corpus.audio(corpus.clips[0])
    prepared = prepare(wave, generator.trained.preprocess)
    features, _ = generator.encoder.encode(torch.from_numpy(prepared)[None], torch.tensor([prepared.size]))
    whole = generator.quantizer.units(features.half().float())[0].numpy()
    cut, all_of_it = generator.units_of([wave, wave], [0.36, 0.5])
    assert np.array_equal(cut, whole[:2]) and np.array_equal(all_of_it, whole)
    assert len(whole) == 3 and len(np.unique(whole)) > 1


def test_level_is_the_references(generator: Generator, requests: list[Request]) -> None:
    for clip in generator.generate(requests, seed=0):
        assert level(clip.wave) == pytest.approx(level(clip.request.wave()), rel=1e-3)


def test_the_same_clip_twice_is_refused(
    generator: Generator, requests: list[Request], tmp_path: Path
) -> None:
    made = generator.generate(requests[:1], seed=0)
    with pytest.raises(DataError, match="repeat another"):
        write_clips(made * 2, tmp_path, weights={}, subjects_hash="")


def test_clips_of_other_styles_or_settings_get_other_names(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, (2, RATE)).astype(np.float32)
    clips = [
        Generated(sound[0], None, Request("icbhi4", "wheeze", wave, "style.wav", "unknown", 1.0), 5)
        for wave in sound
    ]
    paths = write_clips(clips, tmp_path, weights={}, subjects_hash="", sample=SampleConfig())
    paths += write_clips(clips, tmp_path, weights={}, subjects_hash="", sample=SampleConfig(top_p=0.5))
    paths += write_clips(clips, tmp_path, weights={}, subjects_hash="")
    assert len(set(paths)) == 6
    records = [read_json(path.with_suffix(".json")) for path in paths]
    assert len({record["reference_sha256"] for record in records}) == 2
    assert [r["sample"] and r["sample"]["top_p"] for r in records] == [1.0, 1.0, 0.5, 0.5, None, None]


def test_the_record_names_the_guidance_that_the_weights_ask_for(
    generator: Generator, mllm_config: MLLMConfig, requests: list[Request], tmp_path: Path
) -> None:
    assert generator.mllm is not None
    guided = RespMLLM(mllm_config.model_copy(update={"label_dropout": 0.1, "label_guidance": 2.5}))
    guided.load_state_dict(generator.mllm.state_dict(), strict=False)
    parts = (generator.encoder, generator.quantizer, guided, generator.flow)
    asks = [
        SampleConfig(steps=2),
        SampleConfig(steps=2, label_guidance=2.5),
        SampleConfig(steps=2, label_guidance=1),
    ]
    made, names = [], []
    for ask in asks:
        drawn = Generator(*parts, ask)
        made.append(drawn.generate(requests[:1], seed=0)[0])
        names += write_clips([made[-1]], tmp_path, weights={}, subjects_hash="", sample=drawn.config)
    assert np.array_equal(made[0].wave, made[1].wave) and names[0] == names[1] != names[2]
    assert [read_json(name.with_suffix(".json"))["sample"]["label_guidance"] for name in names] == [
        2.5,
        2.5,
        1,
    ]


def test_a_clip_of_another_record_is_never_overwritten(tmp_path: Path) -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    clip = Generated(wave, None, Request("icbhi4", "wheeze", wave, "style.wav", "unknown", 1.0), 5)

    def write() -> Path:
        return write_clips([clip], tmp_path, weights={}, subjects_hash="", sample=SampleConfig())[0]

    path = write()
    first = path.read_bytes()
    assert write() == path and path.read_bytes() == first
    record = path.with_suffix(".json")
    for other in ('{"seed": 6}', '{"se'):
        record.write_text(other)
        with pytest.raises(DataError, match=r"another provenance.* → "):
            write()
        assert record.read_text() == other
    record.unlink()
    with pytest.raises(DataError, match=path.name):
        write()


def test_what_cannot_be_made_is_refused(
    generator: Generator, requests: list[Request], tmp_path: Path
) -> None:
    assert generator.labels("icbhi4") == ("normal", "wheeze")
    assert generator.labels("covid") == ()
    with pytest.raises(DataError, match="normal, wheeze"):
        generator.generate([replace(requests[0], label="both")], seed=0)
    for seconds in (0.1, 0.0, -1.0, 4.0, float("nan"), float("inf")):
        with pytest.raises(DataError, match=r"0\.175 to 1\.0 s"):
            generator.generate([replace(requests[0], seconds=seconds)], seed=0)
    write_wav(tmp_path / "silent.wav", np.zeros(RATE, dtype=np.float32), synthetic=False)
    with pytest.raises(AudioError, match=r"silent\.wav"):
        generator.generate([replace(requests[0], reference=tmp_path / "silent.wav")], seed=0)
    gap = np.concatenate([np.ones(10), np.zeros(3 * RATE), np.ones(10)]).astype(np.float32)
    with pytest.raises(AudioError, match=r"train0: the stretch .* → cut out"):
        generator.generate([replace(requests[0], reference=gap)], seed=0)


def test_networks_of_different_training_are_refused(generator: Generator, flow_config: FlowConfig) -> None:
    other = FlowDecoder(flow_config.model_copy(update={"labels": {"icbhi4": ("normal",)}}))
    with pytest.raises(CheckpointError, match="differ in labels"):
        Generator(generator.encoder, generator.quantizer, generator.mllm, other)


def test_a_decoder_that_reads_no_units_works_without_a_language_model(
    generator: Generator, requests: list[Request], flow_config: FlowConfig, tmp_path: Path
) -> None:
    encoder, units = generator.encoder, generator.quantizer
    flow = FlowDecoder(flow_config.model_copy(update={"content": "none"}))
    for parameter in flow.flow.backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    alone = Generator(encoder, units, None, flow, SampleConfig(steps=2))
    made = alone.generate(requests, seed=3)
    assert [clip.wave.size for clip in made] == [12_800, 12_800, 12_800, 8_000]
    assert all(clip.units is None for clip in made)
    other = alone.generate([replace(request, label="normal") for request in requests], seed=3)
    assert not any(np.allclose(a.wave, b.wave, atol=1e-3) for a, b in zip(made, other, strict=True))
    assert (alone.labels("icbhi4"), alone.seconds) == (("normal", "wheeze"), 1.0)
    with pytest.raises(DataError, match="normal, wheeze"):
        alone.generate([replace(requests[0], label="both")], seed=0)
    with pytest.raises(CheckpointError, match="no Resp-MLLM to write"):
        Generator(encoder, units, None, generator.flow)
    with pytest.raises(CheckpointError, match="would write in vain"):
        Generator(encoder, units, generator.mllm, flow)
    for network, name in ((encoder, "beats/encoder"), (units, "beats/tokenizer"), (flow, "flow")):
        network.save_pretrained(tmp_path / name)
    again = Generator.load(tmp_path, SampleConfig(steps=2))
    assert set(again.digests) == {"encoder", "flow"}
    assert np.array_equal(
        again.generate(requests[:1], seed=3)[0].wave, alone.generate(requests[:1], seed=3)[0].wave
    )
    FlowConfig.of_weights(tmp_path).check("icbhi4", "wheeze", 0.8)


def test_frames_of_the_reference_before_a_clip_are_cut_off(
    generator: Generator, requests: list[Request], flow_config: FlowConfig
) -> None:
    torch.manual_seed(0)
    flow = FlowDecoder(flow_config.model_copy(update={"prefix": 0.3}))
    for parameter in flow.flow.backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    given = Generator(generator.encoder, generator.quantizer, generator.mllm, flow, SampleConfig(steps=2))
    seen: list[torch.Tensor] = []
    flow.flow.backbone.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    made = given.generate(requests, seed=3)
    assert [clip.wave.size for clip in made] == [12_800, 12_800, 12_800, 8_000]
    assert seen[0].shape[1] == 40 + 12
    assert torch.equal(seen[0][0, :12], seen[-1][0, :12])
    assert not torch.isclose(seen[0][0, 12:], seen[-1][0, 12:]).any(-1).all()


def test_units_that_nobody_writes_are_told_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"flow/config\.json is missing"):
        FlowConfig.of_weights(tmp_path)


def test_other_units_than_those_of_training_are_refused(generator: Generator, tmp_path: Path) -> None:
    mllm, encoder, units = generator.mllm, generator.encoder, generator.quantizer
    check_beats(mllm, encoder, units, tmp_path)  # its training noted no digests
    noted = {"encoder": weights_digest(encoder), "tokenizer": weights_digest(units)}
    mllm.provenance = Provenance(notes={"beats": noted})
    check_beats(mllm, encoder, units, tmp_path)
    other = UnitTokenizer(units.config)
    other.centroids += 1
    with pytest.raises(
        CheckpointError, match=rf"{tmp_path.name}: its tokenizer is not .* RespMLLM .* → give"
    ):
        check_beats(mllm, encoder, other, tmp_path)
    with pytest.raises(CheckpointError, match="its encoder is not"):
        check_beats(mllm, BeatsEncoder(encoder.config), units, tmp_path)
    wider = UnitTokenizer(UnitsConfig(codebook=CODEBOOK + 1, dim=DIM))
    with pytest.raises(
        CheckpointError, match=f"gives {CODEBOOK + 1} units, the FlowDecoder knows {CODEBOOK}"
    ):
        check_beats(generator.flow, encoder, wider, tmp_path)


def test_levels_are_the_styles_unless_a_peak_would_clip() -> None:
    wave = np.random.default_rng(0).normal(0, 0.3, RATE).astype(np.float32)
    quiet = at_level(wave, 0.05)
    assert float(np.sqrt(np.mean(np.square(quiet, dtype=np.float64)))) == pytest.approx(0.05, rel=1e-5)
    clicks = np.zeros(RATE, dtype=np.float32)
    clicks[::1000] = 1.0  # a root mean square of 0.1 would need peaks of 3
    loud = at_level(clicks, 0.1)
    assert float(np.abs(loud).max()) == pytest.approx(PEAK) and PEAK < 1
    wave[5] = np.nan
    with pytest.raises(NonFiniteError, match="no numbers → use other weights"):
        at_level(wave, 0.1)
    with pytest.raises(AudioError, match="gave silence → use other weights"):
        at_level(np.zeros(9, np.float32), 0.1)
