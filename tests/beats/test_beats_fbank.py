"""The filterbank: equal to Kaldi's, and blind to padding."""

import math

import numpy as np
import pytest
import torch

import beats.fbank
from beats.fbank import fbank, frame_count, shortest

SOURCES = ["SPRSound", "ICBHI_2017", "KAUH", "COUGHVID", "UK_COVID_19"]


def kaldi(wave: np.ndarray) -> np.ndarray:
    knf = pytest.importorskip("kaldi_native_fbank")
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = 16000
    options.frame_opts.snip_edges = True
    options.frame_opts.window_type = "povey"
    options.mel_opts.num_bins = 128
    online = knf.OnlineFbank(options)
    online.accept_waveform(16000, (wave * 32768).tolist())
    online.input_finished()
    return np.stack([online.get_frame(i) for i in range(online.num_frames_ready)])


def synthetic(seconds: float = 2.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    time = np.arange(int(16000 * seconds)) / 16000
    tone = 0.3 * np.sin(2 * np.pi * (200 + 300 * time) * time)
    return (tone + 0.05 * rng.standard_normal(time.size) + 0.01).astype(np.float32)


def ours(wave: np.ndarray) -> np.ndarray:
    frames, counts = fbank(torch.from_numpy(wave)[None], torch.tensor([wave.size]))
    assert int(counts[0]) == frames.shape[1]
    return frames[0].numpy()


def test_equals_kaldi_on_a_synthetic_wave():
    wave = synthetic()
    theirs = kaldi(wave)
    assert ours(wave).shape == theirs.shape == (198, 128)
    np.testing.assert_allclose(ours(wave), theirs, atol=1e-3)


@pytest.mark.real
@pytest.mark.parametrize("source", SOURCES)
def test_equals_kaldi_on_recordings(resp_data, source):
    from resp229k.audio import load_audio

    files = sorted((resp_data / source).rglob("*.wav"))
    assert files
    for path in files[:: max(1, len(files) // 4)]:
        wave = load_audio(path)[:64000]
        mine, _ = fbank(torch.from_numpy(wave)[None], torch.tensor([wave.size]))
        theirs = kaldi(wave)
        # Single precision keeps about 14 nats (60 dB) below a frame's loudest bin. Further down, as above
        # 4 kHz in a recording made at 8 kHz, a bin holds Kaldi's own rounding, up to a nat of it.
        resolved = theirs > theirs.max(axis=1, keepdims=True) - 14.0
        assert resolved.mean() > 0.2, path
        np.testing.assert_allclose(mine[0].numpy()[resolved], theirs[resolved], atol=1e-3, err_msg=path.name)


def single_precision(wave: np.ndarray) -> np.ndarray:
    """The published filterbank's steps in their order, each rounded to float32 (mel weights aside)."""
    frames = torch.from_numpy(wave).mul(2**15).unfold(0, 400, 160)
    frames = frames - frames.mean(dim=1, keepdim=True)
    frames = frames - 0.97 * torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    spectrum = torch.fft.rfft(frames * torch.hann_window(400, periodic=False).pow(0.85), n=512).abs().pow(2)
    edges = [1127 * math.log(1 + f / 700) for f in (20, 8000)]
    points = np.linspace(*edges, 130)
    mel = 1127 * np.log(1 + np.arange(256) * 16000 / 512 / 700)[:, None]
    rise, fall = mel - points[:-2], points[2:] - mel
    banks = np.minimum(rise / (points[1:-1] - points[:-2]), fall / (points[2:] - points[1:-1])).clip(0)
    energies = spectrum[:, :256] @ torch.from_numpy(banks.astype(np.float32))
    return energies.clamp(min=2.0**-23).log().numpy()


@pytest.mark.real
@pytest.mark.parametrize("source", SOURCES)
def test_rounds_as_published_on_recordings(resp_data, source):
    """Every bin, those of rounding alone too: a published model hears them."""
    from resp229k.audio import load_audio

    files = sorted((resp_data / source).rglob("*.wav"))
    for path in files[:: max(1, len(files) // 4)]:
        wave = load_audio(path)[:64000]
        mine, _ = fbank(torch.from_numpy(wave)[None], torch.tensor([wave.size]))
        np.testing.assert_allclose(mine[0], single_precision(wave), atol=1e-3, err_msg=path.name)


def test_gradients_equal_finite_differences():
    wave = torch.from_numpy(synthetic(0.035))[None].double().requires_grad_()
    length = torch.tensor([wave.shape[1]])
    assert torch.autograd.gradcheck(lambda x: fbank(x, length)[0], wave, eps=1e-7, atol=1e-3, rtol=1e-3)


def test_gradients_pass_what_inference_has_cached():
    wave, lengths = torch.from_numpy(synthetic(0.1))[None], torch.tensor([1600])
    beats.fbank._banks.cache_clear()
    with torch.inference_mode():
        fbank(wave, lengths)
    fbank(wave.requires_grad_(), lengths)[0].sum().backward()
    assert wave.grad.abs().sum() > 0


def test_precision_follows_the_wave():
    wave = torch.from_numpy(synthetic(0.5))[None]
    lengths = torch.tensor([wave.shape[1]])
    single = fbank(wave, lengths)[0]
    assert single.dtype == fbank(wave.bfloat16(), lengths)[0].dtype == torch.float32
    double = fbank(wave.double(), lengths)[0]
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, atol=1e-3, rtol=0)


def test_frame_counts():
    samples = torch.tensor([0, 399, 400, 559, 560, 160000])
    assert frame_count(samples).tolist() == [0, 0, 1, 1, 2, 998]
    assert shortest(16) == 2800


def test_padding_never_changes_a_valid_frame():
    wave = synthetic(1.0)
    noisy = np.concatenate([wave, np.random.default_rng(1).standard_normal(9000).astype(np.float32)])
    frames, counts = fbank(torch.from_numpy(noisy)[None], torch.tensor([wave.size]))
    alone = ours(wave)
    assert counts.tolist() == [alone.shape[0]]
    np.testing.assert_array_equal(frames[0, : alone.shape[0]].numpy(), alone)
    assert frames.shape[1] == alone.shape[0]
