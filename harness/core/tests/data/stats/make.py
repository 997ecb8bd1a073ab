"""Makes the known answers beside it with scipy: `pip install scipy`, then `python make.py`.

All samples are untied but where it says so, since ties are counted conservatively here and by mid-ranks in scipy.
Intervals are found by inverting scipy's tests, not by the formulas for ranks that heapgate uses.
"""

import itertools
import json
import math
import pathlib

import numpy
import scipy
from scipy import stats

HERE = pathlib.Path(__file__).parent
random = numpy.random.default_rng(2024)


def write(name, cases):
    text = json.dumps({"scipy": scipy.__version__, "cases": cases}, indent=1)
    (HERE / f"{name}.json").write_text(text + "\n")


def rounded(values):
    """Values that are the same in JSON, here and there; rounding must not make ties."""
    values = [round(float(v), 6) for v in values]
    assert len(set(values)) == len(values)
    return values


def inverted(candidates, p_value, confidence):
    """The interval of parameters that the two-sided test does not reject: it changes its mind at candidates only."""
    alpha = 1 - confidence
    between = [math.sqrt(a * b) for a, b in itertools.pairwise(candidates)]
    outside = [p_value(candidates[0] / 2)] + [p_value(b) for b in between] + [p_value(candidates[-1] * 2)]
    kept = [i for i, p in enumerate(outside) if p > alpha]
    if kept[0] == 0:
        return None
    rejected = max(p for i, p in enumerate(outside) if p <= alpha)
    return {"low": candidates[kept[0] - 1], "high": candidates[kept[-1]], "confidence": 1 - rejected}


def two_samples():
    cases = []
    for n, m, shift, confidence in [(3, 3, 1.0, 0.95), (4, 4, 1.1, 0.95), (5, 5, 1.0, 0.95), (5, 8, 1.05, 0.9),
                                    (10, 10, 1.02, 0.95), (10, 10, 1.02, 0.999), (7, 20, 0.97, 0.99),
                                    (20, 20, 1.01, 0.95)]:
        base = rounded(100 * numpy.exp(0.03 * random.normal(size=n)))
        other = rounded(shift * 100 * numpy.exp(0.03 * random.normal(size=m)))
        ratios = sorted(o / b for b in base for o in other)

        def p_value(factor):
            moved = [o / factor for o in other]
            return float(stats.mannwhitneyu(moved, base, method="exact").pvalue)

        above = float(stats.mannwhitneyu(other, base, alternative="greater", method="exact").pvalue)
        cases.append({"base": base, "other": other, "confidence": confidence,
                      "estimate": float(numpy.median(ratios)), "interval": inverted(ratios, p_value, confidence),
                      "p_above": above})
    write("two_samples", cases)


def signed_rank():
    cases = []
    for n, shift, confidence, limit in [(5, 1.01, 0.9, 1.0), (6, 1.02, 0.95, 1.0), (8, 1.0, 0.95, 1.0),
                                        (10, 1.03, 0.95, 1.02), (15, 0.98, 0.99, 1.0), (20, 1.01, 0.95, 1.01),
                                        (40, 1.0, 0.95, 1.0)]:
        drift = numpy.linspace(100, 130, n)
        base = rounded(drift * numpy.exp(0.02 * random.normal(size=n)))
        other = rounded(shift * drift * numpy.exp(0.02 * random.normal(size=n)))
        logs = numpy.log(other) - numpy.log(base)
        walsh = sorted(float(numpy.exp((logs[i] + logs[j]) / 2)) for i in range(n) for j in range(i, n))

        def p_value(factor, alternative="two-sided"):
            return float(stats.wilcoxon(logs - math.log(factor), alternative=alternative, method="exact").pvalue)

        cases.append({"base": base, "other": other, "confidence": confidence, "limit": limit,
                      "estimate": float(numpy.exp(numpy.median(numpy.log(walsh)))),
                      "interval": inverted(walsh, p_value, confidence), "p_above": p_value(limit, "greater")})
    write("signed_rank", cases)


