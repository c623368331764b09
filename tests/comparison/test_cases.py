"""Every network of ``cases.py`` with what is right, and of ``textbooks.py`` likewise."""

from __future__ import annotations

import inspect
from functools import cache

import cases
import pytest
import strangers
import textbooks
import torch

from resnetlab.comparison import Comparison, compare_models
from resnetlab.errors import UserError

RIGHT: dict[str, list[str]] = {
    "ok_cifar": [],
    "ok_pre": [],
    "ok_big": [],
    "plain20": [],
    "r01_pre_gate": ["extra-operation"],
    "r01_pre_rezero": ["extra-operation"],
    "r01_pre_last_norm": ["extra-norm"],
    "r02_avg_stem": ["max-pool"],
    "r03_pool_stride": ["stride-by-pooling"],
    "r04_feat_logits": ["output"],
    "r04_logits_feat": ["output"],
    "r04_two_heads": ["output"],
    "r05_blur": ["stride-by-pooling"],
    "r06_gate_zero": ["extra-operation"],
    "r06_scale_zero": ["extra-operation"],
    "r07_weight_norm": [],
    "r07_autocast": [],
    "r08_channels_last": [],
    "r09_expand": ["repeated-input"],
    "r09_cat": ["repeated-input"],
    "r11_no_return": ["no-return"],
    "r12_outer": ["extra-addition"],
    "r13_norm_shared": ["shared-weights", "unused-parameters"],
    "r13_twice": ["stride"],
    "r14_hand_linear": [],
    "r14_hand_norm": [],
    "r17_leaky": ["activation"],
    "r17_raw": ["shortcut-source"],
    "r17_wide4": ["width", "depth"],
    "r18_affine_before": ["norm-affine"],
    "r18_group_before": ["norm-type"],
    "r19_ceil": ["max-pool"],
    "r19_dil": ["max-pool"],
    "r23_trial": ["init"],
    "r23b_trial_random": ["init"],
    "r24_features": ["no-classifier"],
    "r27_half_width": ["width"],
    "r27_one_block_a_stage": ["depth"],
    "r29_pool_one": [],
    "r33_detached": ["gradient-cut"],
    "r33_no_grad": ["gradient-cut"],
    "r34_fc_init": ["init"],
    "r35_no_flatten": ["missing-flatten"],
    "r36_flatten_all": ["flatten-batch"],
    "r37_fc_features": ["head-shape"],
    "r38_in_channels": ["channels"],
    "r39_short_stride": ["projection-shape"],
    "r40_not_called": ["not-called"],
    "r42_norm_channels": ["channels"],
    "r45_cuda": ["device"],
    "r46_buffer_weights": ["buffer-weights"],
    "r46_plain_tensors": ["unregistered"],
    "r47_softmax_in_eval": ["softmax"],
    "r48_reflect": ["padding"],
    "r50_transposed": ["function"],
    "r52_bigger_fc": ["num-classes", "extra-operation"],
    "r53_scaled_branch": ["extra-operation"],
    "r54_minus": ["merge"],
    "r55_alpha": ["extra-operation"],
    "r56_bn_frozen": ["norm-statistics"],
    "r57_counts": ["train-mode"],
    "ResNet34": ["crash"],
}


@cache
def compared(name: str) -> Comparison:
    grey = 1 if name in ("r09_expand", "r09_cat") else None
    return compare_models(getattr(cases, name), in_channels=grey)


def test_every_network_has_an_answer() -> None:
    made = {n for n, f in vars(cases).items() if inspect.isfunction(f)} - {"unit", "proj", "stages"}
    assert made | {"ResNet34"} == RIGHT.keys() | {"r15_traced"}


