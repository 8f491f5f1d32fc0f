"""The overview's page: any experiment gives one, and no text in it is read as anything else."""

# Over 250 lines: every part of the page, without a browser.

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from array import array
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import overview_samples
import pytest
import strategies
import strategies_functions as functions
from hypothesis import example, given, settings
from overview_samples import experiment
from strategies import examples

from wbtune._driver import conclusion
from wbtune._overview import importance, page, ped_anova, table, text
from wbtune._overview.parameters import parameters_of, varying
from wbtune._overview.record import Curve, ExperimentRecord, TrialRecord
from wbtune._overview.scores import Scores

PANELS = ("best-so-far", "parallel-coordinates", "curves", "importance", "slices")
TAGS = (  # noqa: SIM905 - words
    "html head meta title style body header h1 h2 p code ul li b div dl dt dd main noscript"
    " section button table thead tbody tr th td span a script"
).split()
ATTRIBUTES = (  # noqa: SIM905 - words
    "lang charset http-equiv content name class id style type data-log aria-pressed hidden"
    " aria-live scope data-trial data-value data-outcome title href rel"
).split()


class Page(HTMLParser):
    """A page as a browser reads it: its tags, its attributes and its text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    @property
    def data(self) -> dict[str, Any]:
        """What is given to the page's own script; strict JSON."""

        def refuse(constant: str) -> None:
            raise AssertionError(constant)

        return json.loads(self.texts["script"][0], parse_constant=refuse)


def texts_of(data: Any) -> list[str]:
    """Each text in plain data."""
    if isinstance(data, str):
        return [data]
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return [one for item in inner for one in texts_of(item)]


def trial(at: int, value: float | None = None, **params: Any) -> TrialRecord:
    """A trial that has reported one value."""
    values = [] if value is None else [value]
    numbers = array("d", [1.0] * len(values))
    return TrialRecord(
        trial_id=f"t_{at:05}",
        name=f"train_t_{at:05}",
        outcome="failed" if value is None else "finished",
        params=params,
        last=value,
        best=value,
        curve=Curve(numbers, numbers, array("d", values)),
    )


def of(*trials: TrialRecord, **more: Any) -> ExperimentRecord:
    """An experiment of these trials."""
    return ExperimentRecord(
        **{"name": "e", "trials": trials, "metric": "loss", "mode": "min", **more}
    )


def panels_of(record: ExperimentRecord) -> dict[str, Any]:
    """The panels of an experiment, by their keys."""
    parameters = varying(parameters_of(record))
    return {one.key: one for one in page.panels_of(Scores.of(record), parameters)}


# --- any experiment -----------------------------------------------------------------------


@settings(max_examples=examples(150))
@given(strategies.experiment_records)
@example(of(trial(0, 1.0, x=10**300), trial(1, 1.7e308, x=-(10**300)), trial(2, -1.7e308, x=0)))
def test_no_text_is_read_as_markup(record: ExperimentRecord) -> None:
    """Whatever a name, a parameter or an error is, the page has our tags, and strict JSON."""
    source = page.html(record, "/* plotly.js */")
    source.encode()
    found = Page(source)
    assert found.open == []
    assert {tag for tag, _ in found.tags} <= {*TAGS}
    assert {name for _, attributes in found.tags for name in attributes} <= {*ATTRIBUTES}
    assert len(found.texts["script"]) == 3
    assert len(found.texts["section"]) >= len(PANELS) + 1
    rows = [attributes for tag, attributes in found.tags if tag == "tr"]
    assert len(rows) == len(record.trials) + 1
    links = [attributes["href"] for tag, attributes in found.tags if tag == "a"]
    assert all(str(link).startswith(("http://", "https://")) for link in links)
    data = found.data
    for figure in data["figures"].values():
        for trace in figure["data"]:
            for dimension in trace.get("dimensions", ()):
                dimension.pop("ticktext", None)  # which Plotly sets as plain text
    for one in texts_of(data):
        for tag in ("<b>", "</b>", "<br>", "<extra></extra>"):
            one = one.replace(tag, "")  # noqa: PLW2901 - what is left of it
        assert "<" not in one


@settings(max_examples=examples(60))
@given(strategies.experiment_records)
def test_plotly_knows_every_property(record: ExperimentRecord) -> None:
    """Plotly's own validation accepts each figure."""
    from plotly.graph_objects import Figure

    for one in page.panels_of(Scores.of(record), varying(parameters_of(record))):
        if one.layout is None:
            assert one.note
        else:
            Figure({"data": [*one.data], "layout": one.layout})


