"""The reference networks: shapes, devices and dtypes, gradients, state, bad input, the framework's own tools."""

import io

import pytest
import torch
from torch import nn

from weightbook.blocks.nets import MLP, ResidualBlock, SmallResNet, SmallViT, count_parameters, make_norm
from weightbook.book.checks import assert_close

NETS = {
    "mlp": lambda **kw: MLP((3 * 8 * 8, 16, 5), **kw),
    "resnet-batch": lambda: SmallResNet(8, classes=5, width=4),
    "resnet-group": lambda: SmallResNet(14, classes=5, width=4, norm="group"),
    "resnet-none": lambda: SmallResNet(8, classes=5, width=4, norm="none"),
    "vit": lambda: SmallViT(8, classes=5, patch=2, width=16, depth=2),
}


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETS[name]()


def images(count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("count", [1, 3])
def test_logits_have_shape_dtype_and_reach_every_parameter(name, dtype, count):
    net = make(name).to(dtype).eval()
    logits = net(images(count, dtype))
    assert logits.shape == (count, 5) and logits.dtype == dtype and logits.isfinite().all()
    logits.float().pow(2).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", NETS)
def test_examples_do_not_mix_in_evaluation(name):
    net, x = make(name).double().eval(), images(4, torch.float64)
    assert_close(net(x)[1:2], net(x[1:2]), rtol=1e-9)


@pytest.mark.parametrize("name", NETS)
def test_state_goes_round_trip_without_pickle(name):
    from safetensors.torch import load, save

    net, other = make(name).eval(), NETS[name]().eval()
    other.load_state_dict(load(save(net.state_dict())))
    assert_close(other(images(2)), net(images(2)), rtol=0.0)
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=True).keys() == net.state_dict().keys()


@pytest.mark.parametrize("name", ["mlp", "resnet-group", "vit"])
def test_parametrized_layers_work(name):
    "Reparameterisations register on every weight and leave the function as it was"

    class Same(nn.Module):
        def forward(self, weight):
            return weight.clone()

    net, x = make(name).eval(), images(2)
    before = net(x)
    for module in [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]:
        nn.utils.parametrize.register_parametrization(module, "weight", Same())
    assert_close(net(x), before, rtol=1e-6)


@pytest.mark.parametrize("depth", [8, 14, 20, 26])
def test_resnet_has_as_many_weight_layers_as_its_depth(depth):
    layers = [m for m in SmallResNet(depth, width=2).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


def test_vit_blocks_start_from_different_weights():
    weights = [block.linear1.weight for block in make("vit").blocks if hasattr(block, "linear1")]
    assert len(weights) == 2 and not torch.equal(*weights)


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    net, x = NETS["mlp"](dropout=0.5), images(2)
    assert not torch.equal(net(x), net(x))
    assert torch.equal(net.eval()(x), net(x))


@pytest.mark.parametrize("channels, groups, expected", [(16, 8, 8), (6, 8, 6), (7, 4, 1), (12, 8, 6)])
def test_group_norm_takes_the_largest_divisor(channels, groups, expected):
    assert make_norm("group", channels, groups=groups).num_groups == expected


BAD = {
    "sizes float": (lambda: MLP((4, 2.5)), TypeError, "`sizes`"),
    "one size": (lambda: MLP((4,)), ValueError, "`len(sizes)`"),
    "dropout": (lambda: MLP((4, 2), dropout=-0.1), ValueError, "`dropout`"),
    "depth": (lambda: SmallResNet(10), ValueError, "`depth`"),
    "width": (lambda: SmallResNet(8, width=0), ValueError, "`width`"),
    "norm": (lambda: SmallResNet(8, norm="layer"), ValueError, "`norm`"),
    "fewer channels": (lambda: ResidualBlock(8, 4), ValueError, "`out_channels`"),
    "patch": (lambda: SmallViT(8, patch=3), ValueError, "`size`"),
    "heads": (lambda: SmallViT(8, width=10, heads=4), ValueError, "`width`"),
    "integer images": (lambda: make("vit")(torch.ones(1, 3, 8, 8, dtype=torch.int64)), TypeError, "`x`"),
    "channels": (lambda: make("resnet-group")(torch.ones(1, 1, 8, 8)), ValueError, "`x`"),
    "flat": (lambda: make("mlp")(torch.ones(5)), ValueError, "`x`"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name(case):
    call, kind, text = BAD[case]
    with pytest.raises(kind) as caught:
        call()
    assert text in str(caught.value)


def test_count_parameters_counts_shared_ones_once():
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    net[1].weight = net[0].weight
    assert count_parameters(net) == 9
