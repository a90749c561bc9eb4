"""Every numbered result of the PONITA chapter is broken once, and its check has to fail."""

import chapter_code
import pytest

# tag of the equation -> (what the chapter says, what is put in its place)
BREAKS = {
    1: ("torch.stack([kappa[a][:, a] for a in act]).mean(0)", "torch.stack([kappa[a] for a in act]).mean(0)"),
    2: ("reach = torch.stack([act[act[:, top] == y][0].argsort()", "reach = torch.stack([act[act[:, top] == y][0]"),
    3: ("orbit = torch.stack([H[:, x].min() for x in range(6)])", "orbit = torch.stack([H[:, x].max() - x for x in range(6)])"),
    4: ("return torch.linalg.vector_norm(r, dim=-1, keepdim=True)\n    if ori_i.ndim", "return r.sum(-1, keepdim=True)\n    if ori_i.ndim"),  # noqa: E501
    5: ("torch.linalg.vector_norm(r - alpha * o, dim", "torch.linalg.vector_norm(r + alpha * o, dim"),
    6: ("(r[..., 1:] * o[..., :1]) - r[..., :1] * o[..., 1:]", "(r[..., 1:] * o[..., :1]) + r[..., :1] * o[..., 1:]"),
    7: ("frame_i.mT @ frame_j], -1)", "frame_j.mT @ frame_i], -1)"),
    8: ("torch.atan2(sine, cosine)", "torch.atan2(sine, -cosine)"),
    9: ("ranks == {False: {3}, True: {10 - 6}}", "ranks == {False: {3}, True: {10 - 5}}"),
    10: ('torch.einsum("ijabc,jac->ibc", whole, f) / N', 'torch.einsum("ijabc,iac->jbc", whole, f) / N'),
    11: ("whole = k1[:, :, :, None] * k2", "whole = k1[:, :, :, None] + k2"),
    12: ('torch.einsum("ijac,jac->iac", k1, f)', 'torch.einsum("jiac,jac->iac", k1, f)'),
    13: ("kernel.reshape(N * N, C) / N", "kernel.reshape(N * N, C)"),
    14: ("r.norm() * (1 - t**2).sqrt()", "r.norm() * (1 - t**2)"),
    15: ('torch.einsum("vaf,an->vfn", signal, grid) / len(grid)', 'torch.einsum("vaf,an->vfn", signal, grid)'),
    16: ("v @ (grid.T @ grid) / 20", "v / 3"),
    17: ("/ math.pi).pow(-2).mean()", "/ math.pi).pow(-1).mean()"),
    18: ("model.grid = grid @ Q.T.to(grid)", "model.grid = grid @ Q.to(grid)"),
    19: ("(powers[-1][..., :, None] * x[..., None, :])", "(powers[-1][..., :, None] + x[..., None, :])"),
    20: ("(p + 1) * (p + 2) / 2 - p * (p + 2) * rho", "(p + 1) * (p + 2) / 2 - p * (p + 1) * rho"),
    21: ("self.fiber_kernel.weight.data * (std_1 / std_2)", "self.fiber_kernel.weight.data * (std_2 / std_1)"),
    22: ("return x + F.linear(F.gelu(", "return x + F.linear(F.relu("),
    23: ("return energy, -torch.autograd.grad(energy.sum()", "return energy, torch.autograd.grad(energy.sum()"),
    24: ("L * 2 * widening * V * N * C * C", "L * widening * V * N * C * C"),
    25: ("E * N * B + E * N * C + V * N * C + C * B", "E * N * B + 2 * E * N * C + V * N * C + C * B"),
    26: ("(offset * offset).sum(0) ** -1.5", "(offset * offset).sum(0) ** -1.0"),
    27: ("        vel += dt * coulomb_force(pos, charge)", "        vel += 2 * dt * coulomb_force(pos, charge)"),
    28: (".sum(2) / (n - 1)", ".sum(2) / n"),
}


@pytest.fixture(scope="module")
def sources() -> list[str]:
    return chapter_code.derivation("ponita", "### Charged particles: the race", aside=r"grid_errors\(|(?m:^fig_)|mean_error|step_arms\(\*\*")  # noqa: E501


def test_every_equation_has_a_break():
    assert set(BREAKS) == chapter_code.tags("ponita")


def test_the_unbroken_chapter_passes(sources, monkeypatch):
    chapter_code.run("ponita", sources, monkeypatch)


@pytest.mark.parametrize("tag", BREAKS)
def test_a_broken_formula_fails_its_check(tag, sources, monkeypatch):
    chapter_code.assert_noticed("ponita", sources, *BREAKS[tag], monkeypatch)