@pytest.mark.parametrize("trials", [5, 100, 1000])
def test_every_panel_is_drawn(trials: int) -> None:
    """Of an experiment that has all of it, all is shown."""
    from plotly.graph_objects import Figure

    found = panels_of(experiment(trials, 20, population=True))
    assert set(found) == {*PANELS, "lineage"}
    for one in found.values():
        assert len(Figure({"data": [*one.data], "layout": one.layout}).data)


MIXED = [1, "1", None, True, [1, 2], {"a": 1}, 1.5, "x" * 900]

ODD = {
    "no trials": (of(), "no trials"),
    "no metric": (of(trial(0, 1.0), metric=None), "No metric is known"),
    "all failed": (of(trial(0), trial(1, x=1)), "No trial has reported"),
    "not numbers": (of(trial(0, math.nan), trial(1, math.inf)), "No trial has reported"),
    "one trial": (of(trial(0, 1.0, x=1)), "No parameter"),
    "constant": (of(*(trial(at, at, x=1) for at in range(9))), "No parameter"),
    "equal values": (of(*(trial(at, 1.0, x=at) for at in range(9))), "the same value"),
    "too few": (of(trial(0, 1.0, x=1), trial(1, 2.0, x=2)), "too few trials"),
    "one category": (of(*(trial(at, at, x="a") for at in range(9))), "No parameter"),
    "500 categories": (of(*(trial(at, at, x=f"c{at}") for at in range(500))), "PED-ANOVA"),
    "mixed types": (of(*(trial(at, at, x=x) for at, x in enumerate(MIXED))), "Left out: 1"),
    "no mode": (of(*(trial(at, at, x=at) for at in range(60)), mode=None), "needs a mode"),
    "60 parameters": (
        of(*(trial(at, at, **{f"p{i}": at * i % 7 for i in range(60)}) for at in range(60))),
        "PED-ANOVA",
    ),
    "conditional": (
        of(*(trial(at, at, **({"x": at} if at % 2 else {"y": at})) for at in range(60))),
        "PED-ANOVA",
    ),
}


@pytest.mark.parametrize(("record", "note"), ODD.values(), ids=[*ODD])
def test_odd_experiments(record: ExperimentRecord, note: str) -> None:
    """What can't be drawn says why."""
    from plotly.graph_objects import Figure

    found = panels_of(record)
    assert note in found["importance"].note
    for one in found.values():
        assert one.note or one.layout
        if one.layout:
            Figure({"data": [*one.data], "layout": one.layout})
    assert Page(page.html(record, "")).open == []


# --- what the panels show ------------------------------------------------------------------


def test_the_best_value_so_far() -> None:
    """Each step is an improvement, by the time at which it came."""
    slow = Curve(array("d", [1, 2]), array("d", [10, 70]), array("d", [5, 1]))
    fast = Curve(array("d", [1, 2]), array("d", [20, 30]), array("d", [3, math.nan]))
    trials = [replace(trial(0), curve=slow, last=1.0), replace(trial(1), curve=fast, last=3.0)]
    dots, steps = panels_of(of(*trials))["best-so-far"].data
    assert (steps["x"], steps["y"]) == ([0, 10, 60, 60], [5, 3, 1, 1])
    assert steps["customdata"] == [0, 1, 0]
    assert (dots["x"], dots["y"], dots["customdata"]) == ([10, 60], [3, 1], [1, 0])
    unknown = replace(fast, time=array("d", [math.nan] * 2))
    found = panels_of(of(trials[0], replace(trials[1], curve=unknown)))["best-so-far"]
    assert found.data[1]["x"] == [1, 2, 3]
    assert "order" in found.layout["xaxis"]["title"]["text"]


def test_many_and_long_curves_are_thinned() -> None:
    """Above 200, the best ones and a sample are shown; of each, 300 points and its best."""
    found = panels_of(experiment(300, 3))["curves"]
    assert len(found.data) == 200
    assert "200 of" in found.note
    values = array("d", [5.0] * 10_000)
    values[1234] = 1.0
    curve = Curve(array("d", range(10_000)), values, values)
    (line,) = panels_of(of(replace(trial(0), curve=curve, best=1.0)))["curves"].data
    assert len(line["x"]) == 301
    assert (line["x"][0], line["x"][-1], min(line["y"])) == (0, 9999, 1.0)


def test_a_retry_is_not_joined_to_what_it_repeats() -> None:
    """Where the iterations go back, the line has a gap."""
    curve = Curve(array("d", [1, 2, 2, 3]), array("d", [0] * 4), array("d", [4, 3, 3.5, 2]))
    (line,) = panels_of(of(replace(trial(0), curve=curve, best=2.0)))["curves"].data
    assert line["y"] == [4, 3, None, 3.5, 2]


