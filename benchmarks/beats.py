"""Speed of the BEATs encoder: ``python benchmarks/beats.py [--batch 2] [--repeats 2] [--threads 1] [--tiny]``.

Base size, random weights, clips of 10 s. Prints clips per second and JSON lines of ratios, each of calls
taken in turn in this very run: a busy machine slows both sides alike. With one thread the clock is processor
time. A naive forward (clip by clip, explicit softmax, its bias looked up in every layer) has to give the
same features. Where there is a GPU, bf16 at 64 clips follows. ``--tiny`` runs all but the compiler in seconds.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from turns import Clock, in_turn, report, synchronised  # first: it makes the packages importable

from beats.config import ROWS, BeatsConfig, beats_config
from beats.encoder import BeatsEncoder, grid_shape
from beats.fbank import fbank, normalise
from beats.layers import Attention, Layer, offset_buckets
from resp229k.audio import RATE

SHARE = 0.7  # of the machine's GEMM peak, in the encoder's linear layers


# Share of the GEMM peak


@contextmanager
def watched(encoder: BeatsEncoder, clock: Clock) -> Iterator[dict[str, float]]:
    """Seconds and FLOP of the linear layers in the forwards made meanwhile."""
    seen = {"seconds": 0.0, "flop": 0.0}
    starts: list[float] = []

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        starts.append(clock())

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen["seconds"] += clock() - starts.pop()
        seen["flop"] += 2.0 * inputs[0].numel() * output.shape[-1]

    linears = [module for module in encoder.modules() if isinstance(module, nn.Linear)]
    hooks = [module.register_forward_pre_hook(before) for module in linears]
    hooks += [module.register_forward_hook(after) for module in linears]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode(False)  # which the counter does not know
@torch.no_grad()
def forward_flop(config: BeatsConfig, samples: int) -> float:
    """FLOP of the matrix products and convolutions of one clip's forward."""
    # Attention is counted on every machine when it is written out.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        BeatsEncoder(config).eval().encode(torch.zeros(1, samples), torch.tensor([samples]))
    return float(counter.get_total_flops())


def report_shares(
    encoder: BeatsEncoder, wave: Tensor, lengths: Tensor, clock: Clock, repeats: int, *, tiny: bool, kind: str
) -> None:
    """FLOP per second of linear layers and forward by the best large matmul's; attention's bytes; in turn."""
    like, config = next(encoder.parameters()), encoder.config
    size = (256 if tiny else 2048) if like.device.type == "cpu" else (512 if tiny else 8192)
    shapes = [(size, size, size), (2 * size, size, size // 2), (size // 2, size, 2 * size)]
    pairs = [(torch.randn(m, k).to(like), torch.randn(k, n).to(like)) for m, k, n in shapes]
    products = {str(index): partial(torch.mm, *pair) for index, pair in enumerate(pairs)}
    flop = 2.0 * size**3  # of every shape
    whole = len(wave) * forward_flop(config, wave.shape[1])
    # A layer's attention at least writes and reads the gated bias (B, H, N, N), reads q, k and v and writes
    # their mix (B, N, D): the bytes of one copy of the first and two of the last.
    tokens = ROWS * grid_shape(wave.shape[1] / RATE)[0]
    source = like.new_ones(len(wave) * tokens * (config.heads * tokens + 2 * config.dim))
    copy = partial(torch.empty_like(source).copy_, source)
    shares = []
    for turn in range(repeats + 1):
        first = min(in_turn(products, 2, clock).values())
        with watched(encoder, clock) as seen:
            encoder.encode(wave, lengths)
        start = clock()
        encoder.encode(wave, lengths)
        seconds = clock() - start
        peak = flop / min(first, *in_turn(products, 2, clock).values())
        moving = config.layers * in_turn({"copy": copy}, 2, clock)["copy"]
        if turn:
            shares.append((seen["flop"] / seen["seconds"] / peak, whole / seconds / peak, moving / seconds))
    linear, forward, moved = (statistics.median(values) for values in zip(*shares, strict=True))
    report(f"beats linear layers, share of GEMM peak, {kind}", linear, None if tiny else SHARE)
    report(f"beats forward, share of GEMM peak, {kind}", forward)
    report(f"beats bytes of attention, share of the forward, {kind}", moved)


# The naive forward


def mel_banks() -> tuple[Tensor, Tensor]:
    """Povey window ``(400,)`` and triangular weights ``(257, 128)``."""
    mel = lambda hertz: 1127.0 * math.log1p(hertz / 700.0)  # noqa: E731
    step = (mel(RATE / 2) - mel(20.0)) / 129
    banks = torch.zeros(257, 128, dtype=torch.float64)
    for place in range(256):  # Kaldi leaves the last out
        for bin_ in range(128):
            at = (mel(place * RATE / 512) - mel(20.0)) / step - bin_
            banks[place, bin_] = max(0.0, min(at, 2.0 - at))
    return torch.hann_window(400, periodic=False) ** 0.85, banks.float()


def naive_filterbank(wave: Tensor, window: Tensor, banks: Tensor) -> Tensor:
    """Frames ``(L, 128)`` of one clip ``(N,)``, frame by frame."""
    frames = []
    for start in range(0, len(wave) - 399, 160):
        frame = 32768.0 * wave[start : start + 400]
        frame = frame - frame.mean()
        frame = (frame - 0.97 * torch.cat([frame[:1], frame[:-1]])) * window
        power = torch.fft.rfft(frame, n=512).abs().square()
        frames.append((power @ banks).clamp(min=2.0**-23).log())
    return torch.stack(frames)


def naive_attention(attention: Attention, x: Tensor, table: Tensor, config: BeatsConfig) -> Tensor:
    """``(N, D)`` → ``(N, D)`` with every matrix written out."""
    split = lambda y: y.view(len(y), config.heads, -1).transpose(0, 1)  # noqa: E731
    q, k, v = (split(part(x)) for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    place = torch.arange(len(x))
    index = offset_buckets(place[None, :] - place[:, None], config.buckets, config.max_distance)
    bias = table[index].permute(2, 0, 1)
    gates = attention.grep_linear(q).view(config.heads, len(x), 2, 4).sum(-1).sigmoid()
    gate = gates[..., :1] * (gates[..., 1:] * attention.grep_a[0] - 1.0) + 2.0
    weights = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]) + gate * bias, dim=-1)
    return attention.out_proj((weights @ v).transpose(0, 1).reshape(x.shape))