@pytest.mark.parametrize("name", RIGHT)
def test_network(name: str) -> None:
    comparison = compared(name)
    assert [difference.kind for difference in comparison.differences] == RIGHT[name]
    assert (comparison.verdict == "different") == bool(RIGHT[name])
    if not RIGHT[name]:
        assert comparison.max_output_difference is not None
        assert comparison.max_output_difference < 1e-6


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("ResNet34", "resnet34"),
        ("plain20", "plain20"),
        ("r01_pre_gate", "resnet20 (shortcut=B, activation=pre)"),
        ("r27_half_width", "resnet18 (num_classes=10)"),
        ("r24_features", "resnet20 (shortcut=B)"),
        ("r09_cat", "resnet20 (shortcut=B, in_channels=1)"),
    ],
)
def test_reference(name: str, reference: str) -> None:
    assert compared(name).reference == reference


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("r03_pool_stride", "an average pooling after convolution 1 of the block halves"),
        ("r05_blur", "a fixed blur filter after convolution 1 of the block halves"),
        ("r13_twice", "2 convolutions of the branch have stride 2"),
        ("r17_wide4", "every stage is 2 times as wide"),
        ("r19_ceil", "ceil_mode True"),
        ("r27_half_width", "every stage is 0.5 times as wide"),
        ("r39_short_stride", "the branch has stride 2, the shortcut 1"),
        ("r55_alpha", "on the shortcut"),
        ("r57_counts", "forward keeps something from pass to pass, such as a count"),
    ],
)
def test_words(name: str, words: str) -> None:
    assert words in compared(name).differences[0].what


def test_place_is_in_their_file() -> None:
    (difference,) = compared("r33_detached").differences
    assert len(difference.places) == 9
    (line,) = difference.lines
    assert line.file == cases.__file__
    assert line.code == "return F.relu(self.branch(x) + self.short(x.detach()))"


def test_remedy_of_a_missing_flatten_is_the_flatten() -> None:
    for name in ("r35_no_flatten", "r36_flatten_all"):
        assert "torch.flatten(x, 1)" in compared(name).differences[0].remedy


def test_the_line_that_zeroes_the_norms_of_a_ready_network_is_said_to_be_unknown() -> None:
    comparison = compare_models(strangers.every_norm_starts_at_zero())
    assert [difference.kind for difference in comparison.differences] == ["init"]
    assert "sets the scales to 0 is not known" in " ".join(comparison.notes)
    assert "is not known" not in " ".join(told(strangers.every_norm_starts_at_zero).notes)


def test_computed_weights_and_low_precision_are_noted() -> None:
    assert "computed on the way" in " ".join(compared("r07_weight_norm").notes)
    assert "bfloat16" in " ".join(compared("r07_autocast").notes)


def test_traced_network_is_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match="TorchScript"):
        compare_models(cases.r15_traced)


@cache
def told(maker) -> Comparison:
    return compare_models(maker)


@pytest.mark.parametrize("maker", textbooks.TRUTH, ids=lambda maker: maker.__name__)
def test_textbook(maker) -> None:
    found = [difference.kind for difference in told(maker).differences]
    assert sorted(found) == sorted(textbooks.TRUTH[maker])


