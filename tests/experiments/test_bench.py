"""The comparison's bench: rows survive a stop, ties to truth hold, statistics say what they should."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from experiments import compare, recover
from experiments.compare import BUDGET, agreement, entries, put_costs
from experiments.harness import bench as benchmark
from experiments.harness import records, wall_time
from experiments.harness.bench import Bench
from experiments.harness.measures import objects_named, objects_right, relation_right, word_f1
from experiments.harness.pictures import OUT_OF_DOMAIN_FOLDERS, out_of_domain_pictures, scene_pictures
from experiments.harness.records import MethodEntry
from experiments.harness.runner import Context
from experiments.harness.statistics import QUALITY, by_picture, means, paired
from experiments.harness.tables import markdown
from invert.errors import InputError
from invert.methods import METHODS
from invert.picturebook.grammar import parse
from invert.picturebook.world import held_out


class Still:
    """Stands in for a model: the bench of these tests measures nothing, it only keeps rows."""


class CountingBench(Bench):
    measured, quality = 0, 0.5

    def measure(self, entry, picture, seed):
        self.measured += 1
        return {"prompt": "a fox", "seconds": 1.0, "forward": 10, "backward": 0, "images": 1, "peak_mib": None}

    def rate(self, prompt, picture):
        return dict.fromkeys((*QUALITY, "tokens"), self.quality)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))
    return lambda **options: CountingBench("test", Still(), Still(), **options)


def row(method: str, picture: str, value: float, seed: int = 0, prompt: str = "a fox") -> dict:
    cost = {"tokens": 3, "seconds": value, "forward": 10, "backward": 2, "images": 1, "peak_mib": None}
    quality = dict.fromkeys(QUALITY, value)
    return {"method": method, "picture": picture, "kind": "foreign", "seed": seed, "prompt": prompt, **cost, **quality}


def test_a_second_run_measures_nothing_again(bench):
    pictures, entries = scene_pictures(2, 0), [MethodEntry("random", "random")]
    first, second = bench(), bench()
    rows = list(first.records(entries, pictures, 2, lambda line: None))
    second = bench()
    assert list(second.records(entries, pictures, 2, lambda line: None)) == rows
    assert (first.measured, second.measured) == (4, 0)


def test_an_old_run_is_rated_anew(bench):
    pictures, entries = scene_pictures(1, 0), [MethodEntry("random", "random")]
    list(bench().records(entries, pictures, 1, lambda line: None))
    other = bench()
    other.quality = 0.75
    (found,) = other.records(entries, pictures, 1, lambda line: None)
    assert found["judge"] == 0.75 and found["prompt"] == "a fox" and other.measured == 0


def test_what_is_kept_is_shown_without_a_run(bench):
    pictures, entries = scene_pictures(2, 0), [MethodEntry("random", "random")]
    rows = list(bench().records(entries, pictures[:1], 1, lambda line: None))
    shown = bench(cached_only=True)
    assert list(shown.records(entries, pictures, 2, lambda line: None)) == rows and shown.measured == 0


def test_other_options_revision_or_weights_are_measured_anew(bench, monkeypatch):
    pictures = scene_pictures(1, 0)
    list(bench().records([MethodEntry("random", "random")], pictures, 1, lambda line: None))
    other = bench()
    list(other.records([MethodEntry("random", "random", {"tokens": 4})], pictures, 1, lambda line: None))
    monkeypatch.setattr(records, "revision_of", lambda method: 99)
    list(other.records([MethodEntry("random", "random")], pictures, 1, lambda line: None))
    monkeypatch.setattr(records, "weights_of", lambda uses_generator: "others")
    list(other.records([MethodEntry("random", "random")], pictures, 1, lambda line: None))
    assert other.measured == 3


def test_another_name_for_the_same_run_measures_nothing(bench):
    pictures = scene_pictures(1, 0)
    list(bench().records([MethodEntry("random", "random")], pictures, 1, lambda line: None))
    renamed = bench()
    (found,) = renamed.records([MethodEntry("random words", "random")], pictures, 1, lambda line: None)
    assert found["method"] == "random words" and renamed.measured == 0


@pytest.mark.parametrize("name", ["ablations", "compare", "compare-budget", "compare-times", "roundtrip"])
def test_published_runs_are_of_todays_methods_and_weights(name):
    """A method whose revision was raised is measured and published anew."""
    published = records.read_records(benchmark.PUBLISHED / f"{name}.jsonl")
    assert len({records.key_of(record) for record in published}) == len(published) > 0
    for record in published:
        if record["method"] in METHODS:  # not a variant that its experiment registers
            assert record["revision"] == records.revision_of(record["method"])
            assert record["weights"] == records.weights_of(record["method"] in ("ph2p", "textual-inversion"))
        elif record["method"].startswith("invert-"):
            assert record["revision"] == records.revision_of("invert")


def test_published_runs_count_only_where_they_are_asked_for(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "PUBLISHED", tmp_path / "runs")
    pictures, entries = scene_pictures(2, 0), [MethodEntry("random", "random")]
    first = bench()
    rows = list(first.records(entries, pictures, 1, lambda line: None))
    first.publish()
    first.file.unlink()
    monkeypatch.setenv("PUBLISHED_RUNS", "1")
    reader = bench()
    assert list(reader.records(entries, pictures, 1, lambda line: None)) == rows and reader.measured == 0
    monkeypatch.delenv("PUBLISHED_RUNS")
    fresh = bench()
    list(fresh.records(entries, pictures, 1, lambda line: None))
    assert fresh.measured == 2


class Together:
    """Stands in for an inverter whose method takes several pictures at once."""

    def __init__(self):
        self.groups: list[int] = []

    def invert_batch(self, images, **options):
        self.groups.append(len(images))
        cost = {"seconds": 60.0, "forward_tokens": 8, "backward_tokens": 8, "image_passes": 1}
        return [SimpleNamespace(prompt=f"fox {options['seed']}", **cost) for _ in images]


def test_a_method_that_can_takes_several_pictures_at_once_and_none_again(tmp_path, monkeypatch):
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))
    monkeypatch.setattr(benchmark, "BATCH", 2)
    inverter, pictures, pez = Together(), scene_pictures(3, 0), [MethodEntry("pez", "pez")]
    for _ in range(2):
        bench = CountingBench("test", inverter, Still(), batched=True)
        rows = list(bench.records(pez, pictures, 2, lambda line: None))
        assert [row["prompt"] for row in rows] == ["fox 0", "fox 1"] * 3
        assert bench.measured == 0 and inverter.groups == [2, 1, 2, 1]
    assert all(row["seconds"] is None and row["forward"] == 8 for row in rows)


def test_seconds_count_on_the_machine_that_they_were_measured_on(bench, monkeypatch):
    entries = [MethodEntry("random", "random"), MethodEntry("interrogator", "interrogator", max_pictures=25)]
    pictures = scene_pictures(4, 0)
    monkeypatch.setattr(wall_time, "here", lambda device: "this machine")
    shell = bench()
    shell.inverter = SimpleNamespace(clip=SimpleNamespace(device=None))

    def measured(**options) -> tuple[wall_time.Times, int]:
        runs: list[str] = []

        class Watched(CountingBench):
            def measure(self, entry, picture, seed):
                runs.append(picture.name)
                return super().measure(entry, picture, seed)

        monkeypatch.setattr(wall_time, "Bench", Watched)
        return wall_time.measure_times(shell, entries, pictures, 3, 1, publish=False), runs

    times, runs = measured()
    assert runs == ["scene-000", "scene-000", "scene-001", "scene-002"]  # every entry in turn on each picture
    assert times.machine == "this machine" and len(times.tables["held-out"]["random"]) == 3
    assert measured()[1] == []
    monkeypatch.setattr(wall_time, "here", lambda device: "another machine")
    shell.cached_only = True
    kept, runs = measured()
    assert runs == [] and kept.machine == "this machine" and kept.tables["held-out"].keys() == times.tables["held-out"].keys()
    shell.cached_only = False
    assert len(measured()[1]) == 4


def test_seconds_measured_apart_take_the_place_of_the_rows_own():
    rows = {"a": {"seconds": {"mean": 9.0}, "judge": {"mean": 0.5}}, "b": {"seconds": {"mean": 9.0}}}
    put_costs(rows, {"a": {"pictures": 2, "seconds": {"mean": 1.0}}})
    assert rows == {"a": {"seconds": {"mean": 1.0, "pictures": 2}, "judge": {"mean": 0.5}}, "b": {}}


def test_runs_of_unknown_seconds_have_none_in_tables():
    rows = [{**row(method, "p", 0.5), "seconds": None} for method in ("invert", "pez")]
    summary, differences = means(by_picture(rows)), paired(by_picture(rows), "invert")
    assert "seconds" not in summary["pez"] and "seconds" not in differences["pez"]
    assert "| – |" in markdown(summary)


def test_half_a_line_left_by_an_interrupt_is_passed_over(tmp_path):
    file, whole = tmp_path / "records.jsonl", dict.fromkeys(records.KEY, 0)
    file.write_text(json.dumps({"key": "of an older version"}) + "\n" + json.dumps(whole) + '\n{"method": "ha')
    assert records.read_records(file) == [whole]


def test_an_entry_without_seeds_or_with_a_limit_runs_less(bench):
    pictures = scene_pictures(3, 0)
    once = MethodEntry("retrieve", "retrieve", seeded=False, max_pictures=2)
    assert len(list(bench().records([once], pictures, 3, lambda line: None))) == 2


def test_an_entry_of_one_kind_of_pictures_does_not_run_on_others(bench):
    pictures = [*scene_pictures(2, 0), *out_of_domain_pictures(2)]
    rows = bench().records(
        [MethodEntry("retrieve", "retrieve", seeded=False, kinds=("foreign",))], pictures, 1, lambda line: None
    )
    assert [row["kind"] for row in rows] == ["foreign"] * 2


def test_the_quick_comparison_runs_the_package_once_and_searches_with_half_the_budget():
    quick = {entry.name: entry for entry in entries(["invert", "interrogator"], quick=True)}
    assert quick["invert"].options["budget"] == BUDGET // 2 and quick["invert"].max_pictures is None
    assert (quick["interrogator"].max_pictures, quick["interrogator"].kinds) == (1, ("held-out",))


def extent_of(monkeypatch, tmp_path, **environment: str):
    for name, value in environment.items():
        monkeypatch.setenv(f"COMPARE_{name}", value)
    return compare.extent(Context("compare", tmp_path))


def test_a_part_of_the_comparison_is_chosen_by_pictures_kinds_and_methods(monkeypatch, tmp_path):
    pictures, seeds, chosen = extent_of(
        monkeypatch, tmp_path, PICTURES="3,2", KINDS="held-out,stamps", METHODS="pez,invert", SEEDS="1"
    )
    assert [picture.kind for picture in pictures] == ["held-out"] * 3 + ["stamps"] * 2
    assert seeds == 1 and [entry.name for entry in chosen] == ["invert", "pez"]


def test_no_more_pictures_are_compared_than_there_are(monkeypatch, tmp_path):
    pictures, _, _ = extent_of(monkeypatch, tmp_path, PICTURES="100000", KINDS="held-out", METHODS="retrieve")
    assert len(pictures) == compare.SCENES


def test_an_unknown_kind_of_pictures_is_refused(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="COMPARE_KINDS: unknown 'cartoons'"):
        extent_of(monkeypatch, tmp_path, PICTURES="1", KINDS="stamps,cartoons")


def test_foreign_pictures_are_shown_with_the_prompts_that_the_comparison_keeps(bench, monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(recover, "Bench", lambda name, *_, **__: made.append(name) or bench())
    found = recover.foreign(Still(), Still(), 2, Context("recover", tmp_path))
    assert made == ["compare"] and list(found) == list(OUT_OF_DOMAIN_FOLDERS)
    assert all(row["pictures"] == 2 and row["word_f1"]["mean"] == 0.5 for row in found.values())
    assert Image.open(tmp_path / "recover-foreign.png").width > 1000


@pytest.mark.parametrize(
    "pictures",
    [scene_pictures(20, 0), *(out_of_domain_pictures(100, kind) for kind in OUT_OF_DOMAIN_FOLDERS)],
    ids=["scenes", *OUT_OF_DOMAIN_FOLDERS],
)
def test_the_true_caption_is_fully_right(pictures):
    for picture in pictures:
        assert word_f1(picture.truth, picture.scene) == 1, picture
        assert objects_right(picture.truth, picture.scene)
        assert relation_right(picture.truth, picture.scene)
        assert objects_named(picture.truth, picture.scene) == 1


def test_foreign_scenes_are_held_out_and_distinct():
    pictures = out_of_domain_pictures(100)
    assert len({picture.truth for picture in pictures}) == 100
    assert all(held_out(picture.scene) for picture in pictures)


@pytest.mark.parametrize("kind", ["stamps", "clip-art"])
def test_pictures_of_other_hands_are_a_hundred_different_ones(kind):
    pictures = out_of_domain_pictures(100, kind)
    assert len({picture.digest for picture in pictures}) == 100
    assert {picture.kind for picture in pictures} == {kind}


def test_naming_more_than_the_objects_costs_nothing_in_the_share_of_named_ones():
    scene = parse("a fox above an umbrella on a red background")
    assert objects_named("a fox, an owl, a tree, an umbrella", scene) == 1
    assert objects_named("a fox, an owl", scene) == 0.5


def test_pictures_are_the_sample_and_seeds_are_averaged():
    rows = [row("a", "p", 0.0, 0), row("a", "p", 1.0, 1), row("a", "q", 0.5, 0)]
    summary = means(by_picture(rows))
    assert summary["a"]["pictures"] == 2
    assert summary["a"]["word_f1"] == {"mean": 0.5, "low": 0.5, "high": 0.5}


def test_the_paired_difference_uses_the_pictures_of_both_only():
    rows = [row("invert", name, 0.6) for name in "pqrs"] + [row("pez", name, 0.5) for name in "pq"]
    difference = paired(by_picture(rows), "invert")["pez"]
    assert difference["pictures"] == 2
    assert difference["word_f1"]["mean"] == pytest.approx(0.1)
    assert difference["token_passes_ratio"] == 1


def test_a_clear_difference_is_significant_and_none_is_not():
    rng = np.random.default_rng(0)
    rows = []
    for i, value in enumerate(rng.random(40)):
        rows += [row("invert", str(i), value), row("worse", str(i), value - 0.2 + 0.1 * rng.random()), row("same", str(i), value)]
    difference = paired(by_picture(rows), "invert")
    assert difference["worse"]["word_f1"]["low"] > 0 and difference["worse"]["word_f1"]["p"] < 0.001
    assert difference["same"]["word_f1"]["p"] == 1.0


def test_agreement_counts_pictures_with_the_very_same_prompt():
    rows = [row("interrogator", "p", 1, prompt="a"), row("interrogator-lite", "p", 1, prompt="a")]
    rows += [
        row("interrogator", "q", 1, prompt="a"),
        row("interrogator-lite", "q", 1, prompt="b"),
        row("interrogator-lite", "r", 1),
    ]
    assert agreement(rows) == {"pictures": 2, "same": 1}


def test_the_table_has_a_line_for_every_method():
    text = markdown(means(by_picture([row("a", "p", 0.5), row("b", "p", 0.25)])))
    assert "| `a` | 1 | 0.500 ± 0.000 |" in text
    assert text.count("\n") == 4