def trend():
    cases = []
    for n, slope in [(6, 0), (7, 1), (8, 0.5), (10, 0.3), (10, -0.4), (15, 0.2), (30, 0.1), (50, -0.03)]:
        values = rounded(slope * numpy.arange(n) + random.normal(size=n))
        answer = stats.kendalltau(range(n), values, method="exact")
        cases.append({"values": values, "s": round(float(answer.statistic) * n * (n - 1) / 2),
                      "p_value": float(answer.pvalue)})
    write("trend", cases)


def von_neumann(values):
    return float(numpy.sum(numpy.diff(stats.rankdata(values)) ** 2))


def autocorrelation():
    """By all orders; the last two have ties."""
    cases = []
    samples = [rounded(random.normal(size=6)), rounded(numpy.cumsum(random.normal(size=7))),
               rounded(numpy.cumsum(random.normal(size=8))), [1, 1, 2, 2, 3, 3, 3], [5, 5, 5, 4, 4, 1]]
    for values in samples:
        seen = von_neumann(values)
        ranks = stats.rankdata(values)
        orders = numpy.array(list(itertools.permutations(ranks)))
        squares = numpy.sum(numpy.diff(orders, axis=1) ** 2, axis=1)
        cases.append({"values": [float(v) for v in values], "p_value": float(numpy.mean(squares <= seen))})
    write("autocorrelation", cases)


def best_split(sample, axis=-1):
    """The sum of squares between two groups of three or more over that within."""
    sample = numpy.sort(sample, axis=axis)
    best = 0.0
    for size in range(3, sample.shape[-1] - 2):
        low, high = sample[..., :size], sample[..., size:]
        within = low.var(axis=-1) * low.shape[-1] + high.var(axis=-1) * high.shape[-1]
        total = sample.var(axis=-1) * sample.shape[-1]
        best = numpy.maximum(best, (total - within) / within)
    return best


def two_modes():
    """By 200,000 simulated samples of a uniform distribution."""
    cases = []
    for n, apart in [(8, 12), (10, 6), (10, 8), (20, 4), (20, 5)]:
        values = rounded(random.normal(size=n) + apart * (random.permutation(n) < n // 2))
        answer = stats.monte_carlo_test(values, random.uniform, best_split, vectorized=True, n_resamples=200_000,
                                        batch=20_000, alternative="greater")
        cases.append({"values": values, "p_value": float(answer.pvalue)})
    write("two_modes", cases)


def binomial():
    cases = []
    for successes, trials, confidence in [(0, 10, 0.95), (1, 10, 0.95), (5, 10, 0.99), (10, 10, 0.95), (0, 1000, 0.95),
                                          (1, 1000, 0.95), (990, 1000, 0.95), (3, 100_000, 0.999),
                                          (50_000, 1_000_000, 0.95), (1, 1, 0.5)]:
        interval = stats.binomtest(successes, trials).proportion_ci(confidence, "exact")
        cases.append({"successes": successes, "trials": trials, "confidence": confidence,
                      "low": float(interval.low), "high": float(interval.high)})
    write("binomial", cases)


def prediction():
    cases = []
    for n, change, limit, confidence in [(2, 1.0, 1.0, 0.95), (5, 1.1, 1.05, 0.95), (10, 1.2, 1.15, 0.99),
                                         (20, 0.9, 1.0, 0.9), (50, 1.5, 1.1, 0.95)]:
        history = rounded(1000 * numpy.exp(0.03 * random.normal(size=n)))
        now = round(1000 * change, 3)
        logs = numpy.log(history)
        error = float(logs.std(ddof=1)) * math.sqrt(1 + 1 / n)
        factor = math.log(now) - float(logs.mean())
        student = stats.t(n - 1)
        reach = error * float(student.ppf((1 + confidence) / 2))
        cases.append({"history": history, "now": now, "limit": limit, "confidence": confidence,
                      "factor": math.exp(factor), "low": math.exp(factor - reach), "high": math.exp(factor + reach),
                      "p_above": float(student.sf((factor - math.log(limit)) / error)),
                      "p_below": float(student.cdf((factor - math.log(limit)) / error))})
    write("prediction", cases)


two_samples()
signed_rank()
trend()
autocorrelation()
two_modes()
binomial()
prediction()
