"""torch models as recipes: settings, losses, and the engines that train many models together."""
