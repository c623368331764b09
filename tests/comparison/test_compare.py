"""Networks of ``tests/foreign``: each correct one passes, each fault is found, alone."""

from __future__ import annotations

import gc
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import strangers
import textbooks
import torch
import torchvision
from torch import nn

import resnetlab.comparison
from resnetlab.comparison import compare_models, draw, load_target, render
from resnetlab.comparison.compare import (
    PAPERS,
    first_run,
    guess_fields,
    guess_fields_unrun,
    nearest,
    refuse,
    unwrap,
)
from resnetlab.comparison.operations import Node
from resnetlab.comparison.report import Findings
from resnetlab.comparison.structure import parse
from resnetlab.comparison.trace import trace_network
from resnetlab.errors import UserError
from resnetlab.models.architecture import ARCHITECTURES
from resnetlab.models.resnet import BasicBlock, ResNet, create_model

FOREIGN = Path(__file__).parent.parent / "foreign"

CORRECT = {
    "correct_factory.py:resnet18": "resnet18",
    "correct_textbook.py:net": "resnet18 (num_classes=10)",
    "correct_cifar_shortcut.py:ResNet18": "resnet18 (stem=cifar, num_classes=10)",
    "correct_option_a.py:resnet20": "resnet20",
    "correct_functional.py:ResNet32": "resnet32",
    "correct_tables.py:build": "resnet50_v1",
    "correct_bottleneck_extra.py:ResNet50": "resnet50 (stem=cifar)",
    "correct_preactivation.py:PreActResNet110": "preresnet110 (shortcut=B)",
}
FAULTY = {
    "faulty_bias.py:ResNet18": "bias-before-norm",
    "faulty_missing_projection.py:ResNet50": "missing-projection",
    "faulty_needless_projection.py:resnet18": "needless-projection",
    "faulty_relu_before_addition.py:resnet20": "gradient relu-before-addition",  # it crashes, too
    "faulty_fixed_pooling.py:ResNet18": "fixed-size",
    "faulty_softmax.py:resnet34": "softmax",
    "faulty_missing_relu.py:ResNet32": "missing-relu",
    "faulty_depth.py:ResNet50": "depth",
    "faulty_width.py:build": "width",
    "faulty_shared_block.py:ResNet34": "shared-weights",
    "faulty_python_list.py:ResNet18": "unregistered",
    "faulty_init.py:PreActResNet110": "init",
    "faulty_concatenation.py:ResNet20": "concatenation",
}


SIZE = {"resnet18": 64, "resnet50_v1": 64, "preresnet110": 16}
"""Pixels that are enough; of the others those that ``compare`` chooses are taken."""


def kinds(comparison) -> list[str]:
    return [difference.kind for difference in comparison.differences]


def test_every_foreign_file_is_tried() -> None:
    named = {target.partition(":")[0] for target in CORRECT | FAULTY}
    assert named == {path.name for path in FOREIGN.glob("*.py")}


@pytest.mark.parametrize("target", CORRECT)
def test_correct_network_of_any_style_passes(target: str) -> None:
    size = 16 if "cifar" in CORRECT[target] else SIZE.get(CORRECT[target].partition(" ")[0])
    comparison = compare_models(load_target(str(FOREIGN / target)), image_size=size)
    assert comparison.differences == ()
    assert comparison.reference == CORRECT[target]
    assert comparison.max_output_difference is not None
    assert comparison.max_output_difference < 1e-4
    assert comparison.verdict == ("identical" if "factory" in target else "equivalent")
    assert comparison.parameters == comparison.reference_parameters


@pytest.mark.parametrize("target", FAULTY)
def test_planted_fault_is_found_and_nothing_else(target: str) -> None:
    comparison, planted = compare_models(load_target(str(FOREIGN / target))), FAULTY[target].split()
    assert kinds(comparison) == planted
    assert comparison.verdict == "different"
    assert comparison.differences[0].places
    places = "1 place" if len(planted) == 1 else f"{len(planted)} places"
    assert f"Verdict: differs in {places}." in render(comparison)
    if comparison.parameter_differences:
        total = sum(delta for _, delta in comparison.parameter_differences)
        assert total == comparison.parameters - comparison.reference_parameters
    assert json.loads(json.dumps(comparison.to_dict()))["differences"][0]["where"]