def test_axes_of_parallel_coordinates() -> None:
    """A log axis where the space has one; categories in their order; a dash for none."""
    space = {
        "lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1},
        "size": {"distribution": "categorical", "values": [8, 64, 16]},
    }
    trials = [trial(0, 3.0, lr=0.001, size=64), trial(1, 2.0, lr=0.1, size=8, only=1.0)]
    trials += [trial(2, 1.0, lr=1.0, size=16, only=2.0), trial(3)]
    panel = panels_of(of(*trials, space=space))["parallel-coordinates"]
    (data,) = panel.data
    lr, size, only, metric = data["dimensions"]
    assert data["ids"] == ["0", "1", "2"]
    assert lr["values"] == pytest.approx([-3, -1, 0])
    labels = [label for label in lr["ticktext"] if label.strip("\N{ZERO WIDTH SPACE}")]
    assert labels == ["0.001", "0.01", "0.1", "1"]
    assert len({*lr["ticktext"]}) == len(lr["tickvals"]) == 28
    assert (size["ticktext"], size["values"]) == (["8", "16", "64"], [2, 0, 1])
    assert only["values"][0] == only["range"][0] < 1
    assert "tickvals" not in only
    assert metric["label"] == "<b>loss</b>"
    assert "1 trial without a value" in panel.note


def test_many_parameters() -> None:
    """The most important ones are shown, and it is said of how many."""
    chance = np.random.default_rng(0)
    rows = chance.random((80, 60)).tolist()
    record = of(
        *(
            trial(at, row[50], **{f"p{i}": x for i, x in enumerate(row)})
            for at, row in enumerate(rows)
        )
    )
    found = panels_of(record)
    (data,) = found["parallel-coordinates"].data
    assert len(data["dimensions"]) == 26
    assert "p50" in {one["label"] for one in data["dimensions"]}
    assert found["slices"].layout["xaxis"]["title"]["text"] == "p50"
    for key in ("parallel-coordinates", "slices"):
        assert "most important of 60 parameters" in found[key].note


def test_an_axis_is_cut_on_its_bad_side_only() -> None:
    """A trial that diverged does not flatten the others; the best are always seen."""
    values = [*np.linspace(1, 2, 40), 1e9, -1e9]
    for mode, inside, outside in (("min", -1e9, 1e9), ("max", 1e9, -1e9)):
        scores = Scores.of(of(*(trial(at, one) for at, one in enumerate(values)), mode=mode))
        low, high = scores.limits(scores.values)
        assert low < inside < high
        assert not low < outside < high
    assert Scores.of(of(trial(0, 1.0))).limits(np.linspace(1, 2, 40)) is None


def test_lineage() -> None:
    """An arrow from each donor, known by its id or by Tune's tag; else only what changed."""
    step = {"iteration": 4, "old": {"lr": 1}, "new": {"lr": 2, "x<y": 3}}
    sources = ["t_00002", "1_lr=0.1@perturbed[lr=2]", "unknown"]
    trials = [
        replace(trial(at, 1.0), iterations=9, perturbations=[{**step, "from_trial": source}])
        for at, source in enumerate(sources)
    ]
    found = panels_of(of(*trials))["lineage"]
    lines, arrows, marks = found.data
    assert lines["x"][1] == 9
    assert arrows["y"] == [2, 0, None, 1, 1, None]
    assert marks["hovertext"][0] == (
        "<b>train_t_00000</b><br>goes on from train_t_00002<br>lr: 1 → 2"
        f"<br>x&lt;y: {text.NOTHING} → 3"
    )
    assert "1 step the source is not known" in found.note
    assert "lineage" not in panels_of(of(trial(0, 1.0)))


def test_the_table() -> None:
    """A row for each trial: the best one marked, errors, values to sort by, a safe link."""
    links = {"t_00000": "https://wandb.ai/r/1?a=1&b=2", "t_00001": "javascript:alert(1)"}
    failed = replace(trial(1, x="a"), reason="ValueError: <b>")
    record = of(trial(0, 0.5, x="b", n=1), failed, links=links)
    source = table.html(Scores.of(record), parameters_of(record))
    found = Page(source)
    assert [attributes.get("class") for tag, attributes in found.tags if tag == "tr"][1:] == [
        "best",
        None,
    ]
    assert found.texts["td"][-1] == "ValueError: <b>"
    assert [attributes["href"] for tag, attributes in found.tags if tag == "a"] == [
        links["t_00000"]
    ]
    values = [attributes.get("data-value") for tag, attributes in found.tags if tag == "td"]
    assert values[1:4] == ["0.5", "0.5", "0.0"]


# --- importance ------------------------------------------------------------------------------


