"""Which of the paper's experiments a zoo belongs to, and so which of its configurations the zoo gets.

A zoo is known by its full name where it is one that the paper used, published or trained here after it. Any other is
judged by what it holds: size of the networks, images, and how hyper-parameters and seeds vary.
"""

from collections import Counter

import numpy as np

from zoo_bench.encoders.hyper_representation.configurations import PAPER, PAPER_BY_SIZE, Configuration
from zoo_bench.protocol.views import TrainingView

# The paper's experiments, by the names of the zoos that are trained here after them, and by those of the published
# ones. Zoos that were published by others are repackaged in the paper's own record; both have one configuration.
EXPERIMENTS = {
    "tetris_seed": ("tetris_seed", "hyper_representations_tetris_seed"),
    "tetris_hyp": ("tetris_hyp", "hyper_representations_tetris_hyp"),
    "mnist_seed": ("hyperreps_mnist_seed", "hyper_representations_mnist_seed"),
    "mnist_hyp_1_fix_seed": ("hyperreps_mnist_hyp_1_fix_seed", "hyper_representations_mnist_hyp_1_fix_seed"),
    "mnist_hyp_1_rand_seed": ("hyperreps_mnist_hyp_1_rand_seed", "hyper_representations_mnist_hyp_1_rand_seed"),
    "mnist_hyp_5_fix_seed": ("hyperreps_mnist_hyp_5_fix_seed", "hyper_representations_mnist_hyp_5_fix_seeds"),
    "mnist_hyp_5_rand_seed": ("hyperreps_mnist_hyp_5_rand_seed", "hyper_representations_mnist_hyp_5_rand_seeds"),
    "fashion_seed": ("hyperreps_fashion_seed", "hyper_representations_f_mnist_seed"),
    "mnist_hyp": ("small_cnn_zoo_mnist", "hyper_representations_mnist_hyp"),
    "fashion_hyp": ("small_cnn_zoo_fashion", "small_cnn_zoo_fashion_mnist", "hyper_representations_f_mnist_hyp"),
    "svhn_hyp": ("small_cnn_zoo_svhn", "small_cnn_zoo_svhn_cropped", "hyper_representations_svhn_hyp"),
    "cifar10_hyp": ("small_cnn_zoo_cifar10", "hyper_representations_cifar_hyp"),
}
PUBLISHED = "_published"  # how the name of a pulled zoo ends, behind that of the population
_EXPERIMENT_OF = {zoo: experiment for experiment, zoos in EXPERIMENTS.items() for zoo in zoos}


def paper_configuration(view: TrainingView) -> tuple[Configuration, str]:
    """Return the paper's configuration for the zoo of a view, and in words why this one."""
    named = _EXPERIMENT_OF.get(view.zoo.name.removesuffix(PUBLISHED))
    if named is not None and PAPER[named].parameters == view.layout.size:
        return PAPER[named], f"the paper's, for its zoo {named}"
    alike = _experiment_alike(view)
    if alike is not None:
        return PAPER[alike], f"the paper's for {alike}: networks of this size, images and axes as here"
    by_size = next(name for most, name in PAPER_BY_SIZE if view.layout.size <= most)
    return PAPER[by_size], f"none of the paper's zoos is like this one: by size alone, that of {by_size}"


def _experiment_alike(view: TrainingView) -> str | None:
    """Return the experiment whose networks have the view's size, and whose images and axes are the view's."""
    size, data = view.layout.size, view.zoo.data.lower()
    seed_alone = set(view.zoo.varying) <= {"seed"}
    if size == PAPER["tetris_seed"].parameters and "tetris" in data:
        return "tetris_seed" if seed_alone else "tetris_hyp"
    if size == PAPER["mnist_seed"].parameters and "mnist" in data:
        if seed_alone:
            return "fashion_seed" if "fashion" in data else "mnist_seed"
        return f"mnist_{_seeds(view)}"
    if size == PAPER["mnist_hyp"].parameters and not seed_alone:
        words = {"fashion": "fashion_hyp", "mnist": "mnist_hyp", "svhn": "svhn_hyp", "cifar10": "cifar10_hyp"}
        return next((experiment for word, experiment in words.items() if word in data), None)
    return None


def _seeds(view: TrainingView) -> str:
    """Return how seeds and hyper-parameters go together: one or several seeds a setting, fixed ones or any."""
    if "seed" not in view.zoo.varying:
        return "hyp_1_fix_seed"
    columns = [view.hyperparameter(name).tolist() for name in view.zoo.varying if name != "seed"]
    most = max(Counter(zip(*columns, strict=True)).values())  # models of one setting
    if most == 1:
        return "hyp_1_rand_seed"
    seeds = view.hyperparameter("seed")
    return "hyp_5_fix_seed" if len(np.unique(seeds)) < len(seeds) / 2 else "hyp_5_rand_seed"