def test_place_is_theirs() -> None:
    comparison = compare_models(load_target(str(FOREIGN / "faulty_missing_projection.py:ResNet50")))
    assert comparison.differences[0].places == ("body.0 (faulty_missing_projection.py, line 23)",)
    comparison = compare_models(
        load_target(str(FOREIGN / "faulty_needless_projection.py:resnet18"))
    )
    assert comparison.differences[0].places == ("layer1.0",)


def test_named_reference_is_taken_at_its_word() -> None:
    factory = str(FOREIGN / "correct_factory.py")
    v15 = load_target(f"{factory}:resnet50")
    assert kinds(compare_models(v15, "resnet50_v1", image_size=64)) == ["stride-placement"]
    ten = load_target(f"{factory}:resnet18", num_classes=10)
    assert kinds(compare_models(ten, "resnet18", image_size=64)) == ["num-classes"]
    ten_classes = {"num_classes": 10, "image_size": 64}
    assert compare_models(ten, "resnet18", **ten_classes).verdict == "identical"
    assert kinds(compare_models(ten, image_size=32)) == ["stem"]
    assert "block" in kinds(compare_models(ten, "resnet50", image_size=64))
    other_order = compare_models(create_model("resnet20", activation="pre"), "resnet20")
    assert kinds(other_order) == ["activation-order"]


def test_reference_may_be_a_network_and_plain_networks_have_one() -> None:
    assert compare_models(create_model("plain20"), create_model("plain20")).verdict == "identical"
    plain = compare_models(create_model("plain20"), "resnet20")
    assert kinds(plain) == ["missing-addition"]
    everywhere = create_model("resnet20", shortcut="C")
    assert kinds(compare_models(everywhere)) == ["needless-projection"]
    assert compare_models(everywhere, create_model("resnet20", shortcut="C")).verdict == "identical"


def small() -> nn.Sequential:
    return create_model("resnet20")


def without_stem_norm() -> nn.Module:
    model = small()
    model.bn1 = nn.Identity()
    return model


def with_other_activation() -> nn.Module:
    model = small()
    for block in model.modules():
        if isinstance(block, BasicBlock):
            block.relu = nn.GELU()
    return model


def with_group_norm() -> nn.Module:
    model = small()
    model.bn1 = nn.GroupNorm(4, 16)
    return model


def with_dropout() -> nn.Module:
    model = small()
    model.fc = nn.Sequential(nn.Dropout(0.5), model.fc)
    return model


def with_max_pool() -> nn.Module:
    model = small()
    model.relu = nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    return model


def with_dilation() -> nn.Module:
    model = small()
    model.layer2[1].conv1 = nn.Conv2d(32, 32, 3, padding=2, dilation=2, bias=False)
    nn.init.kaiming_normal_(model.layer2[1].conv1.weight)
    return model


def with_wrong_features() -> nn.Module:
    model = small()
    model.fc = nn.Linear(256, 10)
    return model


def with_unused_layer() -> nn.Module:
    model = small()
    model.layer1[0].relu.extra = nn.Linear(3, 3)
    return model


def without_classifier_bias() -> nn.Module:
    model = small()
    model.fc = nn.Linear(64, 10, bias=False)
    return model


def with_shuffled_channels() -> nn.Module:
    class Flip(nn.Module):
        def forward(self, x):
            return x.transpose(2, 3).contiguous()

    model = small()
    model.layer1[0].bn1 = nn.Sequential(model.layer1[0].bn1, Flip())
    return model


def with_training_only_crash() -> nn.Module:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = small()

        def forward(self, x):
            if self.training:
                raise RuntimeError("no")
            return self.body(x)

    return Net()


