"""serve.yaml: the sections about which bundle answers (admin listener, canary, shadow)."""

from pydantic import Field, PositiveInt

from edgeloop.section import Section
from serve.operator_path import OperatorPath


class Admin(Section):
    """The admin listener. `bundles`: a folder that every bundle that is asked for must lie in."""

    host: str = "127.0.0.1"
    port: int = Field(8081, ge=0, le=65535)
    bundles: OperatorPath | None = None


class TrialSection(Section):
    """What a bundle on trial is held to. `share`: of the traffic that it gets; `alpha`: how likely
    a wrong verdict may be at most, however often it is looked at; `least_answers`: compared before
    the trial can be passed.

    `error_margin`: how many more of its answers may fail than of the stable bundle's;
    `latency_ratio`: how many times the stable bundle's p95 its own may be; `agreement`: the least
    share of texts that both answer alike (null: it is not judged).
    """

    bundle: OperatorPath
    share: float = Field(gt=0.0, le=1.0)
    alpha: float = Field(0.05, gt=0.0, lt=1.0)
    error_margin: float = Field(0.02, gt=0.0, lt=1.0)
    latency_ratio: float = Field(1.5, ge=1.0, le=100.0)
    agreement: float | None = Field(0.9, gt=0.0, lt=1.0)
    least_answers: PositiveInt = 500


class Canary(TrialSection):
    """A bundle that answers a share of the clients. `promote`: let it answer all once it has
    passed; without it the operator decides."""

    share: float = Field(0.1, gt=0.0, le=0.5)
    promote: bool = False


class Shadow(TrialSection):
    """A bundle that scores a sampled share of the requests after they were answered."""

    share: float = Field(0.05, gt=0.0, le=1.0)
