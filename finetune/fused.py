"""LoRA's linear layers as one differentiable operation each, with the frozen weights in bf16 where
the processor multiplies bf16 faster; LoRA's own weights, activations between layers, norms and
attention stay in fp32. PEFT's modules keep their names and tensors: only `forward` is another.

What it saves against PEFT's forward: the product with a frozen weight needs no gradient of the
weight, casts and dropout masks are made once for the modules that read the same tensor (query, key,
value), and dropout costs a bitwise AND instead of a random number per value.
"""

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as PeftLinear
from torch.nn.functional import linear

from finetune.arena import Arena

ADAPTER = "default"  # PEFT's name for the one adapter
POOL_VALUES = 1 << 22
BIT_TYPES = {torch.bfloat16: torch.int16, torch.float32: torch.int32}
RANDOM_BITS = 15


class DropoutBits:
    """Masks of one rate: a mask is a stretch of a pool of drawn bits, from a random place on. The
    pool is drawn anew every epoch; masks of one epoch may overlap at other positions."""

    def __init__(self, rate: float, dtype: torch.dtype) -> None:
        self.rate = rate
        self._bits = BIT_TYPES[dtype]
        self._generator = torch.Generator()
        self._pool = torch.zeros(0, dtype=self._bits)

    def begin(self, seed: int) -> None:
        """Draw the epoch's pool."""
        self._generator.manual_seed(seed)
        size = POOL_VALUES // 4
        drawn = torch.empty(size, dtype=torch.int64).random_(generator=self._generator)
        values = drawn.view(torch.int16) & (2**RANDOM_BITS - 1)
        keep = values >= int(self.rate * 2**RANDOM_BITS)
        self._pool = -keep.to(self._bits)

    def mask(self, like: torch.Tensor) -> torch.Tensor:
        """All bits set where a value stays, none where it is dropped, in the shape of `like`."""
        count = like.numel()
        if count > self._pool.numel():
            self._pool = self._pool.repeat(-(-count // self._pool.numel()) + 1)
        most = self._pool.numel() - count + 1
        start = int(torch.randint(0, most, (), generator=self._generator))
        return self._pool[start : start + count].view(like.shape)

    def state(self) -> torch.Tensor:
        """The generator's state, to go on from."""
        return self._generator.get_state()

    def set_state(self, state: torch.Tensor) -> None:
        """Put such a state back."""
        self._generator.set_state(state)


def masked(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The values where the mask's bits are set, 0 elsewhere."""
    return values if mask is None else (values.view(mask.dtype) & mask).view(values.dtype)


class _Inputs:
    """The last input in the weights' dtype, and with dropout: what query, key and value share."""

    def __init__(self, dtype: torch.dtype, bits: DropoutBits | None) -> None:
        self._dtype = dtype
        self._bits = bits
        self.clear()

    def clear(self) -> None:
        """Let go of the last input."""
        self._last: tuple[torch.Tensor, int] | None = None
        self._made: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None] | None = None

    def make(
        self, x: torch.Tensor, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """(tokens, in) cast; the same with dropout; the mask."""
        if not training:
            cast = x.reshape(-1, x.shape[-1]).to(self._dtype)
            return cast, cast, None
        if self._last is not None and self._last[0] is x and self._last[1] == x._version:
            assert self._made is not None
            return self._made
        cast = x.detach().reshape(-1, x.shape[-1]).to(self._dtype).contiguous()
        mask = None if self._bits is None else self._bits.mask(cast)
        self._last = (x, x._version)
        self._made = (cast, masked(cast, mask), mask)
        return self._made


class _LoraLinear(torch.autograd.Function):  # type: ignore[misc]
    """y = x W' + b + (x dropped) A' B', with B already scaled. The gradients of A and B are added
    to their places in the arena; `trained` are A and B themselves, so that there is a gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None],
        layer: "FusedForward",
        *trained: torch.Tensor,
    ) -> torch.Tensor:
        cast, dropped, mask = inputs
        low = linear(dropped, layer.a)  # (tokens, r)
        y = linear(cast, layer.weight, layer.bias).addmm_(low, layer.b.t())
        ctx.save_for_backward(dropped, low)
        ctx.layer, ctx.mask = layer, mask
        return y.view(*x.shape[:-1], -1).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dropped, low = ctx.saved_tensors
        layer, gradient = ctx.layer, gradients[0]
        flat = gradient.reshape(-1, gradient.shape[-1]).to(layer.weight.dtype)
        d_low = flat @ layer.b  # (tokens, r)
        layer.grad_b.add_(flat.t() @ low, alpha=layer.scale)
        layer.grad_a.add_(d_low.t() @ dropped)
        if not ctx.needs_input_grad[0]:
            return (None,) * 5
        d_x = torch.mm(flat, layer.weight).add_(masked(d_low @ layer.a, ctx.mask))
        return (d_x.view(*gradient.shape[:-1], -1).to(gradient.dtype), *(None,) * 4)


class FusedForward:
    """Stands in for the forward of one of PEFT's layers."""

    def __init__(self, layer: PeftLinear, owner: "FusedLora", arena: Arena) -> None:
        base, self._layer, self._owner = layer.base_layer, layer, owner
        self.weight = base.weight.detach().to(owner.dtype)
        self.bias = None if base.bias is None else base.bias.detach().to(owner.dtype)
        # What PEFT's layer holds must not stay in memory beside it.
        base.weight.data = self.weight
        if base.bias is not None:
            base.bias.data = self.bias
        self._trained = (layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight)
        place_a, place_b = (arena.place(weight) for weight in self._trained)
        self.a, self.b = (
            owner.low[p].view(w.shape)
            for p, w in zip((place_a, place_b), self._trained, strict=True)
        )
        self.grad_a, self.grad_b = (weight.grad for weight in self._trained)
        self.scale = layer.scaling[ADAPTER] / owner.keep_ratio
        owner.factors[True][place_b] = self.scale
        owner.factors[False][place_b] = layer.scaling[ADAPTER]

    def __call__(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        inputs = self._owner.inputs.make(x, self._layer.training)
        y: torch.Tensor = _LoraLinear.apply(x, inputs, self, *self._trained)
        return y


class FusedLora:
    """All of a model's LoRA layers, fused. `low` is a copy of the arena in `dtype`, with B scaled;
    it is made again before every step, and before an evaluation."""

    def __init__(
        self, layers: list[PeftLinear], arena: Arena, dtype: torch.dtype, dropout: float
    ) -> None:
        self.dtype = dtype
        self.keep_ratio = 1.0 - dropout
        self.bits = DropoutBits(dropout, dtype) if dropout else None
        self.inputs = _Inputs(dtype, self.bits)
        self.low = torch.zeros(arena.data.numel(), dtype=dtype)
        self.factors = {True: torch.ones_like(arena.data), False: torch.ones_like(arena.data)}
        self._arena = arena
        for layer in layers:
            layer.forward = FusedForward(layer, self, arena)

    def refresh(self, training: bool) -> None:
        """Take over the arena's present values."""
        self.inputs.clear()
        self.low.copy_(self._arena.data * self.factors[training])


def fusible_layers(model: torch.nn.Module) -> list[PeftLinear]:
    """PEFT's plain LoRA layers, if all that it put on the model are such: no DoRA, no 4 bits."""
    names = ("lora_A", "lora_B")
    found = [m for m in model.modules() if all(hasattr(m, name) for name in names)]
    plain = [
        m for m in found if type(m) is PeftLinear and not m.lora_variant and not m.fan_in_fan_out
    ]
    return plain if len(plain) == len(found) else []