def naive_encode(encoder: BeatsEncoder, wave: Tensor, banks: tuple[Tensor, Tensor]) -> Tensor:
    """Features ``(B, T, 8, D)`` of whole clips, one after the other."""
    network, features = encoder.encoder, []
    for clip in wave:
        frames = normalise(naive_filterbank(clip, *banks))
        grid = encoder.patch_embedding(frames[None, None])[0].flatten(1).T
        x = encoder.post_extract_proj(encoder.layer_norm(grid))
        near = network.pos_conv[0](x.T[None])[0, :, : len(x)].T
        x = network.layer_norm(x + F.gelu(near))
        for layer in network.layers:
            assert isinstance(layer, Layer)
            heard = naive_attention(
                layer.self_attn, x, network.relative_attention_bias.weight, encoder.config
            )
            x = layer.self_attn_layer_norm(x * layer.alpha + heard)
            x = layer.final_layer_norm(x * layer.alpha + layer.fc2(F.gelu(layer.fc1(x))))
        features.append(x.unflatten(0, (-1, ROWS)))
    return torch.stack(features)


# What is measured


def kaldi_filterbank(wave: Tensor) -> None:
    """Frames of every clip by kaldi-native-fbank."""
    import kaldi_native_fbank as knf

    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.window_type = "povey"
    options.mel_opts.num_bins = 128
    for clip in (32768.0 * wave).tolist():
        online = knf.OnlineFbank(options)
        online.accept_waveform(RATE, clip)
        online.input_finished()
        for place in range(online.num_frames_ready):
            online.get_frame(place)


