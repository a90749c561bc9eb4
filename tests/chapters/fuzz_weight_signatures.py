"""Right calls of the public names of `weightbook.adapting.weight_signatures`, see tests/fuzz.py."""

import torch
from fuzz import EXPERIMENT, RACE, RECORD, Fixed, Free, Wide, conv_net, images, net, t, table
from torch import nn


def signature(m, seed=0):
    return m.WeightSignature({"0.weight": t(3, 4, seed=seed)})


states = lambda: [net(4, 3).state_dict() for _ in range(3)]  # noqa: E731


table(
    "adapting.weight_signatures",
    projection_coefficient=lambda m: dict(v=Free(t(4)), a=t(4, seed=1)),
    project_out=lambda m: dict(v=Free(t(4)), a=t(4, seed=1), eps=0.0),
    QuantizedTensor=RECORD,
    quantize=lambda m: dict(x=Free(t(4)), levels=4, scheme="linear", eps=1e-12),
    uniform_quantize=lambda m: dict(x=Free(t(4)), levels=4),
    log_quantize=lambda m: dict(x=Free(t(4)), levels=4, eps=1e-12),
    tanh_quantize=lambda m: dict(x=Free(t(4)), levels=4),
    signature_bytes=lambda m: dict(sizes=[3, 4], levels=16),
    update_bn_stats=lambda m: dict(model=conv_net(), batches=[t(2, 1, 8, 8)]),
    shallow_keys=lambda m: dict(
        model=conv_net(), n_layers=1, kinds=(nn.Conv2d,), skip=("no",), example=Fixed(t(1, 1, 8, 8))
    ),
    fingerprint=lambda m: dict(model=states()[0], keys=["0.weight"]),
    WeightSignature=RECORD,
    extract_signature=lambda m: dict(robust=states()[0], clean=states()[1], pretrained=states()[2], keys=["0.weight"]),
    quantize_signature=lambda m: dict(signature=signature(m), levels=4, scheme="linear"),
    save_signature=lambda m: dict(signature=signature(m), path=Fixed("/tmp/weightbook-fuzz.safetensors")),
    load_signature=lambda m: dict(path=m.save_signature(signature(m), "/tmp/weightbook-fuzz.safetensors")),
    apply_signatures=lambda m: dict(target=states()[0], signatures=[signature(m)], weights=0.5, pretrained=None),
    patch_tensor_reference=lambda m: dict(original=t(3), directions=t(2, 3), weights=[0.5, 0.5]),
    SignaturePatch=lambda m: dict(model=net(4, 3), signatures=[signature(m)], weights=0.5),
    patched=lambda m: dict({"*": (net(4, 3), signature(m)), "weights": Fixed(0.5)}),
    patch_tensor=lambda m: dict(original=t(3), directions=t(2, 3), weights=[0.5, 0.5]),
    remove_signatures=lambda m: dict(patched_state=states()[0], signatures=[signature(m)], weights=0.5),
    signature_similarity=lambda m: dict(signatures_a=[signature(m)], signatures_b=[signature(m, 1)]),
    layerwise_relative_difference=lambda m: dict(model=states()[0], reference=states()[1], keys=["0.weight"]),
    random_signature=lambda m: dict(like=signature(m)),
    patch_like_released=lambda m: dict(
        target=states()[0],
        robust=[states()[1]],
        clean=states()[2],
        pretrained=states()[0],
        keys=["0.weight"],
        alpha=0.5,
        special=("bn",),
    ),
    patch_bytes=lambda m: dict(numel=4, count=1, itemsize=4),
    benchmark=RACE,
    Normalize=lambda m: dict(stats="cifar10"),
    PlainVGG=lambda m: dict(widths=[4, 0, 4], channels=3, classes=2, stats="cifar10"),
    ResidualUnit=lambda m: dict(inputs=2, width=4, stride=1),
    DownsamplingResNet=lambda m: dict(depths=[1, 1], width=4, channels=3, classes=2, stats="cifar10"),
    build_network=lambda m: dict(name="vgg-5", channels=3, classes=2, stats="cifar10"),
    Study=lambda m: dict(
        source="digits",
        where=Fixed("here"),
        network="vgg-5",
        pre_images=1,
        images=1,
        validation=1,
        test=1,
        pre_epochs=1,
        epochs=1,
        rate=0.1,
        pre_rate=0.1,
        batch=2,
        decay=0.1,
        pad=1,
        severity=5,
    ),
    study_images=EXPERIMENT,
    corrupted=lambda m: dict(
        x=Wide(images()), name="contrast", study=Fixed(m.Study("digits", "here", "vgg-5", 1, 1, 1, 1, 1, 1)), seed=1
    ),
    Arm=lambda m: dict(data="A", train="clean", order=0, stats="digits"),
    accuracy_of=lambda m: dict(model=conv_net(), x=Wide(t(3, 1, 8, 8)), y=torch.tensor([0, 1, 0]), batch=2),
    run_pretraining=EXPERIMENT,
    run_arm=EXPERIMENT,
    robustness_report=lambda m: dict(model=conv_net(), datasets={"clean": (t(3, 1, 8, 8), torch.tensor([0, 1, 0]))}),
    score_state=EXPERIMENT,
)
