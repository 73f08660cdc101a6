"""Wrong calls, each answered by an error that names the argument, the value and the remedy.

The table is checked whole: a message must hold the argument in backticks, what was given, and what
to do instead.  No call may change its inputs, and the right call works afterwards as before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from _solvers import RING, VP

import refsde as rs
from refsde import predict

NAN, INF = math.nan, math.inf
SCORE = RING.score(VP)
REVERSE, FLOW, FORWARD = rs.ReverseSDE(VP, SCORE), rs.ProbabilityFlow(VP, SCORE), rs.ForwardSDE(VP)
EM = rs.EulerMaruyama()
X = np.random.default_rng(0).normal(size=(5, 2))
NAN_ROW = np.where(np.arange(5)[:, None] == 2, NAN, X)
UP, DOWN = rs.Grid([0.1, 0.5, 1.0]), rs.Grid([1.0, 0.5, 0.1])
PATH = rs.StoredPath.draw(DOWN.ts, (3, 2), rng=0)
MIX = rs.GaussianMixture
I2 = np.eye(2)


class Wrong(NamedTuple):
    """A wrong call and what its message must hold."""

    call: Callable[[], Any]
    argument: str
    value: str
    remedy: str
    kind: type[Exception] = ValueError


def sample(*args: Any, **options: Any) -> rs.Solution:
    """`refsde.sample` with right defaults: one argument at a time is wrong."""
    given = {"times": 3, "rng": 0} | options
    return rs.sample(*(args or (REVERSE, EM, 4)), **given)


def forward(*args: Any, **options: Any) -> rs.Solution:
    return sample(FORWARD, EM, **({"x": X} | options))


SDES = {
    "vp-negative": Wrong(lambda: rs.VP(-0.1), "beta_min", "-0.1", "positive"),
    "vp-nan": Wrong(lambda: rs.VP(beta_max=NAN), "beta_max", "nan", "finite"),
    "vp-swapped": Wrong(lambda: rs.VP(20.0, 0.1), "beta_max", "0.1", "swap them"),
    "vp-text": Wrong(lambda: rs.VP("big"), "beta_min", "'big'", "pass a float", TypeError),
    "subvp-inf": Wrong(lambda: rs.SubVP(beta_max=INF), "beta_max", "inf", "finite"),
    "ve-zero": Wrong(lambda: rs.VE(sigma_min=0.0), "sigma_min", "0.0", "positive"),
    "ve-swapped": Wrong(lambda: rs.VE(50.0, 0.01), "sigma_max", "0.01", "swap them"),
    "ve-convention": Wrong(
        lambda: rs.VE(convention="mine"), "convention", "'mine'", "'code' or 'exact'"
    ),
    "edm-swapped": Wrong(lambda: rs.EDM(80.0, 0.002), "sigma_max", "0.002", "swap them"),
    "cosine-T": Wrong(lambda: rs.Cosine(T=1.0), "T", "1.0", "below 1"),
    "cosine-c": Wrong(lambda: rs.Cosine(c=-1.0), "c", "-1.0", "positive"),
    "table-none": Wrong(lambda: rs.Tabulated(), "betas", "neither", "give exactly one"),
    "table-both": Wrong(lambda: rs.Tabulated([0.1], [0.1]), "betas", "both", "give exactly one"),
    "table-range": Wrong(
        lambda: rs.Tabulated([0.1, 1.5]), "betas", "1.5", "use more, smaller steps"
    ),
    "table-nan": Wrong(lambda: rs.Tabulated([0.1, NAN]), "betas", "nan", "finite"),
    "table-shape": Wrong(lambda: rs.Tabulated([[0.1]]), "betas", "(1, 1)", "1-D"),
    "table-text": Wrong(lambda: rs.Tabulated(["a"]), "betas", "'a'", "numbers", TypeError),
    "table-order": Wrong(
        lambda: rs.Tabulated(sigmas=[2.0, 1.0]), "sigmas", "[2., 1.]", "sort them"
    ),
    "schedule": Wrong(
        lambda: rs.Tabulated.from_betas("cubic"), "schedule", "'cubic'", "Tabulated(betas)"
    ),
    "levels": Wrong(lambda: rs.Tabulated.from_betas(n=0), "n", "0", "positive int"),
}

TARGETS = {
    "means-1d": Wrong(
        lambda: MIX([1.0], [0.0], [1.0]), "means", "(1,)", "numpy.reshape(means, (K, 1))"
    ),
    "means-nan": Wrong(lambda: MIX([1.0], [[NAN]], [1.0]), "means", "nan", "remove NaN"),
    "means-text": Wrong(
        lambda: MIX([1.0], [["a"]], [1.0]), "means", "'a'", "real numbers", TypeError
    ),
    "weights-sum": Wrong(
        lambda: MIX([0.5, 0.2], X[:2], [1, 1]), "weights", "0.7", "divide by the sum"
    ),
    "weights-negative": Wrong(
        lambda: MIX([1.5, -0.5], X[:2], [1, 1]), "weights", "-0.5", "not be negative"
    ),
    "weights-shape": Wrong(
        lambda: MIX([1.0], X[:2], [1, 1]), "weights", "(1,)", "one a row of `means`"
    ),
    "weights-none": Wrong(
        lambda: MIX(None, X[:2], [1, 1]), "weights", "neither", "give exactly one"
    ),
    "log-weights": Wrong(
        lambda: MIX(None, X[:2], [1, 1], log_weights=[0.0, 0.0]), "log_weights", "0.69", "subtract"
    ),
    "covs-shape": Wrong(lambda: MIX([1.0], X[:1], [1, 1, 1]), "covs", "(3,)", "must have shape"),
    "covs-negative": Wrong(lambda: MIX([1.0], X[:1], [-1.0]), "covs", "-1.0", "squared std"),
    "covs-skew": Wrong(
        lambda: MIX([1.0], X[:1], [[[1, 0.5], [0, 1]]]), "covs", "0.5", "(C + C.T) / 2"
    ),
    "covs-psd": Wrong(
        lambda: MIX([1.0], X[:1], [np.diag([1.0, -1.0])]), "covs", "-1", "positive semi-definite"
    ),
    "ring": Wrong(lambda: MIX.ring(0), "modes", "0", "positive int"),
    "ring-std": Wrong(lambda: MIX.ring(8, std=NAN), "std", "nan", "finite and non-negative"),
    "fit-few": Wrong(lambda: MIX.fit(X, 9), "X", "(5, 2)", "n >= k"),
    "unfitted": Wrong(lambda: MIX.from_sklearn("gm"), "gm", "'gm'", "call gm.fit(X) first"),
    "draws": Wrong(lambda: RING.sample(-1), "n", "-1", "non-negative int"),
    "draws-rng": Wrong(lambda: RING.sample(3, rng="seed"), "rng", "'seed'", "Generator", TypeError),
    "component": Wrong(lambda: RING.component(8), "k", "8", "below 8"),
    "points": Wrong(lambda: RING.logpdf(X[:, :1]), "x", "(5, 1)", "transpose"),
    "points-list": Wrong(
        lambda: RING.logpdf([[0.0, 1.0]]), "x", "list", "numpy.asarray", TypeError
    ),
    "points-int": Wrong(
        lambda: RING.logpdf(np.ones((2, 2), int)), "x", "int64", "astype(float)", TypeError
    ),
    "law-time": Wrong(lambda: RING.at(VP, 1.5), "t", "1.5", "[0, 1]"),
    "score-time": Wrong(lambda: SCORE(X, -0.1), "t", "-0.1", "rescale it"),
    "score-times": Wrong(lambda: SCORE(X, np.zeros((3, 1))), "t", "(3, 1)", "(5, 1)"),
    "score-shape": Wrong(lambda: SCORE(X[0], 0.5), "x", "(2,)", "x[None]"),
    "directions": Wrong(lambda: SCORE.jvp(X, 0.5, X[:, :1]), "u", "(5, 1)", "transpose"),
    "wants": Wrong(lambda: SCORE.evaluate(X, 0.5, "curl"), "want", "'curl'", "among"),
    "posterior-A": Wrong(
        lambda: RING.condition(np.ones((1, 3)), [0.0], 1.0), "A", "(1, 3)", "(m, 2)"
    ),
    "posterior-y": Wrong(
        lambda: RING.condition(I2, [0.0], 1.0), "y", "(1,)", "one number a row of `A`"
    ),
    "posterior-R": Wrong(
        lambda: RING.condition(I2, [0, 0], -I2), "noise_cov", "-1", "positive semi-definite"
    ),
    "posterior-singular": Wrong(
        lambda: MIX([1.0], X[:1], [0.0]).condition(I2, [0, 0], 0.0),
        "noise_cov",
        "0",
        "add a small variance",
    ),
    "cdf": Wrong(lambda: RING.cdf(0.0), "cdf", "d = 2", "d = 1"),
}

PROCESSES = {
    "sde-text": Wrong(lambda: rs.ForwardSDE("vp"), "sde", "str", "refsde.VP()", TypeError),
    "sde-class": Wrong(lambda: rs.ForwardSDE(rs.VP), "sde", "class", "pass VP()", TypeError),
    "score-none": Wrong(
        lambda: rs.ReverseSDE(VP, None), "score", "NoneType", "score(x, t)", TypeError
    ),
    "score-target": Wrong(
        lambda: rs.ReverseSDE(VP, RING),
        "score",
        "GaussianMixture",
        "pass target.score(sde)",
        TypeError,
    ),
    "score-other": Wrong(
        lambda: rs.ProbabilityFlow(rs.VE(), SCORE), "score", "VP(beta", "target.score(sde)"
    ),
    "score-broadcast": Wrong(
        lambda: sample(rs.ReverseSDE(VP, lambda x, t: -x[:, :1]), EM, x=X),
        "score",
        "(5, 1)",
        "batch first",
    ),
}

GRIDS = {
    "ts-one": Wrong(lambda: rs.Grid([1.0]), "ts", "(1,)", "give both ends"),
    "ts-2d": Wrong(lambda: rs.Grid([[1.0, 0.5]]), "ts", "(1, 2)", "at least two times"),
    "ts-repeat": Wrong(lambda: rs.Grid([1.0, 0.5, 0.5]), "ts", "0.5", "remove repeats"),
    "ts-zigzag": Wrong(lambda: rs.Grid([1.0, 0.2, 0.5]), "ts", "0.2", "strictly monotone"),
    "ts-nan": Wrong(lambda: rs.Grid([1.0, NAN]), "ts", "nan", "finite"),
    "ts-negative": Wrong(lambda: rs.Grid([1.0, -0.1]), "ts", "-0.1", "t = 0 is data"),
    "ts-text": Wrong(lambda: rs.Grid("uniform"), "ts", "'uniform'", "list of times", TypeError),
    "n-zero": Wrong(lambda: rs.Grid.uniform(VP, 0), "n", "0", "positive int"),
    "n-float": Wrong(lambda: rs.Grid.karras(VP, 10.0), "n", "10.0", "positive int"),
    "n-bool": Wrong(lambda: rs.Grid.uniform(VP, True), "n", "True", "positive int"),
    "grid-sde": Wrong(lambda: rs.Grid.uniform("vp", 5), "sde", "'vp'", "refsde.VP()", TypeError),
    "t_end-T": Wrong(lambda: rs.Grid.uniform(VP, 5, 1.0), "t_end", "1.0", "t = 0 is data"),
    "t_end-nan": Wrong(lambda: rs.Grid.logsnr(VP, 5, NAN), "t_end", "nan", "[0, T)"),
    "t_end-text": Wrong(
        lambda: rs.Grid.power(VP, 5, 2.0, "end"), "t_end", "'end'", "a time", TypeError
    ),
    "t_end-lam": Wrong(lambda: rs.Grid.logsnr(VP, 5, 0.0), "t_end", "inf", "needs t_end > 0"),
    "kappa": Wrong(lambda: rs.Grid.power(VP, 5, 0.0), "kappa", "0.0", "positive"),
    "p": Wrong(lambda: rs.Grid.karras(VP, 5, p=-7.0), "p", "-7.0", "positive"),
}

NOISE = {
    "rng-text": Wrong(lambda: rs.Gaussian("seed"), "rng", "'seed'", "numpy Generator", TypeError),
    "rng-negative": Wrong(lambda: rs.Gaussian(-1), "rng", "-1", "non-negative int", TypeError),
    "key": Wrong(lambda: rs.Gaussian(key=-1), "key", "-1", "solution.seed_entropy"),
    "rows": Wrong(lambda: rs.Gaussian(0).on(np.array([2, 1])), "rows", "[2, 1]", "sort them"),
    "rows-float": Wrong(
        lambda: rs.Gaussian(0).on(np.array([0.0, 1.0])), "rows", "[0., 1.]", "ascending"
    ),
    "rows-negative": Wrong(lambda: PATH.on(np.array([-1, 0])), "rows", "[-1,  0]", "non-negative"),
    "rows-many": Wrong(lambda: PATH.on(np.arange(4)), "w", "sample 3", "store more"),
    "batch": Wrong(lambda: rs.Gaussian(0).on(np.arange(2)).normal(X), "x", "5", "noise.on(rows)"),
    "path-t": Wrong(
        lambda: rs.StoredPath([0.0, 0.0], np.zeros((2, 1))), "t", "[0., 0.]", "remove repeats"
    ),
    "path-one": Wrong(
        lambda: rs.StoredPath([0.0], np.zeros((1, 1))), "t", "[0.0]", "give both ends"
    ),
    "path-w": Wrong(
        lambda: rs.StoredPath([0.0, 1.0], np.zeros((3, 1))), "w", "(3, 1)", "one value a time"
    ),
    "path-nan": Wrong(lambda: rs.StoredPath([0.0, 1.0], [[0.0], [NAN]]), "w", "(2, 1)", "finite"),
    "path-h": Wrong(
        lambda: rs.StoredPath([0.0, 1.0], np.zeros((2, 1)), np.zeros((2, 1))),
        "h",
        "(2, 1)",
        "levy=True",
    ),
    "path-no-h": Wrong(lambda: PATH.levy(1.0, 0.5, X[:3]), "h", "None", "levy=True"),
    "path-off": Wrong(
        lambda: PATH.increment(1.0, 0.7, X[:3]), "t", "0.7", "subset of the stored times"
    ),
    "path-shape": Wrong(lambda: PATH.increment(1.0, 0.5, X), "w", "(5, 2)", "on(rows)"),
    "path-short": Wrong(lambda: sample(noise=PATH, times=DOWN), "w", "sample 3", "store more"),
}

SAMPLE = {
    "solver-class": Wrong(
        lambda: sample(REVERSE, rs.Heun, 4),
        "solver",
        "Heun",
        "pass Heun()",
        TypeError,
    ),
    "solver-text": Wrong(
        lambda: sample(REVERSE, "em", 4), "solver", "'em'", "refsde.EulerMaruyama()", TypeError
    ),
    "process-none": Wrong(
        lambda: sample(None, EM, 4), "process", "None", "refsde.ReverseSDE", TypeError
    ),
    "process-class": Wrong(
        lambda: sample(rs.ReverseSDE, EM, 4),
        "process",
        "ReverseSDE",
        "refsde.ReverseSDE(sde",
        TypeError,
    ),
    "process-score": Wrong(
        lambda: sample(SCORE, EM, 4), "process", "TargetScore", "ReverseSDE", TypeError
    ),
    "accepts-flow": Wrong(
        lambda: sample(REVERSE, rs.BlackBox(), 4),
        "solver",
        "BlackBox",
        "use it on ProbabilityFlow",
        TypeError,
    ),
    "accepts-reverse": Wrong(
        lambda: sample(FLOW, rs.DDIM(1.0), 4),
        "solver",
        "DDIM(eta=1.0)",
        "use it on ReverseSDE",
        TypeError,
    ),
    "accepts-forward": Wrong(
        lambda: forward() and sample(FORWARD, rs.DDIM(), x=X),
        "solver",
        "DDIM(eta",
        "use it on",
        TypeError,
    ),
    "accepts-pc": Wrong(
        lambda: sample(FLOW, rs.PredictorCorrector(rs.Ancestral(), None), 4),
        "solver",
        "Ancestral",
        "use it on ReverseSDE",
        TypeError,
    ),
    "n-missing": Wrong(lambda: sample(REVERSE, EM), "n", "None", "pass a start `x`"),
    "n-negative": Wrong(lambda: sample(REVERSE, EM, -3), "n", "-3", "positive int"),
    "n-float": Wrong(lambda: sample(REVERSE, EM, 10.0), "n", "10.0", "positive int"),
    "n-disagrees": Wrong(lambda: sample(REVERSE, EM, 4, x=X), "n", "4", "leave `n` out"),
    "times-missing": Wrong(lambda: sample(times=None), "times", "None", "times=200"),
    "times-zero": Wrong(lambda: sample(times=0), "times", "0", "number of steps"),
    "times-list": Wrong(
        lambda: sample(times=[1.0, 0.5]), "times", "[1.0, 0.5]", "refsde.Grid(ts)", TypeError
    ),
    "times-float": Wrong(lambda: sample(times=0.5), "times", "0.5", "a Grid", TypeError),
    "times-up": Wrong(lambda: sample(times=UP), "times", "0.1 to 1", "times.reversed()"),
    "times-down": Wrong(lambda: forward(times=DOWN), "times", "1 to 0.1", "times.reversed()"),
    "times-beyond": Wrong(
        lambda: sample(times=rs.Grid.uniform(rs.EDM(), 3)), "times", "80", "rescale the grid"
    ),
    "times-late": Wrong(lambda: sample(times=rs.Grid([0.5, 0.1])), "times", "0.5 to 0.1", "as x="),
    "times-late-flow": Wrong(lambda: sample(FLOW, EM, 4, times=UP), "times", "0.1 to 1", "as x="),
    "x-list": Wrong(
        lambda: sample(REVERSE, EM, x=[[0.0, 1.0]]), "x", "[[0.0, 1.0]]", "an array (n, *D)"
    ),
    "x-1d": Wrong(lambda: sample(REVERSE, EM, x=X[0]), "x", "(2,)", "reshape"),
    "x-int": Wrong(
        lambda: sample(REVERSE, EM, x=np.ones((2, 2), int)),
        "x",
        "int64",
        "x.astype(float)",
        TypeError,
    ),
    "x-complex": Wrong(
        lambda: sample(REVERSE, EM, x=X * 1j), "x", "complex128", "x.astype(float)", TypeError
    ),
    "x-empty": Wrong(lambda: sample(REVERSE, EM, x=X[:0]), "x", "(0, 2)", "at least one sample"),
    "x-nan": Wrong(lambda: sample(REVERSE, EM, x=NAN_ROW), "x", "sample 2", "remove those samples"),
    "x-event": Wrong(lambda: sample(REVERSE, EM, x=X[:, :1]), "x", "(5, 1)", "(B, 2)"),
    "forward-start": Wrong(
        lambda: sample(FORWARD, EM, 4), "x", "a ForwardSDE", "target.sample(n", TypeError
    ),
    "shape-missing": Wrong(
        lambda: sample(rs.ReverseSDE(VP, lambda x, t: -x), EM, 4), "shape", "None", "shape=(d,)"
    ),
    "shape-int": Wrong(lambda: sample(shape=2), "shape", "2", "shape=(d,)"),
    "shape-zero": Wrong(lambda: sample(shape=(2, 0)), "shape", "(2, 0)", "positive ints"),
    "shape-other": Wrong(lambda: sample(shape=(3,)), "shape", "(3,)", "leave it out"),
    "shape-x": Wrong(lambda: sample(REVERSE, EM, x=X, shape=(3,)), "shape", "(3,)", "leave it out"),
    "rng": Wrong(lambda: sample(rng="seed"), "rng", "'seed'", "SeedSequence", TypeError),
    "noise": Wrong(lambda: sample(noise=0), "noise", "0", "a seed goes into `rng`", TypeError),
    "noise-class": Wrong(
        lambda: sample(noise=rs.Gaussian), "noise", "Gaussian", "refsde.Gaussian(0)", TypeError
    ),
    "keep-zero": Wrong(lambda: sample(keep=0), "keep", "0", "every k-th step"),
    "keep-true": Wrong(lambda: sample(keep=True), "keep", "True", "'all'"),
    "keep-text": Wrong(lambda: sample(keep="last"), "keep", "'last'", "'all'"),
    "denoise": Wrong(lambda: sample(denoise="yes"), "denoise", "'yes'", "'tweedie'"),
    "denoise-forward": Wrong(lambda: forward(denoise="tweedie"), "denoise", "'tweedie'", "'none'"),
    "workers": Wrong(lambda: sample(workers=0), "workers", "0", "positive int"),
    "workers-float": Wrong(lambda: sample(workers=2.0), "workers", "2.0", "positive int"),
    "callback": Wrong(
        lambda: sample(callback="print"), "callback", "'print'", "(state, rows)", TypeError
    ),
    "on-failure": Wrong(
        lambda: sample(on_failure="warn"), "on_failure", "'warn'", "'mark' or 'raise'"
    ),
    "dtype": Wrong(lambda: sample(dtype=np.float16), "dtype", "float16", "float64 or float32"),
    "dtype-text": Wrong(
        lambda: sample(dtype="double precision"), "dtype", "'double precision'", "float64"
    ),
}


def tuple_step(process: Any, state: Any, s: Any, noise: Any) -> Any:
    return s, state.x


def stuck_step(process: Any, state: Any, s: Any, noise: Any) -> Any:
    return state


def summing_step(process: Any, state: Any, s: Any, noise: Any) -> Any:
    return rs.State(s, state.x.sum(axis=0))


def iterate(x: Any = X, times: Any = DOWN, noise: Any = None, **options: Any) -> Any:
    return rs.iterate(REVERSE, EM, x, times, noise or rs.Gaussian(0), **options)


SOLVERS = {
    "step-tuple": Wrong(
        lambda: sample(REVERSE, tuple_step, 4), "solver", "tuple", "refsde.State(s, x)", TypeError
    ),
    "step-stuck": Wrong(
        lambda: sample(REVERSE, stuck_step, 4), "solver", "t = 1", "refsde.State(s, x)"
    ),
    "step-shape": Wrong(
        lambda: sample(REVERSE, summing_step, 4), "solver", "(2,)", "a sum or a broadcast"
    ),
    "langevin-alone": Wrong(
        lambda: sample(REVERSE, rs.Langevin(), 4),
        "solver",
        "Langevin",
        "PredictorCorrector(None, corrector)",
    ),
    "iterate-x": Wrong(lambda: iterate(x=X[0]), "x", "(2,)", "batch first"),
    "iterate-times": Wrong(lambda: iterate(times=5), "times", "5", "refsde.Grid(ts)", TypeError),
    "iterate-noise": Wrong(lambda: iterate(noise=5), "noise", "5", "`rng`", TypeError),
    "iterate-rows": Wrong(lambda: iterate(rows=np.arange(3)), "rows", "(3,)", "one index a sample"),
    "eta": Wrong(lambda: rs.DDIM(-1.0), "eta", "-1.0", "0 is deterministic"),
    "eta-text": Wrong(lambda: rs.DDIM("1"), "eta", "'1'", "a number", TypeError),
    "fraction": Wrong(lambda: rs.OneStep(1.5), "fraction", "1.5", "[0, 1]"),
    "fraction-text": Wrong(lambda: rs.OneStep("x"), "fraction", "'x'", "a function", TypeError),
    "fraction-range": Wrong(
        lambda: sample(REVERSE, rs.OneStep(lambda sde, t, s: 2.0), 4), "fraction", "2.0", "[0, 1]"
    ),
    "fraction-nan": Wrong(
        lambda: sample(REVERSE, rs.OneStep(lambda sde, t, s: NAN), 4), "fraction", "nan", "[0, 1]"
    ),
    "tau": Wrong(lambda: rs.OneStep.sde_dpm(-1.0), "tau", "-1.0", "non-negative"),
    "phi": Wrong(lambda: rs.OneStep.er_sde(2), "phi", "2", "function of rho", TypeError),
    "variance": Wrong(lambda: rs.Ancestral("small"), "variance", "'small'", "'posterior'"),
    "ancestral-subvp": Wrong(
        lambda: sample(rs.ReverseSDE(rs.SubVP(), RING.score(rs.SubVP())), rs.Ancestral(), 4),
        "variance",
        "SubVP",
        "Ancestral(variance='posterior')",
        TypeError,
    ),
    "snr": Wrong(lambda: rs.Langevin(0.0), "snr", "0.0", "positive"),
    "snr-nan": Wrong(lambda: rs.AnnealedLangevin(NAN), "snr", "nan", "finite"),
    "steps": Wrong(lambda: rs.Langevin(steps=0), "steps", "0", "corrector=None"),
    "norm": Wrong(lambda: rs.Langevin(norm="row"), "norm", "'row'", "'sample' or 'batch'"),
    "pc-empty": Wrong(lambda: rs.PredictorCorrector(None, None), "predictor", "None", "give one"),
    "pc-class": Wrong(
        lambda: rs.PredictorCorrector(rs.Heun, None),
        "predictor",
        "Heun",
        "pass an instance",
        TypeError,
    ),
    "pc-text": Wrong(
        lambda: rs.PredictorCorrector(EM, "langevin"), "corrector", "'langevin'", "None", TypeError
    ),
    "pc-order": Wrong(
        lambda: rs.PredictorCorrector(EM, None, "both"), "order", "'both'", "'code' or 'paper'"
    ),
    "method": Wrong(lambda: rs.BlackBox("RK4"), "method", "'RK4'", "one of"),
    "rtol": Wrong(lambda: rs.BlackBox(rtol=0.0), "rtol", "0.0", "positive"),
    "atol": Wrong(lambda: rs.BlackBox(atol="tight"), "atol", "'tight'", "positive"),
    "coupled": Wrong(lambda: rs.BlackBox(coupled=1), "coupled", "1", "True or False", TypeError),
    "coupled-batch": Wrong(
        lambda: list(rs.iterate(FLOW, rs.BlackBox(coupled=False), X, DOWN, rs.Gaussian(0))),
        "coupled",
        "batch of 5",
        "call refsde.sample",
    ),
}

PREDICT = {
    "source": Wrong(
        lambda: predict.convert(X, X, 0.5, VP, "noise", "eps"), "source", "'noise'", "one of"
    ),
    "target": Wrong(
        lambda: predict.convert(X, X, 0.5, VP, "eps", "x_0"), "target", "'x_0'", "one of"
    ),
    "value": Wrong(
        lambda: predict.convert(X[:, :1], X, 0.5, VP, "eps", "x0"), "value", "(5, 1)", "batch first"
    ),
    "predicts": Wrong(
        lambda: predict.from_prediction(SCORE, VP, "flow"), "predicts", "'flow'", "one of"
    ),
    "model": Wrong(
        lambda: predict.from_prediction(X, VP), "model", "array", "model(x, t)", TypeError
    ),
    "model-sde": Wrong(
        lambda: predict.from_prediction(SCORE, "vp"), "sde", "'vp'", "refsde.VP()", TypeError
    ),
    "level": Wrong(lambda: predict.t_of_index(1000, 1000), "i", "1000", "[0, 999]"),
    "level-n": Wrong(lambda: predict.t_of_index(0, 1), "n", "1", "at least 2"),
    "level-t": Wrong(lambda: predict.index_of_t(1.5, 1000), "t", "1.5", "[0, 1]"),
    "convention": Wrong(
        lambda: predict.index_of_t(0.5, 1000, "ddpm"), "convention", "'ddpm'", "'table' or"
    ),
    "load": Wrong(lambda: rs.Solution.load(__file__), "file", "test_bad_input.py", "Solution.save"),
}

TABLE = {
    f"{group}-{name}": wrong
    for group, table in {
        "sde": SDES,
        "target": TARGETS,
        "process": PROCESSES,
        "grid": GRIDS,
        "noise": NOISE,
        "sample": SAMPLE,
        "solver": SOLVERS,
        "predict": PREDICT,
    }.items()
    for name, wrong in table.items()
}
KEPT = {name: value.copy() for name, value in {"X": X, "NAN_ROW": NAN_ROW, "w": PATH.w}.items()}


def complaints(wrong: Wrong) -> list[str]:
    """What is missing in the answer to a wrong call."""
    try:
        wrong.call()
    except (ValueError, TypeError) as error:
        text, kind = str(error), type(error)
    else:
        return ["nothing was raised"]
    missing = [] if kind is wrong.kind else [f"{kind.__name__} instead of {wrong.kind.__name__}"]
    if f"`{wrong.argument}`" not in text:
        missing.append(f"the argument `{wrong.argument}`")
    # A value as short as "0" might stand there by chance: it must be said to be what was given.
    said = rf"(=|\b(got|is|both|of|sample|time|shape)\b).{{0,60}}?{re.escape(wrong.value)}"
    short = len(wrong.value) < 5
    if wrong.value not in text or (short and not re.search(said, text, flags=re.DOTALL)):
        missing.append(f"the value {wrong.value}")
    if wrong.remedy not in text:
        missing.append(f"the remedy {wrong.remedy!r}")
    return [f"{text!r} lacks {part}" for part in missing]


@pytest.mark.parametrize("name", TABLE)
def test_the_answer_names_argument_value_and_remedy(name: str) -> None:
    assert complaints(TABLE[name]) == []
    for kept, value in {"X": X, "NAN_ROW": NAN_ROW, "w": PATH.w}.items():
        assert np.array_equal(value, KEPT[kept], equal_nan=True), "an input was written into"


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) >= 50


def test_a_bare_message_would_not_do() -> None:
    """Mutants of the messages: without the name, without the value, without the remedy."""

    def raises(text: str, kind: type[Exception] = ValueError) -> Callable[[], Any]:
        def call() -> Any:
            raise kind(text)

        return call

    good = Wrong(raises("`n` must be positive, got -1"), "n", "-1", "positive")
    assert complaints(good) == []
    for text in ("n must be positive, got -1", "`n` must be positive", "`n` got -1"):
        assert complaints(good._replace(call=raises(text)))
    assert complaints(good._replace(call=raises("`n` must be positive, got -1", TypeError)))
    assert complaints(good._replace(call=lambda: None))


def test_the_right_call_works_after_a_wrong_one() -> None:
    before = sample().x
    for wrong in SAMPLE.values():
        assert complaints(wrong) == []
    assert np.array_equal(sample().x, before)


def test_integers_of_other_libraries_are_refused_too(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"`x` must be floating point, got dtype torch\.int64"):
        sample(REVERSE, EM, x=torch.ones((3, 2), dtype=torch.int64))