@pytest.mark.parametrize(
    ("maker", "words"),
    [
        (strangers.checkpointed, "activation checkpointing runs these"),
        (strangers.pooled_before_the_last_norm, "before the last batch norm and ReLU"),
        (strangers.scaled_in_place, "writes in place into"),
        (strangers.writes_in_place_and_pools_a_corner, "writes in place into"),
        (strangers.blocks_left_out_at_random_by_python, "such as which blocks are left out"),
        (strangers.blocks_left_out_at_random_in_evaluation_too, "differ in evaluation"),
        (strangers.input_joined_to_itself, "new channels are a copy of its input"),
        (strangers.padded_with_ones, "new channels are not zero"),
        (strangers.cast_between_two_stages, "cast to bfloat16 here, which leaves 2 to 3"),
        (strangers.classes_for_logits, "argmax"),
        (strangers.other_without_gradients, "torch.no_grad"),
        (strangers.shortcut_and_branch_start_at_zero, "of its shortcut too"),
        (strangers.variance_forgotten, "running variance"),
        (strangers.pooled_in_numpy, ".numpy()"),
        (strangers.shortcut_set_before_the_loop, "input of an earlier block"),
        (strangers.dropout_that_never_ends, "another answer each time"),
        (strangers.standardised_over_the_batch, "changes with the other images of its batch"),
        (strangers.standardised_for_itself, "each image by its own statistics"),
        (strangers.divided_by_255, "scales the image's values"),
        (strangers.clamped_at_six, "the activation is ReLU6"),
        (strangers.pooled_before_the_last_relu, "after the global average pooling; the reference"),
        (strangers.halved_one_stage_too_early, "with strides 2, 1, 2, the reference's with 1, 2"),
        (strangers.pooled_over_a_reshaped_map, "mixes channels and positions"),
        (strangers.map_reshaped_between_two_stages, "the layers before this one give"),
        (strangers.one_norm_for_both_convolutions, "one batch norm is used in several places"),
        (cases.r47_softmax_in_eval, "in evaluation alone"),
        (strangers.norm_of_the_sum_with_padded_shortcuts, "batch norm, addition, ReLU"),
        (strangers.only_the_last_block_of_a_stage_is_handed_on, "the results of 3 blocks"),
        (strangers.norm_whose_result_is_forgotten, "the results of 1 layer"),
        (strangers.depths_in_another_order, "have 2, 4, 3 blocks, the reference's 3, 3, 3"),
        (strangers.every_norm_starts_at_zero, "all 21 batch norms start with scale 0: the feat"),
        (strangers.norm_of_d2l_asks_for_gradients, "follows `torch.is_grad_enabled()`, not self."),
        (strangers.norm_asks_for_a_flag_of_its_own, "follows `self.learning`, not self.training"),
        (strangers.other_in_inference_mode, "under torch.inference_mode()"),
        (strangers.other_in_training_without_gradients, "in training the network gives other"),
        (strangers.train_is_overridden_and_freezes_norms, "train(), which is overridden, keeps"),
        (strangers.eval_is_overridden_and_does_nothing, "eval(), which is overridden, keeps"),
        (strangers.dropout_made_in_forward, "forward makes Dropout anew in every pass"),
        (strangers.convolution_made_in_forward, "other random weights each time: 145,152 par"),
        (strangers.norm_made_in_forward, "nothing trains or saves its 32 parameters"),
        (strangers.returns_inside_the_loop, "leaves out 6 blocks that __init__ builds: `return`"),
        (strangers.breaks_the_loop, "leaves out 3 blocks that __init__ builds: `break`"),
        (strangers.calls_the_first_block_alone, "it never calls them"),
        (strangers.zips_lists_of_unequal_length, "zip() ends with the shortest"),
        (strangers.loops_over_the_first_two, "`for block in self.blocks[:-1]` does not reach"),
        (strangers.weight_and_bias_of_norms_are_swapped, "start swapped: all 21 have weight 0 and"),
        (strangers.norms_start_with_bias_one, "batch norm starts with bias 1, not with 0"),
        (strangers.halved_in_the_last_block_of_a_stage, "halved in the third block of stages 2 a"),
        (strangers.forward_shrinks_its_weights, "forward writes into its own weights"),
        (strangers.evaluation_leaves_out_a_block, "evaluation leaves out 1 block"),
        (strangers.depthwise, "convolves each channel by itself"),
        (strangers.features_of_length_one, "normalisation of each row to the length 1"),
        (strangers.forward_freezes_norms, "forward keeps batch norm in evaluation mode"),
    ],
)
def test_words_for_strangers(maker, words: str) -> None:
    assert words in told(maker).differences[0].what