@pytest.mark.parametrize(
    ("maker", "kind"),
    [
        (without_stem_norm, "missing-norm"),
        (with_other_activation, "activation"),
        (with_group_norm, "norm-type"),
        (with_dropout, "dropout"),
        (with_max_pool, "extra-max-pool"),
        (with_dilation, "dilation"),
        (with_wrong_features, "head-shape"),
        (with_unused_layer, "unused-parameters"),
        (without_classifier_bias, "head-bias"),
        (with_shuffled_channels, "function"),
        (with_training_only_crash, "train-mode"),
    ],
)
def test_one_change_is_one_difference(maker, kind: str) -> None:
    assert kinds(compare_models(maker())) == [kind]


def test_what_is_no_difference_is_at_most_noted() -> None:
    model = create_model("resnet18", num_classes=7, in_channels=1, zero_init_residual=True)
    comparison = compare_models(model, image_size=64)
    assert comparison.verdict == "identical"
    assert comparison.reference == "resnet18 (in_channels=1, num_classes=7)"
    model = small()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    comparison = compare_models(model)
    assert comparison.verdict == "identical"
    assert "eps" in comparison.notes[0]
    assert "missing" not in render(comparison)


def test_their_network_is_left_as_it_was() -> None:
    model = small().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    compare_models(model)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_networks_of_other_families_get_an_answer() -> None:
    for model in (
        torchvision.models.squeezenet1_0(),
        nn.Sequential(nn.Flatten(), nn.Linear(3072, 9)),
    ):
        assert compare_models(model).verdict == "different"


def test_preactivation_splits_where_paper_2_does() -> None:
    model = create_model("preresnet110", depths=(3, 3, 3))
    model.layer1[0].split_after_activation = False
    comparison = compare_models(model)
    assert kinds(comparison) == ["shortcut-source"]
    assert comparison.differences[0].places == ("layer1.0",)


def with_sum_over_the_map() -> nn.Module:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.area = small(), None

        def forward(self, x):
            x = self.body.forward_features(x)
            n, c, h, w = x.shape
            return self.body.fc(x.view(n, c, h * w).sum(-1) / (self.area or h * w))

    return Net()


def replaced_forward(change) -> nn.Module:
    """ResNet-20 whose blocks have another forward."""

    class Changed(BasicBlock):
        def forward(self, x):
            return change(self, x)

    model = small()
    for block in model.modules():
        if isinstance(block, BasicBlock):
            block.__class__ = Changed
    return model


def branch(block: BasicBlock, x: torch.Tensor) -> torch.Tensor:
    return block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))


def with_relu_at_the_start_of_a_block() -> nn.Module:
    def change(block, x):
        x = x.relu()
        shortcut = x if block.downsample is None else block.downsample(x)
        return block.relu(branch(block, x) + shortcut)

    return replaced_forward(change)


def with_shortcut_a(halve) -> nn.Module:
    class Shortcut(nn.Module):
        def forward(self, x):
            channels = x.shape[1] // 2
            return nn.functional.pad(halve(x), (0, 0, 0, 0, channels, channels))

    model = small()
    model.layer2[0].downsample = Shortcut()
    model.layer3[0].downsample = Shortcut()
    return model


@pytest.mark.parametrize(
    "model",
    [
        with_sum_over_the_map(),
        with_relu_at_the_start_of_a_block(),
        with_shortcut_a(lambda x: nn.functional.interpolate(x, scale_factor=0.5)),
    ],
    ids=["sum divided by the area", "ReLU of a ReLU", "shortcut A by interpolation"],
)
def test_other_words_for_the_same_are_no_difference(model: nn.Module) -> None:
    comparison = compare_models(model, image_size=32)
    assert comparison.differences == ()
    assert comparison.reference == "resnet20"


def without_division_by_the_area() -> nn.Module:
    model = with_sum_over_the_map()
    model.area = 1
    return model


def with_squeeze() -> nn.Module:
    class Squeeze(nn.Module):
        def forward(self, x):
            return x[:, :, None].squeeze()

    model = small()
    model.fc = nn.Sequential(Squeeze(), model.fc)
    return model


