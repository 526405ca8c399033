"""Recipes of torch models: settings, losses, and engines that train many models together."""

from memberscope.recipes.torch.dpsgd_white_box import train_and_score_canaries
from memberscope.recipes.torch.linear_layers import find_linear_layers
from memberscope.recipes.torch.settings import check_augmentation

__all__ = ["check_augmentation", "find_linear_layers", "train_and_score_canaries"]