@pytest.mark.parametrize(
    ("maker", "code"),
    [
        (strangers.dropout_that_never_ends, "F.dropout(x, 0.3)"),
        (strangers.standardised_over_the_batch, "x.mean(0, keepdim=True)"),
        (strangers.shortcut_by_way_of_numpy, ".detach().numpy()"),
        (strangers.doubled_in_numpy, ".detach().numpy()"),
        (strangers.input_joined_to_itself, "torch.cat([x, x], 1)"),
        (strangers.input_repeated, "x.repeat(1, 2, 1, 1)"),
        (strangers.scaled_in_place, "a.mul_(1.0)"),
        (strangers.cast_between_two_stages, "x.bfloat16().float() if i == 6"),
        (strangers.convolved_in_half_precision, "F.conv2d(x.half(),"),
        (strangers.added_into_the_input, "identity += out"),
        (strangers.pooled_over_a_reshaped_map, "x.view(n, h * w, c).mean(1)"),
        (strangers.a_block_many_times, "rest = [Block(fan_out, fan_out, 1)] * 2"),
        (strangers.biased_by_a_helper, "bias=fan_in == 32"),
        (strangers.one_stage_forgets_to_halve, "two = self.stage(16, 32, 1)"),
        (textbooks.biased, "nn.Conv2d(i, o, 3, stride=stride, padding=1)"),
        (strangers.norm_of_the_sum_with_padded_shortcuts, "return F.relu(self.b2(y + x))"),
        (strangers.only_the_last_block_of_a_stage_is_handed_on, "out = layer(x)"),
        (strangers.depths_in_another_order, "depths = (2, 4, 3)"),
        (strangers.every_norm_starts_at_zero, "module.weight.data.fill_(0)"),
        (strangers.norm_of_d2l_asks_for_gradients, "if torch.is_grad_enabled():"),
        (strangers.norm_asks_for_a_flag_of_its_own, "if self.learning:"),
        (strangers.other_without_gradients, "return x if torch.is_grad_enabled() else 0.9 * x"),
        (strangers.other_in_inference_mode, "if torch.is_inference_mode_enabled() else x"),
        (strangers.other_in_training_without_gradients, "not torch.is_grad_enabled():"),
        (strangers.train_is_overridden_and_freezes_norms, "module.eval()"),
        (strangers.eval_is_overridden_and_does_nothing, "def eval(self):"),
        (strangers.forward_freezes_norms, "self.b2.eval()"),
        (strangers.checkpointed, "checkpoint("),
        (strangers.weight_and_bias_of_norms_are_swapped, "constant_(module.weight, weight)"),
        (strangers.norms_start_with_bias_one, "nn.init.constant_(module.bias, bias)"),
        (strangers.forward_shrinks_its_weights, "self.c1.weight.mul_(0.99)"),
        (strangers.evaluation_leaves_out_a_block, "for layer in self.layers if self.training"),
        (strangers.dropout_made_in_forward, "nn.Dropout(0.2)(super().pool(x))"),
        (strangers.convolution_made_in_forward, "conv = nn.Conv2d(x.shape[1]"),
        (strangers.norm_made_in_forward, "nn.BatchNorm2d(16)(self.conv(x))"),
        (strangers.returns_inside_the_loop, "return x"),
        (strangers.breaks_the_loop, "break"),
        (strangers.calls_the_first_block_alone, "self.blocks[0](x)"),
        (strangers.zips_lists_of_unequal_length, "in zip(self.blocks"),
        (strangers.loops_over_the_first_two, "for block in self.blocks[:-1]"),
        (strangers.first_stage_is_frozen, "layer.requires_grad_(False)"),
    ],
)
def test_line_is_where_the_fault_is(maker, code: str) -> None:
    (difference,) = told(maker).differences
    assert code in difference.lines[0].code


def test_only_blocks_that_write_into_their_input_are_named() -> None:
    (difference,) = told(strangers.added_into_the_input).differences
    assert difference.places == tuple(f"layers.{i}" for i in (0, 1, 2, 4, 5, 7, 8))
    assert difference.remedy.endswith(": identity = identity + out")


def test_first_layer_that_gives_something_else_is_named() -> None:
    (difference,) = told(strangers.map_reshaped_between_two_stages).differences
    assert difference.places == ("layers.6.c1",)


@pytest.mark.parametrize(
    ("maker", "remedy"),
    [
        (strangers.dropout_that_never_ends, "training=self.training"),
        (strangers.one_norm_for_both_convolutions, "a batch norm of its own"),
        (strangers.a_block_many_times, "[block] * n repeats one block"),
        (strangers.relu_whose_result_is_forgotten, "its result is thrown away"),
        (strangers.relu_behind_a_zero_scale, "such a branch never gets a gradient"),
        (strangers.halved_in_the_last_block_of_a_stage, "stride 2 in the first block of stages 2"),
        (strangers.only_the_last_block_of_a_stage_is_handed_on, "x = layer(x)"),
    ],
)
def test_remedy_fits(maker, remedy: str) -> None:
    assert remedy in told(maker).differences[0].remedy


@pytest.mark.parametrize(
    "maker", [strangers.dropout_that_never_ends, strangers.standardised_over_the_batch]
)
def test_what_makes_answers_wrong_ranks_as_wrong(maker) -> None:
    (difference,) = told(maker).differences
    assert difference.harm == "wrong"
    assert "bernoulli" not in f"{difference.what} {difference.where}"


def test_buffers_that_forward_replaces_are_put_back() -> None:
    net = strangers.norm_that_replaces_its_buffers()
    before = {name: (id(b), b.clone()) for name, b in net.named_buffers()}
    compare_models(net)
    for name, buffer in net.named_buffers():
        assert id(buffer) == before[name][0]
        assert torch.equal(buffer, before[name][1])