def with_dropout_for_ever() -> nn.Module:
    class Drop(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.3)

    model = small()
    model.layer1[0].bn2 = nn.Sequential(model.layer1[0].bn2, Drop())
    return model


def with_average_shortcut() -> nn.Module:
    return with_shortcut_a(lambda x: nn.functional.avg_pool2d(x, 2))


def with_narrow_head() -> nn.Module:
    model = create_model("resnet50_v1")
    model.fc = nn.Linear(512, 1000)
    return model


def without_padding() -> nn.Module:
    model = small()
    model.layer1[0].conv2.padding = (0, 0)
    return model


def with_idle_lazy_layer() -> nn.Module:
    model = small()
    model.layer1[0].bn3 = nn.LazyBatchNorm2d()
    return model


def with_relu_after_the_sum_of_2016() -> nn.Module:
    model = create_model("preresnet110", depths=(3, 3, 3))
    for stage in (model.layer1, model.layer2, model.layer3):
        for block in stage:
            block.register_forward_hook(lambda module, args, out: out.relu())
    return model


@pytest.mark.parametrize(
    ("maker", "kind", "reference"),
    [
        (without_division_by_the_area, "pooling", "resnet20"),
        (with_squeeze, "single-image", "resnet20"),
        (with_dropout_for_ever, "dropout-in-evaluation", "resnet20"),
        (with_average_shortcut, "shortcut-option", "resnet20"),
        (with_narrow_head, "head-shape", "resnet50_v1"),
        (without_padding, "padding", "resnet20"),
        (with_idle_lazy_layer, "unused-parameters", "resnet20"),
        (with_relu_after_the_sum_of_2016, "extra-relu", "resnet20 (activation=pre)"),
    ],
)
def test_one_change_is_one_difference_from_the_right_reference(maker, kind, reference) -> None:
    comparison = compare_models(maker())
    assert kinds(comparison) == [kind]
    assert comparison.reference.startswith(reference)


def test_branch_added_to_itself_lacks_the_shortcut() -> None:
    def change(block, x):
        out = branch(block, x)
        return block.relu(out + out)

    comparison = compare_models(replaced_forward(change))
    assert comparison.reference.startswith("resnet20")
    assert kinds(comparison) == ["missing-addition", "extra-operation"]
    assert "itself" in comparison.differences[1].what


def test_first_norm_forgotten_in_the_order_of_2016() -> None:
    model = create_model("preresnet110", depths=(3, 3, 3))
    for name in ("layer1", "layer2", "layer3"):
        for block in getattr(model, name):
            block.bn1, block.relu = nn.Identity(), nn.ReLU()
    comparison = compare_models(model)
    assert comparison.reference == "resnet20 (activation=pre)"
    assert kinds(comparison) == ["missing-norm"]
    assert len(comparison.differences[0].places) == 9


def test_lazy_layers_behind_a_crash_do_not_hide_it() -> None:
    model = nn.Sequential(nn.LazyConv2d(8, 3), nn.Linear(5, 5), nn.LazyConv2d(8, 3))
    comparison = compare_models(model)
    assert comparison.verdict == "different"
    assert "not counted" in " ".join(comparison.notes)


def test_frozen_parameters_are_a_difference_but_for_what_is_no_weight_of_a_layer() -> None:
    comparison = compare_models(small().requires_grad_(False))
    assert kinds(comparison) == ["frozen-parameters"]
    assert "269,722 weights of these layers are frozen" in comparison.differences[0].what
    model = small()
    model.layer1.mean = nn.Parameter(torch.zeros(3), requires_grad=False)
    assert "frozen-parameters" not in kinds(compare_models(model))


@pytest.mark.parametrize("option", ["image_size", "in_channels", "num_classes"])
def test_numbers_below_one_are_refused(option: str) -> None:
    with pytest.raises(UserError, match=f"`{option}` must be at least 1, not 0"):
        compare_models(small(), **{option: 0})


def with_a_number_for_one_size() -> nn.Module:
    model = with_sum_over_the_map()
    model.area = 64
    return model


