"""All trained parameters as one flat tensor, their gradients as another: clipping and AdamW are
then a handful of calls a step, whatever the number of modules."""

import torch

from finetune.checkpoint import MOMENTS


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _is_head(name: str) -> bool:
    return name.startswith("head.")


def _is_matrix(parameter: torch.nn.Parameter) -> bool:
    return int(parameter.ndim) >= 2


def _is_vector(parameter: torch.nn.Parameter) -> bool:
    return int(parameter.ndim) < 2


class Arena:
    """Makes the model's trained parameters views of `data` and their gradients views of `grad`,
    both flat fp32: the encoder's matrices, which are decayed, its biases and norms, which are not,
    and the head's."""

    def __init__(
        self,
        model: torch.nn.Module,
        learning_rate: float,
        weight_decay: float,
        head_rate_ratio: float = 1.0,
    ) -> None:
        """`head_rate_ratio`: how many times faster than the rest the head learns."""
        kinds = [
            [p for name, p in trainable(model).items() if _is_head(name) == head and is_kind(p)]
            for head in (False, True)
            for is_kind in (_is_matrix, _is_vector)
        ]
        count = sum(p.numel() for kind in kinds for p in kind)
        self.data = torch.zeros(count)
        self.grad = torch.zeros(count)
        self._places: dict[int, slice] = {}
        groups, first = [], 0
        settings = [
            (ratio, decay) for ratio in (1.0, head_rate_ratio) for decay in (weight_decay, 0.0)
        ]
        for kind, (ratio, decay) in zip(kinds, settings, strict=True):
            last = first
            for parameter in kind:
                last = self._take_in(parameter, last)
            if kind:
                flat = self._flat(first, last)
                groups.append({"params": [flat], "weight_decay": decay, "rate_ratio": ratio})
            first = last
        self.optimizer = torch.optim.AdamW(groups, lr=learning_rate, fused=True)

    def _take_in(self, parameter: torch.nn.Parameter, start: int) -> int:
        place = slice(start, start + int(parameter.numel()))
        view = self.data[place].view(parameter.shape)
        view.copy_(parameter.detach())
        parameter.data = view
        parameter.grad = self.grad[place].view(parameter.shape)
        self._places[id(parameter)] = place
        return int(place.stop)

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
            group["lr"] = learning_rate * group["rate_ratio"]
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
