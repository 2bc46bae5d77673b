"""Config of the loop. Free of torch and langgraph, so that ``resp-agent --help`` stays instant."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from diagnoser.config import Learning
from generator.config import SampleConfig
from resp229k.audio import Preprocess
from resp229k.build import BuildConfig
from resp229k.simulate import SimulateConfig
from resp229k.tasks import TASKS
from training.config import Strict
from training.fitconfig import FitConfig

RuleName = Literal[
    "none", "oversample", "restyle", "random", "class-prior", "fill", "static-uncertainty", "thinker"
]
PlannerName = Literal[RuleName, "llm"]
Pick = Literal["hard", "random", "easy"]
Share = Annotated[float, Field(ge=0, le=1)]


class SimulatedCorpus(Strict):
    """A corpus from the simulator, made inside the run."""

    kind: Literal["simulated"] = "simulated"
    simulate: SimulateConfig = SimulateConfig()


class RealCorpus(Strict):
    """A corpus from publishers' folders, copied to 16 kHz inside the run."""

    kind: Literal["real"]
    build: BuildConfig


class BeatsSettings(Strict):
    """Which encoder the diagnosers hear with; the generator keeps the one it was trained with.

    ``weights`` is what ``beats.config.BeatsSource`` takes; null is the encoder of the loop's ``weights``.
    """

    weights: str | None = None


class DiagnoserSettings(Learning):
    """What a loop's user chooses about its diagnoser; the rest follows from the run.

    ``warm_start`` starts each round from the last round's weights instead of from scratch.
    """

    fit: FitConfig = FitConfig(steps=300, batch_size=32, learning_rate=2e-3, eval_every=50, patience=4)
    warm_start: bool = False


class GeneratorSettings(Strict):
    """Who makes the synthetic clips.

    ``neural`` is the shipped Resp-MLLM and flow decoder. ``simulator`` renders the class with the
    simulator that also made the corpus: an upper bound, allowed on simulated corpora only.
    """

    backend: Literal["neural", "simulator"] = "neural"
    candidates: float = Field(default=1.5, ge=1)  # clips generated per clip planned; the best stay
    picked_from: int = Field(default=4, ge=1)  # the same where the plan says which to pick
    sample: SampleConfig = SampleConfig()


class GateSettings(Strict):
    """When the generator is trusted with the budget.

    ``ratio`` is the least share of the judge's recall on real clips that generated clips must reach,
    macro and tail; 0 switches the gate off. A judge whose macro recall on real clips is below ``judge_over_chance`` / classes
    cannot tell, and the gate stays closed.
    """

    ratio: Share = 0.6
    probe: int = Field(default=8, ge=1)  # generated probe clips per class
    judge_over_chance: float = Field(default=1.2, ge=1)


class ScreenSettings(Strict):
    """What a synthetic clip must pass. Peaks and shares in full scale = 1, durations in seconds."""

    min_peak: Share = 0.01
    max_clipped: Share = 0.01  # share of samples at full scale
    min_seconds: float = Field(default=0.5, gt=0)
    max_cosine: Share = 0.98  # of batch-centred log-mel fingerprints
    min_rank: int = Field(default=2, ge=1)  # the class must be among the judge's first so many
    min_probability: Share = 0.05
    copies: bool = True  # drop clips that are copies of training clips (neural generator)
    # Nats, of the current diagnoser, where the plan says which to pick. Above: more likely a wrong clip than
    # a hard one. 3 is a probability of 5 %, as `min_probability`.
    max_loss: float = Field(default=3.0, gt=0)


class ThinkerConfig(Strict):
    """Weights of the Thinker's need, its prior (:func:`agent.planners.thinker.plan_thinker`), caps and styles.

    ``cross_source`` is the share of a single-source class's clips with another source's style,
    ``confused_with`` the Thinker's share of the others with the style of the class it is taken for.
    ``pick`` says for all synthesizing planners which of several candidates stay, by the current
    diagnoser's loss; null keeps those that the judge finds likeliest.
    """

    weakness: float = Field(default=1.0, ge=0)
    doubt: float = Field(default=0.5, ge=0)
    confusion: float = Field(default=0.3, ge=0)
    prior: float = Field(default=1.0, ge=0)
    gain: float = Field(default=1.0, ge=0)
    sharpness: float = Field(default=2.0, ge=1)
    cap_share: float = Field(default=0.5, gt=0, le=1)
    cross_source: Share = 0.5
    confused_with: Share = 0.25
    pick: Pick | None = None