def with_relu_in_place_of_a_relu_in_place() -> nn.Module:
    def change(block, x):
        x = block.relu(x)  # overwrites what the first needs for its gradient
        shortcut = x if block.downsample is None else block.downsample(x)
        return block.relu(branch(block, x) + shortcut)

    return replaced_forward(change)


@pytest.mark.parametrize(
    ("maker", "kind"),
    [
        (with_a_number_for_one_size, "fixed-size"),
        (with_relu_in_place_of_a_relu_in_place, "gradient"),
    ],
)
def test_only_the_proof_sees_it(maker, kind: str) -> None:
    comparison = compare_models(maker())
    assert kinds(comparison) == [kind]
    assert comparison.verdict == "different"


def test_verdict_and_findings_never_disagree() -> None:
    for comparison in (compare_models(small()), compare_models(with_dropout())):
        assert (comparison.verdict == "different") == bool(comparison.differences)


def test_a_network_of_another_family_is_said_to_be_one_first() -> None:
    comparison = compare_models(torchvision.models.mobilenet_v2())
    assert not comparison.is_resnet
    assert comparison.differences[0].kind == "not-a-resnet"
    assert comparison.distance > 0.5
    assert len(comparison.telling) == 6 < len(comparison.differences)
    few, everything = render(comparison), render(comparison, everything=True)
    assert "--all" in few
    assert "--all" not in everything
    assert len(everything) > len(few)


def test_settings_of_torch_are_put_back() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert compare_models(small()).verdict == "identical"
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_compiled_network_is_looked_into() -> None:
    class Compiled(nn.Module):  # as torch.compile wraps it
        def __init__(self):
            super().__init__()
            self._orig_mod = small()

        def forward(self, x):
            return self._orig_mod(x)

    assert compare_models(Compiled()).verdict == "identical"


def test_a_shortcut_of_3x3_is_called_one() -> None:
    model = create_model("resnet20", shortcut="B")
    for stage, width in ((model.layer2, 16), (model.layer3, 32)):
        wide = nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False)
        stage[0].downsample[0] = wide
    (named,) = compare_models(model, "resnet20").differences
    assert named.kind == "shortcut-option"
    assert "a 3x3 convolution; the reference's is A, zero padding" in named.what
    (free,) = compare_models(model).differences
    assert free.kind == "kernel"


def test_diagram_marks_the_blocks() -> None:
    two_faults = compare_models(textbooks.two_faults_in_the_shortcut)
    tree = ElementTree.fromstring(draw(two_faults))
    words = [node.text or "" for node in tree.iter() if node.tag.endswith("text")]
    assert "candidate: two_faults_in_the_shortcut" in words
    assert "bias-before-norm" in words
    assert "shortcut-option" in words
    assert any(word.startswith("3 blocks: 3x3 conv 16") for word in words)
    assert {"makes it slower, larger or fragile", "is a variant"} <= set(words)


def test_diagram_marks_every_use_of_a_shared_block() -> None:
    rows = draw(compare_models(textbooks.the_same_block_again))
    assert rows.count(">shared-weights<") == 3
    assert "the whole network" not in rows


def test_diagram_of_a_network_that_does_not_run() -> None:
    def crashes():
        net = textbooks.correct()
        net.fc = None
        return net

    words = draw(compare_models(crashes))
    assert "verdict: different" in words
    assert "crash" in words


def test_imports_run_down_the_line_that_the_package_states() -> None:
    folder = Path(resnetlab.comparison.__file__).parent
    text = (resnetlab.comparison.__doc__ or "").partition("its own:")[2]
    names = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    line = re.findall(r"``(\w+)``", text)
    assert sorted(line) == sorted(names)
    for place, name in enumerate(line):
        source = (folder / f"{name}.py").read_text(encoding="utf-8")
        imported = set(re.findall(r"from resnetlab\.comparison\.(\w+) import", source))
        assert imported <= set(line[place + 1 :])


