"""Muon for weight matrices and convolutions, AdamW for everything else."""

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from training.parallel import gather_sum, process_count, process_rank
from training.precision import compute_dtype


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Push all singular values of matrices towards 1 by a Newton-Schulz iteration.

    Args:
        matrices: (n, rows, columns), any floating dtype.
        steps: iterations; 5 bring the values into about 0.7..1.2, which is all that Muon needs.

    Returns:
        (n, rows, columns), bfloat16 or float32.
    """
    # Quintic coefficients of the Muon optimiser: steep at 0, so that small directions catch up in few steps.
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.to(compute_dtype(matrices.device))
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised: every direction of a matrix learns at the same speed."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Apply one update to every parameter that has a gradient.

        With several processes each orthogonalises its share of the matrices and the results are exchanged.
        """
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            momenta = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in params]
            torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
            # Nesterov: look one step ahead along the momentum.
            ahead = torch._foreach_lerp(grads, momenta, group["momentum"])
            updates = [update.to(p.dtype).view_as(p) for p, update in zip(params, self._exchanged(ahead), strict=True)]
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(params, updates, alpha=-group["lr"])

    @staticmethod
    def _exchanged(ahead: list[Tensor]) -> list[Tensor]:
        """What to add to every matrix, flat and in bfloat16: this process's share and what the others have made."""
        flat = torch.zeros(sum(matrix.numel() for matrix in ahead), dtype=torch.bfloat16, device=ahead[0].device)
        parts = list(flat.split([matrix.numel() for matrix in ahead]))
        alike = defaultdict(list)  # Matrices of one shape are orthogonalised together.
        for index in range(process_rank(), len(ahead), process_count()):
            alike[ahead[index].shape].append(index)
        for indices in alike.values():
            stack = torch.stack([ahead[index].flatten(1) for index in indices])
            # Tall matrices may change their output as much per step as square ones.
            scale = max(1.0, stack.shape[1] / stack.shape[2]) ** 0.5
            torch._foreach_copy_([parts[i] for i in indices], list((orthogonalise(stack) * scale).flatten(1)))
        gather_sum(flat)
        return parts


def build_optimisers(
    model: nn.Module, muon_lr: float, adam_lr: float, is_matrix: Callable[[str, nn.Parameter], bool]
) -> list[torch.optim.Optimizer]:
    """Split a model's parameters between Muon and AdamW.

    Args:
        model: only parameters that require gradients are taken.
        muon_lr: peak learning rate of Muon: the spectral norm of one update.
        adam_lr: peak learning rate of AdamW.
        is_matrix: tells from name and parameter whether Muon takes it.

    Returns:
        One or two optimisers; each group remembers its peak rate as `peak`.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if is_matrix(name, p)]
    others = [p for name, p in named if not is_matrix(name, p)]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.97), weight_decay=0.0)
    ]
    if matrices:
        optimisers.append(Muon(matrices, lr=muon_lr))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return optimisers


def set_rate(optimisers: list[torch.optim.Optimizer], factor: float) -> None:
    """Scale every learning rate to `factor` (0..1) of its peak."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * factor


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, steps: int) -> None:
    """Move a running average of the weights towards the model; faster while it is young.

    Args:
        average: changed in place.
        model: what it follows.
        decay: share of the average that stays at a step.
        steps: done so far.
    """
    decay = min(decay, (1 + steps) / (10 + steps))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
