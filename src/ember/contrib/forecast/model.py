"""Write models of time series that are trained on a past and continued into a future."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any

from torch import Tensor

from ember import plate, sample
from ember.contrib.forecast.prefixes import RESIDUAL, PrefixCondition
from ember.distributions.shapes import broadcast_shape
from ember.errors import message
from ember.nn import PyroModule


class ForecastingModel(PyroModule, metaclass=ABCMeta):
    """Base of forecasting models; a subclass writes :meth:`model`, which calls :meth:`predict` once.

    Called with data of t steps and covariates of T ≥ t steps, the model observes the data and returns draws
    of the T − t steps that follow.

    >>> import torch, ember
    >>> import ember.distributions as dist
    >>> class Walk(ForecastingModel):
    ...     def model(self, zero_data, covariates):
    ...         with self.time_plate:
    ...             step = ember.sample("step", dist.Normal(torch.zeros(1), 1.0).to_event(1))
    ...         self.predict(dist.Normal(0.0, 0.1), step.cumsum(-2))
    >>> Walk()(torch.zeros(5, 1), torch.zeros(8, 0)).shape
    torch.Size([3, 1])
    """

    _run: _Run

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["_run"] = _Run()

    @abstractmethod
    def model(self, zero_data: Tensor, covariates: Tensor) -> None:
        """Run the statements of the model, among them one call of :meth:`predict`.

        :param zero_data: zeros of the data's shape and dtype, but of the covariates' duration.
        :param covariates: ``(..., T, features)``.
        """

    @property
    def time_plate(self) -> plate:
        """The plate of time, of the covariates' duration, at dim -1.

        :raises RuntimeError: outside of a call of the model.
        """
        return self._current("time_plate").plate

    def predict(self, noise_dist: Any, prediction: Tensor) -> None:
        """Observe the data as a prediction with noise, and draw the noise of the future.

        Like ``sample("residual", noise_dist, obs=data - prediction)``. Call it outside of the time plate.

        :param noise_dist: of event dim 0 or 1 if its values are independent over time, ``(..., T or 1,
            obs_dim)``; of event dim 2, such as GaussianHMM, if they are not.
        :param prediction: ``(..., T, obs_dim)``.
        :raises ValueError: if the shapes do not fit.
        """
        run = self._current("predict")
        past, duration = run.data.shape[-2], run.duration
        if prediction.dim() < 2 or prediction.shape[-2] != duration or noise_dist.event_dim > 2:
            raise ValueError(
                message(
                    "A prediction or its noise has a wrong shape.",
                    expected=f"a prediction (..., {duration}, obs_dim), noise of event_dim 0, 1 or 2",
                    actual=f"{tuple(prediction.shape)}, noise of event_dim {noise_dist.event_dim}",
                )
            )
        future = prediction[..., past:, :]
        if noise_dist.event_dim < 2:
            residual = self._independent(run, noise_dist, prediction)
        else:
            residual = self._dependent(run, noise_dist, prediction)
        run.forecast = future if past == duration else future + residual

    def _independent(self, run: _Run, noise: Any, prediction: Tensor) -> Tensor:
        if noise.event_dim == 0:
            noise = noise.expand(broadcast_shape(noise.batch_shape, prediction.shape[-1:])).to_event(1)
        past = run.data.shape[-2]
        with run.plate:
            if past == run.duration:
                return sample(RESIDUAL, noise, obs=run.data - prediction)
            return sample(RESIDUAL, noise)[..., past:, :]

    def _dependent(self, run: _Run, noise: Any, prediction: Tensor) -> Tensor:
        past = run.data.shape[-2]
        # Events begin with time, so that the dim of the time plate is a batch dim of size 1.
        observed = (run.data - prediction[..., :past, :]).unsqueeze(-3)
        if past == run.duration:
            return sample(RESIDUAL, noise, obs=observed)
        if past:
            run.conditions.data[RESIDUAL] = observed
        drawn: Tensor = sample(RESIDUAL, noise)
        return drawn.squeeze(-3) if drawn.dim() > 2 else drawn

    def forward(self, data: Tensor, covariates: Tensor) -> Tensor:
        """Run the model; return a draw of what follows the data, ``(..., T - t, obs_dim)``.

        :param data: ``(..., t, obs_dim)``.
        :param covariates: ``(..., T, features)`` with T ≥ t.
        :raises ValueError: if the shapes do not fit.
        :raises RuntimeError: if the model did not call :meth:`predict`.
        """
        check_durations(data, covariates)
        run = self._run
        duration = covariates.shape[-2]
        zero_data = data.new_zeros(()).expand(*data.shape[:-2], duration, data.shape[-1])
        before = dict(run.__dict__)
        run.data, run.duration, run.plate = data, duration, plate("time", duration, dim=-1)
        run.forecast, run.conditions = None, PrefixCondition()
        try:
            with run.conditions:
                self.model(zero_data, covariates)
            if run.forecast is None:
                raise RuntimeError(
                    message(
                        f"{type(self).__name__} made no prediction.", fix="call self.predict in its model"
                    )
                )
            return run.forecast
        finally:
            run.__dict__.update(before)

    def _current(self, name: str) -> _Run:
        if self._run.data is None:
            raise RuntimeError(
                message(
                    f"{name} is there only while {type(self).__name__} is being called.",
                    fix="use it inside of the method model, and call the object, not the method",
                )
            )
        return self._run


class _Run:
    """Hold what belongs to one call of a model."""

    _transient_attributes = ("conditions", "data", "duration", "forecast", "plate")

    def __init__(self) -> None:
        self.data: Any = None
        self.duration = 0
        self.plate: Any = None
        self.forecast: Tensor | None = None
        self.conditions = PrefixCondition()


def check_durations(data: Tensor, covariates: Tensor) -> None:
    """Refuse covariates that do not last as long as the data.

    :raises ValueError: naming both shapes.
    """
    if data.dim() < 2 or covariates.dim() < 2 or covariates.shape[-2] < data.shape[-2]:
        raise ValueError(
            message(
                "Data and covariates of a forecast do not fit together.",
                expected="data (..., t, obs_dim) and covariates (..., T, features) with T >= t",
                actual=f"{tuple(data.shape)} and {tuple(covariates.shape)}",
            )
        )