def test_ped_anova_where_there_are_enough_trials() -> None:
    """It finds the parameters that matter, in both modes; below 50 trials, ranks do."""
    chance = np.random.default_rng(1)
    for mode, sign in (("min", 1), ("max", -1)):
        trials = [
            trial(at, sign * ((x - 0.3) ** 2 + 0.3 * (kind == "b")), x=x, noise=noise, kind=kind)
            for at, (x, noise, kind) in enumerate(
                zip(
                    *chance.random((2, 60)).tolist(),
                    chance.choice(["a", "b"], 60).tolist(),
                    strict=True,
                )
            )
        ]
        for number, method in ((50, "PED-ANOVA of 50"), (49, "Rank correlation")):
            record = of(*trials[:number], mode=mode)
            ranking = importance.rank(Scores.of(record), varying(parameters_of(record)))
            assert ranking.method.startswith(method)
            assert {item.name for item in ranking.items} == {"x", "noise", "kind"}
            assert ranking.items[-1].name == "noise" or number == 49


def test_rank_correlation_says_n() -> None:
    """Spearman's, with its sign and the number of trials that have the parameter."""
    trials = [
        trial(at, at**3, x=-at, kind="ab"[at > 3], **({"y": at} if at > 1 else {}))
        for at in range(8)
    ]
    ranking = importance.rank(Scores.of(of(*trials)), varying(parameters_of(of(*trials))))
    by_name = {item.name: item for item in ranking.items}
    assert by_name["x"][1:] == (pytest.approx(1), "-1.00 (n = 8)", -1)
    assert by_name["y"][1:] == (pytest.approx(1), "+1.00 (n = 6)", 1)
    assert by_name["kind"].value == pytest.approx(0.8729, abs=1e-4)
    assert importance.ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1, 3.5, 2]


def test_nothing_global_is_changed() -> None:
    """Optuna's log level and Python's warnings are afterwards what they were."""
    import optuna

    before = optuna.logging.get_verbosity(), [*warnings.filters]
    record = experiment(60, 1)
    assert ped_anova.importances(Scores.of(record), varying(parameters_of(record)))
    assert (optuna.logging.get_verbosity(), [*warnings.filters]) == before


# --- the file --------------------------------------------------------------------------------


def test_one_file_replaced_at_once(tmp_path: Path) -> None:
    """The page is complete, and nothing else is left; a page that can't be made leaves the old."""
    path = tmp_path / "overview.html"
    page.write(experiment(5, 3), path)
    assert [*tmp_path.iterdir()] == [path]
    assert path.stat().st_mode & 0o777 == 0o644
    source = path.read_text(encoding="utf-8")
    assert "plotly.js v" in source
    assert "resnet-cifar10-5" in source
    with pytest.raises(FileNotFoundError):
        page.write(experiment(5, 3), tmp_path / "gone" / "overview.html")
    assert path.read_text(encoding="utf-8") == source


def test_it_is_made_in_seconds(tmp_path: Path) -> None:
    """1,000 trials of 100 results each."""
    record = experiment(1000, 100)
    before = time.process_time()
    page.write(record, tmp_path / "overview.html")
    assert time.process_time() - before < 5


PROGRAM = """
import sys
sys.modules[sys.argv[1]] = None
from pathlib import Path
import overview_samples
from wbtune._overview import page
try:
    page.write(overview_samples.experiment(60, 2), Path("overview.html"))
except ImportError as error:
    print(type(error).__name__, error)
path = Path("overview.html")
print(path.exists())
print(path.exists() and "install Optuna" in path.read_text())
print("ray" in sys.modules, "wandb" in sys.modules)
"""


NO_PLOTLY = (
    "MissingLibraryError No overview.html: Plotly is not installed. "
    "Run: pip install plotly optuna (the extra wbtune[overview])\nFalse\nFalse\nFalse False\n"
)


@pytest.mark.parametrize(
    ("missing", "said"), [("plotly", NO_PLOTLY), ("optuna", "True\nTrue\nFalse False\n")]
)
def test_without_a_library(tmp_path: Path, missing: str, said: str) -> None:
    """Without Plotly, a line says what to install; without Optuna, importance is by rank."""
    env = functions.clean_env(tmp_path)
    env["PYTHONPATH"] = str(Path(overview_samples.__file__).parent)
    assert functions.program(env, tmp_path, "-c", PROGRAM, missing) == said


def test_the_driver_says_how_to_draw_it_later(tmp_path, monkeypatch, capsys):
    """Without Plotly, an experiment ends as well, and its folder is enough for the page."""
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert conclusion.write_overview(overview_samples.experiment(3, 2), str(tmp_path)) is None
    told = capsys.readouterr().out
    assert told.startswith("wbtune: No overview.html: Plotly is not installed. Run: pip install")
    assert told.endswith(f", then: wbtune overview {tmp_path}\n")
