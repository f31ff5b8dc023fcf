"""The machinery that the experiments share: the runner, the benchmark of methods, measures, statistics, timing, figures."""
