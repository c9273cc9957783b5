"""
What can go wrong between a pipeline and a version.

    UsageError
    ├── PipelineError            what the user wrote cannot run, with the line where it stopped
    │   └── DataError            load() gave something that cannot be trained or tested on
    ├── ParameterError           --set names no parameter, or a value of another type
    ├── IncomparableError        two versions, or a version and a pipeline, that cannot be given the same rows
    └── StepOrderError           a step before this one has not run
    RefusedError
    └── GateRefusedError         the gate said no, or never saw these bytes
    NotFoundError
    ├── PipelineNotFoundError    no pipeline for this model
    └── RunNotFoundError         no such run
    LastgoodError
    └── StepCrashedError         the process of a step died
"""

from lastgood.errors import LastgoodError, NotFoundError, RefusedError, UsageError


class PipelineError(UsageError):
    """What the user wrote cannot run."""

    code = "pipelines.pipeline"


class DataError(PipelineError):
    """``load()`` gave something that cannot be trained or tested on."""

    code = "pipelines.data"


class ParameterError(UsageError):
    """A parameter the pipeline does not have, or a value of another type."""

    code = "pipelines.parameter"


class IncomparableError(UsageError):
    """Two versions, or a version and a pipeline, that cannot be given the same rows."""

    code = "pipelines.incomparable"


class StepOrderError(UsageError):
    """A step before this one has not run."""

    code = "pipelines.step-order"


class GateRefusedError(RefusedError):
    """The gate said no, or never saw these bytes."""

    code = "pipelines.gate-refused"


class PipelineNotFoundError(NotFoundError):
    """There is no pipeline for this model."""

    code = "pipelines.pipeline-not-found"


class RunNotFoundError(NotFoundError):
    """There is no such run."""

    code = "pipelines.run-not-found"


class StepCrashedError(LastgoodError):
    """The process of a step died."""

    code = "pipelines.step-crashed"
