"""All trained parameters as one flat tensor, their gradients as another: clipping and AdamW are
then a handful of calls a step, whatever the number of modules."""

import torch

from finetune.checkpoint import MOMENTS


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


class Arena:
    """Makes the model's trained parameters views of `data` and their gradients views of `grad`,
    both flat fp32: matrices first, which are decayed, then biases and norms, which are not."""

    def __init__(self, model: torch.nn.Module, learning_rate: float, weight_decay: float) -> None:
        parameters = list(trainable(model).values())
        matrices = [p for p in parameters if p.ndim >= 2]
        vectors = [p for p in parameters if p.ndim < 2]
        count = sum(p.numel() for p in parameters)
        self.data = torch.zeros(count)
        self.grad = torch.zeros(count)
        self._places: dict[int, slice] = {}
        start = 0
        for parameter in (*matrices, *vectors):
            start = self._take_in(parameter, start)
        decayed = sum(p.numel() for p in matrices)
        bounds = ((0, decayed, weight_decay), (decayed, count, 0.0))
        groups = [
            {"params": [self._flat(first, last)], "weight_decay": decay}
            for first, last, decay in bounds
            if last > first
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=learning_rate, fused=True)

    def _take_in(self, parameter: torch.nn.Parameter, start: int) -> int:
        place = slice(start, start + parameter.numel())
        view = self.data[place].view(parameter.shape)
        view.copy_(parameter.detach())
        parameter.data = view
        parameter.grad = self.grad[place].view(parameter.shape)
        self._places[id(parameter)] = place
        return place.stop

    def _flat(self, first: int, last: int) -> torch.nn.Parameter:
        flat = torch.nn.Parameter(self.data[first:last])
        flat.grad = self.grad[first:last]
        return flat

    def place(self, parameter: torch.nn.Parameter) -> slice:
        """Where the parameter lies."""
        return self._places[id(parameter)]

    def step(self, learning_rate: float, max_grad_norm: float) -> None:
        """Clip the gradient to the norm, update, and begin a new gradient."""
        norm = torch.linalg.vector_norm(self.grad)
        self.grad.mul_((max_grad_norm / (norm + 1e-6)).clamp_(max=1.0))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.grad.zero_()

    def moments(self) -> list[dict[str, torch.Tensor]]:
        """AdamW's state, per group."""
        states = [self.optimizer.state[group["params"][0]] for group in self.optimizer.param_groups]
        return [{moment: state[moment] for moment in MOMENTS} for state in states]

    def restore(self, weights: torch.Tensor, moments: list[dict[str, torch.Tensor]]) -> None:
        """Put weights and AdamW's state back."""
        self.data.copy_(weights)
        for group, state in zip(self.optimizer.param_groups, moments, strict=True):
            self.optimizer.state[group["params"][0]] = dict(state)
