"""What the loop asks of the other rooms, in one place: corpus, features, generator, judge, diagnoser."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.child import run_command
from agent.config import LoopConfig
from agent.encoder import EncoderFacts, encoder_facts, encoder_name
from agent.figures import scores_of, tidy
from beats.config import BeatsSource
from diagnoser.config import MAKERS, DiagnoserTrainConfig, Learning
from resp229k.audio import RATE
from resp229k.clip import Metadata
from resp229k.corpus import Corpus
from training.config import dump_config, weights_path
from training.errors import CheckpointError, NonFiniteError
from training.files import digest, folder_digest, write_json

if TYPE_CHECKING:
    from agent.nodes.clips import ClipRequest
    from beats.judge import Judge
    from diagnoser.profile import ErrorProfile
    from generator.sample import Generator
    from training.model import Provenance


UPPER_BOUND = "upper bound (simulator)"
PREDICTIONS = "predictions.npz"


@dataclass(frozen=True)
class Made:
    """A synthetic clip on disk: path relative to its corpus, and its length in s.

    ``metadata`` is given when the maker drew a subject of its own.
    """

    path: str
    seconds: float
    metadata: Metadata | None = None


class Rooms:
    """The real rooms. Weights and networks are loaded when first asked for.

    Args:
        config: of the loop.
        run: the run folder.
    """

    def __init__(self, config: LoopConfig, run: Path):
        os.environ.setdefault(
            "TRANSFORMERS_VERBOSITY", "error"
        )  # its padding notes would end up in the table
        import torch

        torch.set_num_threads(config.threads)  # sums depend on it, so results would too
        self.config = config
        self.run = run

    # corpus and features

    def build_corpus(self, folder: Path) -> Corpus:
        """Make the run's corpus, or open it if it is complete."""
        corpus = self.config.corpus
        if corpus.kind == "simulated":
            from resp229k.simulate import simulate_corpus

            return simulate_corpus(corpus.simulate, folder)
        from resp229k.build import build_corpus

        return build_corpus(corpus.build, folder)

    # weights

    @cached_property
    def weights(self) -> Path:
        """Folder of the weights."""
        return weights_path(self.config.weights)

    def weights_digest(self) -> str:
        """SHA-256 over tensors and configs (labels, preparation, subjects) of the weights.

        Raises:
            CheckpointError: ``beats.weights`` names no encoder.
        """
        return self._weights_digest

    @cached_property
    def _weights_digest(self) -> str:
        found = [folder_digest(self.weights, f"**/{kind}") for kind in ("*.safetensors", "config.json")]
        own = [] if self.config.beats.weights is None else [self._encoder.digest]
        return digest(found + own)

    @cached_property
    def _encoder(self) -> EncoderFacts:
        return encoder_facts(self.config, self.weights)

    def trained_subjects(self) -> set[str]:
        """Subjects that the generator and the judge were trained on."""
        found = set() if self._judge is None else set(self._judge.provenance.subjects)
        return found if self.upper_bound else found | set(self._generator.subjects)

    def encoder_provenance(self) -> Provenance:
        """Whom the diagnosers' encoder was trained and chosen on."""
        return self._encoder.provenance

    # diagnoser

    def train_diagnoser(
        self,
        folder: Path,
        *,
        synthetic: Sequence[str],
        repeats: str | None,
        init: str | None,
        synthetic_weight: float,
    ) -> None:
        """Train in a child process, with ``resp-agent train diagnoser``, into ``folder/model``.

        Paths in the config are relative to the run, where the child starts.

        Raises:
            RunError: training failed; carries the end of its log.
        """
        chosen = self.config.diagnoser
        learning = {name: getattr(chosen, name) for name in Learning.model_fields}
        learning["fit"] = chosen.fit.model_copy(update={"seed": self.config.seed})
        learning["synthetic_weight"] = synthetic_weight
        settings = DiagnoserTrainConfig(
            **learning,
            corpus="corpus",
            task=self.config.task,
            synthetic=list(synthetic),
            repeats=repeats,
            beats=BeatsSource(weights=encoder_name(self.config, self.weights)),
            preprocess=self.config.preprocess,
            init=init,
            seed=self.config.seed,
            cache="features",
        )
        dump_config(settings, folder / "train.yaml")
        where = folder.relative_to(self.run).as_posix()
        run_command(
            ["train", "diagnoser", "--config", f"{where}/train.yaml", "--out", f"{where}/model"],
            cwd=self.run,
            log=folder / "train.log",
            threads=self.config.threads,
        )
        (folder / "train.log").unlink()  # holds times; only a failure needs it, and carries its end

    def score(self, model: Path, tail: Sequence[str], folder: Path) -> dict[str, Any]:
        """Figures on the ``plan`` split; the predictions are kept in ``folder``."""
        from diagnoser.evaluate import figures
        from diagnoser.predict import Predictor

        predictor = Predictor.load(model)
        part = Corpus.open(self.run / "corpus").subset(split="plan", task=self.config.task)
        store = predictor.build_store(part, self.run / "features")
        predictions = predictor.predict_corpus(part, store)
        predictions.save(folder / PREDICTIONS)
        found = figures(predictions, tail=tail, draws=1, task=self.config.task)
        return {name: found[name] for name in (*scores_of(self.config.task), "ece", "f1")}

    def error_profile(self, scored: Path, tail: Sequence[str]) -> ErrorProfile:
        """The error profile of predictions that :meth:`score` kept."""
        from diagnoser.predictions import Predictions
        from diagnoser.profile import error_profile

        return error_profile(Predictions.load(scored / PREDICTIONS), tail)

    def difference(self, scored: Path, before: Path) -> dict[str, float]:
        """Paired difference in macro-F1 between predictions that :meth:`score` kept."""
        from agent.curriculum import paired_difference
        from diagnoser.predictions import Predictions

        after, earlier = (Predictions.load(folder / PREDICTIONS) for folder in (scored, before))
        return paired_difference(after, earlier, self.config.seed)

    def gains(self, scored: Path, before: Path) -> dict[str, tuple[float, float]]:
        """Change of each class's F1 between two folders of :meth:`score`, with its standard error."""
        from agent.planners.evidence import class_gains
        from diagnoser.predictions import Predictions

        after, first = (Predictions.load(folder / PREDICTIONS) for folder in (scored, before))
        return class_gains(after, first)

    def losses(self, model: Path, corpus: Corpus) -> np.ndarray:
        """Cross-entropy of a diagnoser on every clip of a corpus, nats ``(N,)``, in the order of its clips."""
        from diagnoser.predict import Predictor

        predictor = Predictor.load(model)
        found = predictor.predict_corpus(corpus, predictor.build_store(corpus, self.run / "features"))
        own = found.probs[np.arange(len(found.labels)), found.labels]
        return -np.log(np.maximum(own.astype(np.float64), 1e-12))

    def evaluate(self, model: Path, tail: Sequence[str], folder: Path) -> dict[str, Any]:
        """Figures on the test split with 95 % intervals over subjects; predictions are kept in ``folder``.

        Raises:
            ContaminationError: the diagnoser's weights know test subjects.
        """
        from diagnoser.evaluate import evaluate

        found = evaluate(
            model,
            Corpus.open(self.run / "corpus"),
            "test",
            self.config.task,
            tail=tail,
            cache=self.run / "features",
            seed=self.config.seed,
            save=folder / PREDICTIONS,
        )
        return tidy(found)

    # generator and judge

    @property
    def upper_bound(self) -> bool:
        """Whether the simulator stands in for the generator."""
        return self.config.generator.backend == "simulator"

    @property
    def source_name(self) -> str:
        """What manifests give as the source of synthetic clips."""
        return UPPER_BOUND if self.upper_bound else "synthetic"

    @cached_property
    def _generator(self) -> Generator:
        from generator.sample import Generator

        return Generator.load(self.weights, self.config.generator.sample)

    @cached_property
    def _judge(self) -> Judge | None:
        from beats.judge import Judge

        folder = self.weights / f"judge-{self.config.task}"
        return Judge.from_pretrained(folder) if folder.is_dir() else None

    def generator_labels(self) -> tuple[str, ...]:
        """Classes that the backend can make."""
        if not self.upper_bound:
            return self._generator.labels(self.config.task)
        from resp229k.simulate import SIMULATED
        from resp229k.tasks import get_task

        return {"disease16": SIMULATED, "icbhi4": get_task("icbhi4").classes}.get(self.config.task, ())

    def longest_clip(self) -> float:
        """Longest clip that the backend can make, s."""
        return math.inf if self.upper_bound else self._generator.seconds

    def judge_classes(self) -> tuple[str, ...]:
        """Classes that the judge tells apart; none when there is no judge for the task."""
        return () if self._judge is None else self._judge.classes

    def judge(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities ``(N, C)`` of 16 kHz waves; rows of zeros where there is no sound to judge.

        Raises:
            CheckpointError: the weights hold no judge for the task.
        """
        if self._judge is None:
            raise CheckpointError(f"no judge-{self.config.task}", path=self.weights)
        found = np.zeros((len(waves), len(self._judge.classes)))
        heard = [i for i, w in enumerate(waves) if w.size and np.isfinite(w).all() and np.abs(w).max() > 0]
        if heard:
            found[heard] = self._judge.probabilities([waves[i] for i in heard])
        return found

    def generate(self, requests: Sequence[ClipRequest], folder: Path, seed: int) -> list[Made]:
        """Make the clips and write them, each with its provenance, under ``folder/audio``.

        ``folder`` also gets the subjects behind generator and judge, for the diagnosers trained on it.

        Raises:
            NonFiniteError: the generator gave samples that are no numbers.
        """
        from agent.makers import simulate, to_requests
        from generator.write import write_clips

        asked = to_requests(
            requests, Corpus(self.run / "corpus", []), self.config.task, self.config.preprocess.seconds
        )
        if self.upper_bound:
            made, metadata = simulate(requests, asked, seed)
        else:
            made, metadata = self._generator.generate(asked, seed), [None] * len(asked)
        for one in made:
            if not np.isfinite(one.wave).all():
                raise NonFiniteError(
                    f"the generator gave non-finite samples for {one.request.label!r}", path=self.weights
                )
        paths = write_clips(
            made,
            folder / "audio",
            backend=UPPER_BOUND if self.upper_bound else "neural",
            weights={} if self.upper_bound else self._generator.digests,
            sample=None if self.upper_bound else self._generator.config,
            subjects_hash=digest([]) if self.upper_bound else self._generator.subjects_hash,
        )
        write_json(folder / MAKERS, sorted(self.trained_subjects()))
        return [
            Made(f"audio/{path.name}", one.wave.size / RATE, facts)
            for path, one, facts in zip(paths, made, metadata, strict=True)
        ]