def test_paths_by_themselves_are_a_resnext_in_another_form() -> None:
    whole = create_model("resnext50_32x4d", depths=(1, 1), widths=(64, 128), num_classes=10)
    comparison = compare_models(strangers.SeparatePaths, whole, image_size=64)
    assert kinds(comparison) == ["separate-paths"]
    assert comparison.parameters == comparison.reference_parameters
    assert comparison.is_resnet


class Kept(nn.Module):
    """The network of 20 layers, whose copies can be counted."""

    def __init__(self):
        super().__init__()
        self.body = small()

    def forward(self, x):
        return self.body(x)


def networks() -> int:
    return sum(type(x) in (Kept, ResNet, Node) for x in gc.get_objects())


@pytest.mark.parametrize("crashes", [False, True])
def test_no_network_outlives_the_comparison(crashes: bool) -> None:
    def make():
        net = Kept()
        if crashes:
            net.body.fc = None
        return net

    gc.collect()
    gc.disable()  # what only the collector frees piles up, as it does not see how large it is
    try:
        before = networks()
        comparison = compare_models(make)
        assert networks() == before
    finally:
        gc.enable()
    assert comparison.rows


def test_a_trace_keeps_no_activations() -> None:
    trace = trace_network(small(), torch.randn(1, 3, 16, 16))
    assert all(tensor.grad_fn is None for _, _, tensor in trace.heads)


DEEP = ("1202", "1001", "152", "164", "101")


def fields_of(model):
    trace = trace_network(model, torch.randn(1, 3, 64, 64))
    assert trace.output is not None
    return guess_fields(parse(trace.output), None)


@pytest.mark.parametrize("name", [n for n in PAPERS if not any(d in n for d in DEEP)])
def test_every_network_is_nearest_to_itself(name: str) -> None:
    found, record = nearest(fields_of(ResNet(ARCHITECTURES[name])), "Net")
    twin = name.removesuffix("_v1").removesuffix("d")
    assert found.removesuffix("_v1").removesuffix("d") == twin
    assert record.depths == ARCHITECTURES[name].depths
    assert record.shortcut == ARCHITECTURES[name].shortcut
    assert record.stem == ARCHITECTURES[name].stem


def test_widths_count_by_their_ratio() -> None:
    half = create_model("resnet18", widths=(32, 64, 128, 256))
    assert nearest(fields_of(half), "Net")[0] == "resnet18"


def test_the_name_settles_whether_a_plain_net_means_to_be_residual() -> None:
    fields = fields_of(create_model("plain20"))
    assert nearest(fields, "plain20")[0] == "plain20"
    assert nearest(fields, "ResNet20")[0] == "resnet20"


def test_the_name_settles_what_a_network_without_blocks_is() -> None:
    fields = guess_fields_unrun(nn.Conv2d(3, 64, 7, 2), [])
    assert nearest(fields, "ResNet34")[0] == "resnet34"


@pytest.mark.parametrize(
    ("model", "word"),
    [
        (nn.Sequential(nn.Conv1d(1, 1, 3)), "1-D"),
        (nn.Sequential(nn.Conv3d(1, 1, 3)), "3-D"),
        (nn.Conv2d(1, 1, 1, device="meta"), "meta"),
    ],
)
def test_refused_in_a_sentence(model: nn.Module, word: str) -> None:
    with pytest.raises(UserError, match=word):
        refuse(model)
    refuse(create_model("resnet20"))


@pytest.mark.parametrize(
    ("name", "options", "size", "channels"),
    [("resnet20", {}, 32, 3), ("resnet18", {}, 224, 3), ("resnet20", {"in_channels": 1}, 32, 1)],
)
def test_size_and_channels(name: str, options: dict, size: int, channels: int) -> None:
    found = Findings()
    trace = first_run(create_model(name, **options), None, None, None, found)
    assert trace.images.shape == (2, channels, size, size)
    assert trace.output is not None
    assert not found.found


def test_unwrapped_in_its_parts() -> None:
    inner = nn.ReLU()
    wrapper = nn.Sequential(nn.Identity())
    wrapper[0]._orig_mod = inner
    assert unwrap(wrapper)[0] is inner  # type: ignore[index]