def on_cpu(encoder: BeatsEncoder, wave: Tensor, repeats: int, clock: Clock, *, tiny: bool) -> None:
    """Forward and filterbank against others, and the share of the peak.

    Raises:
        SystemExit: the naive forward gives other features.
    """
    lengths, banks = torch.full((len(wave),), wave.shape[1]), mel_banks()
    naive = naive_encode(encoder, wave[:1], banks)
    apart = (naive - encoder.encode(wave, lengths).features[:1]).abs().max()
    if not apart <= 1e-4:  # nor may it be no number
        raise SystemExit(f"the naive features differ by {apart}")
    print(f"naive features equal to {apart:.1e}")
    report_shares(encoder, wave, lengths, clock, repeats, tiny=tiny, kind="fp32")

    calls: dict[str, Callable[[], object]] = {
        "plain": lambda: encoder.encode(wave, lengths),
        "naive": lambda: naive_encode(encoder, wave, banks),
    }
    taken = in_turn(calls, repeats, clock)
    print(f"{len(wave) / taken['plain']:.2f} clips/s of {wave.shape[1] / RATE:.0f} s, fp32")
    report("beats forward over naive forward", taken["naive"] / taken["plain"], 1.0)

    half = copy.deepcopy(encoder).bfloat16()
    one = wave[:1], lengths[:1]  # bf16 is slow where the processor has no such instructions
    calls = {"plain": lambda: encoder.encode(*one), "bf16": lambda: half.encode(*one)}
    if not tiny:
        compiled = copy.deepcopy(encoder)
        compiled.encoder.compile()
        calls["compiled"] = lambda: compiled.encode(*one)
    taken = in_turn(calls, repeats, clock)
    for name in list(calls)[1:]:
        report(f"beats {name} over plain forward", taken["plain"] / taken[name])

    calls = {"batched": lambda: fbank(wave, lengths)}
    calls["naive"] = lambda: [naive_filterbank(clip, *banks) for clip in wave]
    if importlib.util.find_spec("kaldi_native_fbank"):
        calls["kaldi-native-fbank"] = lambda: kaldi_filterbank(wave)
    taken = in_turn(calls, repeats, clock)
    print(f"{len(wave) / taken['batched']:.0f} clips/s, filterbank alone")
    for name in list(calls)[1:]:
        report(f"beats filterbank over {name}", taken[name] / taken["batched"], 1.0)


def position_conv(repeats: int, clock: Clock) -> None:
    """The tiny size's positional convolution in training, there and back, against the library's."""
    with torch.inference_mode(mode=False):
        config = beats_config("tiny")
        layer = BeatsEncoder(config).encoder.pos_conv[0]
        x = torch.randn(32, config.dim, 144, requires_grad=True)
        calls: dict[str, Callable[[], object]] = {
            "ours": lambda: layer(x).square().sum().backward(),
            "plain": lambda: torch.nn.Conv1d.forward(layer, x).square().sum().backward(),  # type: ignore[arg-type]
        }
        taken = in_turn(calls, repeats, clock)
    report("beats positional convolution over the library's, training", taken["plain"] / taken["ours"], 1.0)


def on_gpu(encoder: BeatsEncoder, repeats: int, *, tiny: bool) -> None:
    """bf16: share of the peak, clips per second, the compiler's gain."""
    encoder = copy.deepcopy(encoder).to("cuda", torch.bfloat16)
    compiled = copy.deepcopy(encoder)
    compiled.encoder.compile()
    wave = 0.1 * torch.randn(2 if tiny else 64, 10 * RATE, device="cuda")
    lengths = torch.full((len(wave),), wave.shape[1], device="cuda")
    report_shares(encoder, wave, lengths, synchronised, repeats, tiny=tiny, kind="bf16 on GPU")
    calls: dict[str, Callable[[], object]] = {"plain": lambda: encoder.encode(wave, lengths)}
    if not tiny:
        calls["compiled"] = lambda: compiled.encode(wave, lengths)
    taken = in_turn(calls, repeats, synchronised)
    print(
        f"{len(wave) / taken['plain']:.0f} clips/s of {wave.shape[1] / RATE:.0f} s, bf16 on {torch.cuda.get_device_name()}"
    )
    if not tiny:
        report("beats compiled over plain forward, bf16 on GPU", taken["plain"] / taken["compiled"])


@torch.inference_mode()
def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description="Speed of the BEATs encoder.")
    parser.add_argument("--batch", type=int, default=2, help="clips at a time on the CPU")
    parser.add_argument("--repeats", type=int, default=2, help="measurements of which the median is taken")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tiny", action="store_true", help="small network, short clips: a smoke test")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    encoder = BeatsEncoder(beats_config("tiny") if options.tiny else BeatsConfig()).eval()
    wave = 0.1 * torch.randn(options.batch, RATE if options.tiny else 10 * RATE)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    on_cpu(encoder, wave, options.repeats, clock, tiny=options.tiny)
    position_conv(options.repeats, clock)
    if torch.cuda.is_available():
        on_gpu(encoder, options.repeats, tiny=options.tiny)


if __name__ == "__main__":
    main()
