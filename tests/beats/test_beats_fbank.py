"""The filterbank: equal to Kaldi's, and blind to padding."""

import numpy as np
import pytest
import torch

from beats.fbank import fbank, frame_count, shortest


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
def test_equals_kaldi_on_a_recording(resp_data):
    from resp229k.audio import load_audio

    path = sorted((resp_data / "SPRSound" / "train_wav").glob("*.wav"))[0]
    wave = load_audio(path)[:64000]
    mine, theirs = ours(wave), kaldi(wave)
    # An 8 kHz recording has only rounding residue above 4 kHz (its power is a billionth of the rest):
    # single precision decides there, so compare where there is sound.
    sound = theirs > 1.0
    assert sound.mean() > 0.5
    np.testing.assert_allclose(mine[sound], theirs[sound], atol=1e-3)


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
