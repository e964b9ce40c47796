"""One declaration of the hyperparameters, and all that is made of it: nothing is listed here."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any, get_type_hints

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from numpydoc.docscrape import NumpyDocString

import dqlearn
from dqlearn import QLearner, envs
from dqlearn.algorithms.federated import MERGES, Federated
from dqlearn.cli.hyperparameters import hyperparameter_options
from dqlearn.cli.learning import train
from dqlearn.envs import torus
from dqlearn.envs.resolve import resolve
from dqlearn.errors import ConfigurationError
from dqlearn.schedules import Constant, Linear, VisitCount
from dqlearn.stages.plan import Plan
from dqlearn.stages.settings import (
    HYPERPARAMETERS,
    Hyperparameter,
    Hyperparameters,
    Settings,
    attributes,
    from_attributes,
    loaded,
)
from dqlearn.stages.settings import kinds as k
from dqlearn.stages.settings.federation import Federation
from dqlearn.stages.settings.hyperparameters import REQUIRED

ROOT = Path(dqlearn.__path__[0]).parent
MODEL = torus(side=4)
each = pytest.mark.parametrize("name", HYPERPARAMETERS)


def values_of(kind: k.Kind) -> st.SearchStrategy[Any]:
    """Values of a kind, as users write them."""
    match kind:
        case k.Integer(least, most):
            return st.integers(least, 2**40 if most is None else most)
        case k.Number(least, most):
            return st.floats(max(least, -1e9), min(most, 1e9))
        case k.Values():
            return st.floats(-1e9, 1e9)
        case k.Seconds():
            return st.floats(1e-3, 1e6)
        case k.Flag():
            return st.booleans()
        case k.OneOf() | k.FloatType() | k.Rule():
            return st.sampled_from(kind.names)
        case k.Scheduled(visits):
            ramps = st.builds(Linear, *[st.floats(0, 1)] * 2, st.integers(1, 2**40))
            rates = [st.builds(VisitCount, st.floats(0.5, 1))] if visits else []
            return st.one_of(st.floats(0, 1), ramps, *rates)
        case k.ChunkSizes():
            sizes = st.lists(st.integers(1, 9), min_size=1).map(tuple)
            return st.one_of(st.integers(1, 99), st.tuples(sizes, sizes))
        case Federation():
            counts = st.integers(3, 99), st.integers(1, 99)
            some = st.builds(Federated, *counts, st.sampled_from(MERGES))
            return st.one_of(some, some.map(lambda it: it.text), counts[0].map(str))
    raise AssertionError(f"no values of {kind}")


# what a user sees of QLearner


def test_the_signature() -> None:
    """Type checkers read the declaration itself; everybody else, arguments by their names."""
    for function in (QLearner.__init__, QLearner.load, dqlearn.load):
        assert function.__annotations__["settings"] == "Unpack[Hyperparameters]"
    shown = inspect.signature(QLearner).parameters
    own = {"env", "bins", "env_kwargs", "compile"}
    assert [name for name in shown if name not in own] == [*HYPERPARAMETERS]
    types = get_type_hints(Hyperparameters)
    for name, it in HYPERPARAMETERS.items():
        assert shown[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert (shown[name].default, shown[name].annotation) == (it.shown_default, types[name])


def test_the_docstring() -> None:
    said = {it.name: it for it in NumpyDocString(QLearner.__doc__)["Parameters"]}
    assert [*said] == [*inspect.signature(QLearner).parameters]
    for name, it in HYPERPARAMETERS.items():
        assert said[name].type == it.label
        assert " ".join(said[name].desc) == it.description


def test_every_one_is_described() -> None:
    for it in HYPERPARAMETERS.values():
        assert it.summary.endswith(".")
        assert it.doc.startswith(it.summary.partition(" Unit:")[0])
        assert len(it.summary) < 100


def test_a_name_of_none_is_refused() -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'num_env': .*num_envs"):
        QLearner(MODEL, num_env=4)  # type: ignore[call-arg]


# checks, defaults and recipes


@each
@given(data=st.data())
def test_a_check_is_made_once_or_twice(name: str, data: st.DataObject) -> None:
    """What is checked is Python's own, and passes again; NumPy's numbers pass too."""
    it = HYPERPARAMETERS[name]
    value = data.draw(values_of(it.kind))
    checked = it.check(name, value)
    assert it.check(name, checked) == checked
    if type(value) in (int, float) and not isinstance(it.kind, k.ChunkSizes):
        again = it.check(name, np.array([value])[0])
        assert (again, type(again)) == (checked, type(checked))


@each
def test_what_is_none_of_the_kind_is_refused_by_name(name: str) -> None:
    if not isinstance(HYPERPARAMETERS[name].kind, k.ChunkSizes):  # which the grid checks
        with pytest.raises(ConfigurationError, match=f"^{name} must .*got .*nothing"):
            QLearner(MODEL, **{name: ["nothing"]})


@each
def test_defaults(name: str) -> None:
    """Given as it stands in the signature, or not at all, is the same."""
    it = HYPERPARAMETERS[name]
    assert Settings.of({name: it.shown_default}) == Settings.of({})
    assert Settings.of({}).values[name] == it.check(name, it.default)  # type: ignore[literal-required]
    plan = Settings.of({}).plan(resolve(MODEL), 2)
    assert getattr(plan, name) is not None or it.default is None


def test_recipes_say_what_an_environment_may_bring() -> None:
    """All else that a recipe said would be passed over."""
    families = [getattr(envs, name) for name in envs.__all__]
    recipes = [it for family in families for it in getattr(family, "recipes", {}).values()]
    advised = {name for name, it in HYPERPARAMETERS.items() if it.advised}
    assert recipes
    for recipe in recipes:
        assert recipe.settings.keys() <= advised


# stored tables


@each
@given(data=st.data())
def test_what_is_stored_comes_back(name: str, data: st.DataObject) -> None:
    it = HYPERPARAMETERS[name]
    value = it.check(name, data.draw(values_of(it.kind)))
    if value == getattr(it.kind, "open_", None):
        return  # a plan has none that is open
    stored = json.loads(json.dumps({name: it.kind.dump(value)}))
    assert loaded(stored, [name]) == {name: value}


@pytest.mark.parametrize("sparse", [False, True])
def test_a_table_says_all_of_them(sparse: bool) -> None:
    learner = QLearner(MODEL, sparse=sparse, env_timeout=2.5, learning_rate=VisitCount(0.8))
    attrs = json.loads(json.dumps(learner.table.to_xarray().attrs))
    assert HYPERPARAMETERS.keys() <= attrs.keys()
    plan, settled = learner._plan, from_attributes(attrs)
    again = settled.plan(learner._resolved, 99)
    for name in HYPERPARAMETERS:
        assert getattr(again, name) == getattr(plan, name), name
    assert attributes(again, learner._resolved).items() <= attrs.items()


def test_tables_of_before_a_hyperparameter() -> None:
    """They say what held then, or they are none: a value is never made up in silence."""
    attrs = attributes(Settings.of({}).plan(resolve(MODEL), 2), resolve(MODEL))
    for name, it in HYPERPARAMETERS.items():
        less = {key: value for key, value in attrs.items() if key != name}
        if it.earlier is REQUIRED:
            with pytest.raises(KeyError, match=name):
                loaded(less, HYPERPARAMETERS)
        else:
            then = loaded(less, HYPERPARAMETERS)[name]
            assert then == it.check(name, it.kind.load(it.earlier))


# the command line


def test_the_options() -> None:
    options = {it.name: it for it in train.params}
    for name, it in HYPERPARAMETERS.items():
        option = options[name]
        assert isinstance(option, click.Option)
        assert option.opts == [f"--{name.replace('_', '-')}"]
        assert (option.default, option.help) == (it.shown_default, it.summary)
        assert option.is_flag == isinstance(it.kind, k.Flag)


@each
@given(data=st.data())
def test_what_an_option_reads_is_what_the_check_makes_of_it(name: str, data: st.DataObject) -> None:
    it = HYPERPARAMETERS[name]
    (option,) = (option for option in train.params if option.name == name)
    value = data.draw(values_of(it.kind))
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        assert it.check(name, option.type.convert(str(value), option, None)) == it.check(
            name, value
        )


# the reference


def test_the_table_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    monkeypatch.delitem(sys.modules, "declared", raising=False)
    from declared import TABLES, list_table

    assert ".. declared:: hyperparameters" in (ROOT / "docs/reference/index.md").read_text()
    text = list_table(TABLES["hyperparameters"]())
    for name, it in HYPERPARAMETERS.items():
        assert f"* - ``{name}``\n     - {it.kind.label}\n" in text
        assert f"- {it.summary}" in text


# one more


def test_another_one_takes_its_declaration_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of something: checked, stored, read back and an option, with no other line."""
    kind = k.OneOf(("forward", "backward"))
    order = Hyperparameter(kind, "forward", "The order. More of it.", earlier="forward")
    monkeypatch.setitem(HYPERPARAMETERS, "order", order)  # type: ignore[arg-type]
    monkeypatch.setattr(Plan, "order", "backward", raising=False)
    assert Settings.of({}).values["order"] == "forward"  # type: ignore[typeddict-item]
    with pytest.raises(ConfigurationError, match="order must be 'forward' or 'backward'"):
        Settings.of({"order": "sideways"})
    resolved = resolve(MODEL)
    attrs = attributes(Settings.of({}).plan(resolved, 1), resolved)
    assert attrs["order"] == "backward"
    assert from_attributes(attrs).values["order"] == "backward"  # type: ignore[typeddict-item]
    assert loaded({}, ["order"]) == {"order": "forward"}

    @click.command()
    @hyperparameter_options
    def command(order: str, **others: Any) -> None:
        click.echo(order)

    assert CliRunner().invoke(command, ["--order", "backward"]).output == "backward\n"
    assert Settings.of({"epsilon": 0.5}).values["epsilon"] == Constant(0.5)
