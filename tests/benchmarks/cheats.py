"""What cheating encoders gain over honest ones like them on a benchmark: a line a cell and target, or the refusal.

    python -m zoo_gen run tetris_seed; python -m zoo_gen run digits_hyp
    python -m tests.benchmarks.cheats quickstart [RowOrder ...] [--zoos zoos]

A gain is the difference in the metric that ranks, with the 95 % interval of a paired bootstrap over test models.
"""

import argparse

import zoo_bench
from tests.zoo_bench.evaluation import cheats
from zoo_bench.scores.metrics import LOWER_IS_BETTER, difference
from zoo_gen.errors import ZooError

# Each cheat beside the honest encoder that it would be without cheating.
HONEST = dict.fromkeys(cheats.CHEATS, cheats.Honest)
HONEST |= {cheats.Network: cheats.Evaluated, cheats.LearnsSelection: cheats.Forest}


def evaluated(encoder, benchmark, *, zoos):
    """Return the one result of an encoder."""
    name = f"{encoder.__module__}:{encoder.__qualname__}"
    return zoo_bench.evaluate(name, benchmark, zoos=zoos, progress=False).loaded[0]


def ranking(loaded):
    """Yield (cell, target), the metric, its value and its resamples (1, resample) of every score that ranks."""
    for cell in loaded.result.cells:
        for score in cell.scores:
            if score.ranks:
                resamples = loaded.resamples[cell.name, score.target, score.metric, score.by]
                yield (cell.name, score.target), score.metric, score.value, resamples[None]


def report(cheat, benchmark, *, zoos):
    """Print what one cheat comes to on every cell of a benchmark."""
    head = f"{benchmark} | {cheat.__name__}"
    try:
        loaded = evaluated(cheat, benchmark, zoos=zoos)
    except ZooError as error:  # every cell failed
        print(f"{head} | all cells | refused: {error}", flush=True)
        return
    for failure in loaded.result.failures:
        print(f"{head} | {failure.source} -> {failure.test} {failure.condition} | refused: {failure.message}")
    honest = {
        key: (value, resamples) for key, _, value, resamples in ranking(evaluated(HONEST[cheat], benchmark, zoos=zoos))
    }
    for (cell, target), metric, value, resamples in ranking(loaded):
        honest_value, honest_resamples = honest[cell, target]
        sign = -1 if metric in LOWER_IS_BETTER else 1
        gap = difference(sign * resamples, sign * honest_resamples)
        verdict = "GAINS" if gap.low > 0 else "gains nothing measurable"
        print(
            f"{head} | {cell} | {target} {metric}: {value:.3f}, honest {honest_value:.3f}, "
            f"gain {sign * (value - honest_value):+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] | {verdict}",
            flush=True,
        )


def main():
    """Read the command line and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("benchmark")
    parser.add_argument("cheats", nargs="*", default=[cheat.__name__ for cheat in HONEST])
    parser.add_argument("--zoos", default="zoos")
    arguments = parser.parse_args()
    for name in arguments.cheats:
        report(getattr(cheats, name), arguments.benchmark, zoos=arguments.zoos)


if __name__ == "__main__":
    main()
