"""Configuration: layers, defaults, and errors that name what to type instead."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError
from rich.console import Console

from fairlead.platform.config import ConfigError, load
from fairlead.platform.files import UserError
from fairlead.platform.knobs import knob_table, knobs
from fairlead.simulators.settings import Settings, knob


class Network(Settings):
    width: int = knob(64, "Neurons per layer.", unit="neurons", usual="32 to 256", ge=1, le=4096)
    depth: int = knob(2, "Layers.", ge=1)


class Steady(Settings):
    name: Literal["steady"] = "steady"
    load: float = knob(0.7, "Offered load.", unit="1", gt=0, lt=1)
    edges: tuple[float, ...] = (1.0, 2.0)


class Trace(Settings):
    name: Literal["trace"] = "trace"
    days: int = 3


class Job(Settings):
    seed: int = 0
    label: str = "run"
    network: Network = Network(width=128)
    scenario: Annotated[Steady | Trace, Field(discriminator="name")] = Steady(load=0.5)
    weights: dict[str, float] = Field(default_factory=dict)
    maximum: int | None = None


def write(folder, text):
    path = folder / "job.toml"
    path.write_text(text, encoding="utf-8")
    return path


def failure(settings_type=Job, *, file=None, overrides=()):
    with pytest.raises(ConfigError) as caught:
        load(settings_type, file=file, overrides=overrides)
    assert isinstance(caught.value, UserError)
    return str(caught.value)


def test_no_input_gives_the_defaults():
    assert load(Job, file=None, overrides=[]) == Job()


def test_overrides_beat_the_file_and_the_file_beats_the_base(tmp_path):
    file = write(tmp_path, "seed = 2\nlabel = 'file'\n[network]\ndepth = 5\n")
    job = load(Job, file=file, overrides=["label=typed"], base={"seed": 1, "maximum": 9})
    assert (job.seed, job.label, job.network.depth, job.maximum) == (2, "typed", 5, 9)


def test_override_values_are_toml_and_bare_words_are_strings():
    typed = [
        "label=two words",
        "seed=7",
        "scenario.edges=[1, 2.5]",
        "weights.a=1e-3",
        "maximum = 4",
    ]
    job = load(Job, file=None, overrides=typed)
    assert (job.label, job.seed, job.maximum) == ("two words", 7, 4)
    assert job.scenario == Steady(load=0.5, edges=(1.0, 2.5))
    assert job.weights == {"a": 0.001}


def test_a_partly_given_section_keeps_the_rest_of_its_default():
    job = load(Job, file=None, overrides=["network.depth=3", "scenario.edges=[4]"])
    assert job.network == Network(width=128, depth=3)
    assert job.scenario == Steady(load=0.5, edges=(4.0,))


def test_naming_another_type_of_a_section_starts_from_that_types_defaults():
    job = load(Job, file=None, overrides=["scenario.name=trace", "scenario.days=5"])
    assert job.scenario == Trace(days=5)


def test_settings_are_immutable():
    with pytest.raises(ValidationError, match="frozen"):
        Job().seed = 3


def test_unknown_key_names_file_line_and_nearest_key(tmp_path):
    file = write(tmp_path, "seed = 1\n\n[network]\ndepth = 2\nwidht = 3\n")
    assert failure(file=file) == (
        f"{file}, line 5: unknown key 'network.widht'; did you mean 'network.width'?"
    )


def test_unknown_key_without_a_near_one_lists_the_known_ones():
    message = failure(overrides=["network.zzz=1"])
    assert message.startswith("override 'network.zzz=1': unknown key 'network.zzz'")
    assert message.endswith("known keys of network: depth, width")


def test_unknown_key_inside_a_choice_of_types_names_only_what_was_typed():
    message = failure(overrides=["scenario.laod=0.3"])
    assert "unknown key 'scenario.laod'; did you mean 'scenario.load'?" in message


def test_unknown_section_is_an_error(tmp_path):
    message = failure(file=write(tmp_path, "[netwrok]\nwidth = 3\n"))
    assert "line 1: unknown key 'netwrok'; did you mean 'network'?" in message


def test_range_error_names_key_value_limits_unit_and_usual_range():
    assert failure(overrides=["network.width=9000"]) == (
        "override 'network.width=9000': network.width = 9000 neurons is not accepted: "
        "must be at least 1 and at most 4096 neurons (usual: 32 to 256 neurons)"
    )


def test_a_pure_number_has_no_unit_in_messages():
    assert failure(overrides=["scenario.load=1.5"]).endswith(
        "scenario.load = 1.5 is not accepted: must be above 0 and below 1"
    )


def test_every_mistake_is_reported_at_once(tmp_path):
    file = write(tmp_path, "seed = 'many'\n[network]\nwidth = 0\nheight = 1\n")
    lines = failure(file=file).splitlines()
    assert len(lines) == 3
    assert [line.split(":")[0].split(", ")[1] for line in lines] == ["line 1", "line 3", "line 4"]


def test_wrong_type_inside_a_mapping_names_the_entry():
    assert 'weights.a = "x" is not accepted' in failure(overrides=["weights.a=x"])


def test_an_unknown_choice_of_type_lists_the_known_ones():
    message = failure(overrides=["scenario.name=spiral"])
    assert message.startswith("override 'scenario.name=spiral'")
    assert "'steady', 'trace'" in message


@pytest.mark.parametrize("override", ["network.width", "=3", "network..width=3", "a=[1,"])
def test_malformed_overrides_are_quoted_back(override):
    assert failure(overrides=[override]).startswith(f"override {override!r}: ")


def test_broken_toml_names_file_and_line(tmp_path):
    file = write(tmp_path, "seed = 1\nlabel = \n")
    message = failure(file=file)
    assert message.startswith(f"{file}: not valid TOML") and "line 2" in message


def test_missing_file_and_binary_file_are_clear_errors(tmp_path):
    missing = tmp_path / "none.toml"
    assert failure(file=missing) == (
        f"cannot read configuration {missing}: No such file or directory"
    )
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"seed = 1\n\xff")
    assert "not UTF-8 text (byte 9)" in failure(file=binary)


def test_knobs_list_every_leaf_with_its_notes():
    found = {knob.name: knob for knob in knobs(Job)}
    assert list(found) == [
        "seed",
        "label",
        "network.width",
        "network.depth",
        "scenario.name",
        "scenario.load",
        "scenario.edges",
        "weights",
        "maximum",
    ]
    width = found["network.width"]
    assert (width.value, width.unit, width.usual) == (128, "neurons", "32 to 256")
    assert width.limits == "at least 1 and at most 4096"
    assert found["scenario.name"].limits == "steady"


def test_knob_table_prints_brackets_and_values_as_typed(capsys):
    Console(width=160).print(knob_table(Job(scenario=Steady(edges=(3.0,)))))
    printed = capsys.readouterr().out
    assert "[3.0]" in printed and "Offered load." in printed and "32 to 256" in printed