class LLMSettings(Strict):
    """The chat endpoint of planner ``llm``: any that speaks OpenAI's protocol.

    ``key_env`` names the environment variable that holds the key; a server of one's own may need none.
    ``timeout`` and ``max_wait`` are in seconds: of one exchange as a whole, and of the longest pause
    before a retry, whatever the server asks for. ``replay`` is a run whose replies are used instead.
    """

    base_url: str | None = None
    model: str | None = Field(default=None, min_length=1, max_length=200)
    key_env: str = "RESP_LLM_KEY"
    timeout: float = Field(default=180, gt=0, le=3600)
    temperature: float = Field(default=0, ge=0, le=2)
    max_tokens: int = Field(default=8192, ge=1)
    retries: int = Field(default=3, ge=0, le=10)  # after refused, cut and late exchanges
    max_wait: float = Field(default=60, gt=0, le=3600)
    repairs: int = Field(default=3, ge=0, le=3)  # turns in which the model may mend its plan
    replay: str | None = None

    @field_validator("key_env")
    @classmethod
    def _names_a_variable(cls, value: str) -> str:
        # Keys hold small letters or dashes: what looks like one is refused and never printed.
        if not re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", value):
            raise ValueError(
                "is the name of an environment variable (capitals, digits, _), never the key itself"
            )
        return value

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        if not known or " " in value or not value.isprintable():
            raise ValueError("is no http(s) address, such as http://127.0.0.1:11434/v1")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("must hold no user, key or query; the key goes into the variable of key_env")
        return value.rstrip("/")

    def identity(self) -> dict[str, Any]:
        """What a plan depends on; how long and how often to try is left out."""
        return self.model_dump(include={"base_url", "model", "temperature", "max_tokens", "repairs"})


class CurriculumSettings(Strict):
    """How a round builds on the rounds before it.

    ``synthetic_share``: largest share of the training loss that synthetic clips may carry, by round
    from the first, the last value for all later rounds; null: no bound. ``guard`` rolls back a round whose
    diagnoser is worse on ``plan`` than the one before, beyond its interval. ``approve`` stops before
    clips are made, so that the user can edit the plan.
    """

    synthetic_share: Annotated[list[Share], Field(min_length=1)] | None = None
    guard: bool = False
    approve: bool = False


class LoopConfig(Strict):
    """One run of the curriculum loop.

    ``budget`` is in clips per round. ``tail_share``: a class is in the tail when its share of the
    real training clips is below ``tail_share`` times an even share.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    task: str = "disease16"
    rounds: int = Field(default=2, ge=1, le=50)
    budget: int = Field(default=120, ge=1)
    planners: list[PlannerName] = ["none", "thinker"]
    corpus: SimulatedCorpus | RealCorpus = Field(default=SimulatedCorpus(), discriminator="kind")
    weights: str = "tiny"
    beats: BeatsSettings = BeatsSettings()
    preprocess: Preprocess = Preprocess()
    diagnoser: DiagnoserSettings = DiagnoserSettings()
    generator: GeneratorSettings = GeneratorSettings()
    gate: GateSettings = GateSettings()
    screen: ScreenSettings = ScreenSettings()
    thinker: ThinkerConfig = ThinkerConfig()
    llm: LLMSettings = LLMSettings()
    curriculum: CurriculumSettings = CurriculumSettings()
    tail_share: float = Field(default=0.5, gt=0, le=1)
    threads: int = Field(default=2, ge=1)  # fixed, because sums depend on it

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.task not in TASKS:
            raise ValueError(f"unknown task {self.task!r}; use one of: {', '.join(TASKS)}")
        if not self.planners or len(set(self.planners)) != len(self.planners):
            raise ValueError("planners must be given, each once")
        if self.llm.replay is not None and "llm" not in self.planners:
            raise ValueError("llm.replay is for planner 'llm', which is not among the planners")
        if "llm" in self.planners and None in (self.llm.base_url, self.llm.model):
            raise ValueError(
                "planner 'llm' needs an endpoint: set llm.base_url and llm.model, "
                "such as http://127.0.0.1:11434/v1 and qwen3 for a local Ollama"
            )
        if self.generator.backend == "simulator" and self.corpus.kind != "simulated":
            raise ValueError(
                "generator.backend 'simulator' is an upper bound on simulated corpora: "
                "use 'neural' with real recordings"
            )
        return self
