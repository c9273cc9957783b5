"""Finding a model's pipeline."""

import pytest

from lastgood.errors import LastgoodError
from lastgood.pipelines.errors import PipelineError, PipelineNotFoundError
from lastgood.pipelines.find import BUILT_IN, find_pipeline
from lastgood.refs import InvalidRefError
from lastgood.settings import Settings, load_settings

CLASS = "from lastgood.pipelines import Pipeline\nclass {}(Pipeline):\n    pass\n"


def write(project: Settings, name: str, text: str) -> None:
    path = project.project / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")


def test_a_file_of_the_models_name_is_found_in_the_project(project: Settings) -> None:
    """quick.py holds the pipeline of quick."""
    found = find_pipeline(project, "quick")
    assert (type(found.pipeline).__name__, found.file) == ("Quick", project.project / "quick.py")


def test_a_file_in_the_pipelines_folder_is_found_and_dashes_become_underscores(project: Settings) -> None:
    """The model my-churn is in pipelines/my_churn.py."""
    write(project, "pipelines/my_churn.py", CLASS.format("Churn"))
    assert type(find_pipeline(project, "my-churn").pipeline).__name__ == "Churn"


def test_the_settings_name_file_and_class(project: Settings) -> None:
    """A file with several pipelines needs the class named, and any file may be."""
    write(project, "all.py", CLASS.format("One") + CLASS.format("Two"))
    write(project, "lastgood.toml", '[models.churn]\npipeline = "all.py:Two"\n')
    assert type(find_pipeline(load_settings(project.project), "churn").pipeline).__name__ == "Two"


@pytest.mark.parametrize("model", sorted(BUILT_IN))
def test_the_built_in_ones_need_no_file(project: Settings, model: str) -> None:
    """Digits and tumour can be released from any folder."""
    assert type(find_pipeline(project, model).pipeline).__name__.lower() == model


def test_a_projects_own_file_wins_over_a_built_in_one(project: Settings) -> None:
    """A digits.py of the project is the pipeline of digits."""
    write(project, "digits.py", CLASS.format("Mine"))
    assert type(find_pipeline(project, "digits").pipeline).__name__ == "Mine"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1\n", "broken.py has no Pipeline class; expected exactly one"),
        (CLASS.format("One") + CLASS.format("Two"), "broken.py has One, Two; expected exactly one"),
        ("import json\n\nfour = 4 / 0\n", r"broken.py, line 3, failed in import: ZeroDivisionError.*The line is: four = 4 / 0"),
        ("import nothing_of_this_name\n", "line 1, failed in import: ModuleNotFoundError"),
        ("def load(:\n", "broken.py, line 1, cannot be read"),
        (CLASS.format("One") + "    def __init__(self):\n        self.x = {}['gone']\n", r"line 5, failed in One\(\): KeyError"),
    ],
)
def test_an_error_in_the_users_file_shows_its_line(project: Settings, text: str, sentence: str) -> None:
    """Whatever is wrong with the file is a sentence that points into it."""
    write(project, "broken.py", text)
    with pytest.raises(PipelineError, match=sentence):
        find_pipeline(project, "broken")


def test_an_unknown_model_says_where_was_looked_and_what_to_do(project: Settings) -> None:
    """The message names the files, the setting, the built-in ones and `lastgood new`."""
    with pytest.raises(
        PipelineNotFoundError, match=r"no churn.py or pipelines/churn.py.*built-in ones are digits, tumour.*lastgood new churn"
    ):
        find_pipeline(project, "churn")


@pytest.mark.parametrize(
    ("target", "error"),
    [("gone.py:Churn", PipelineNotFoundError), ("gone.module:Churn", PipelineNotFoundError), ("quick.py:Slow", PipelineError)],
)
def test_a_setting_that_names_nothing_is_told(project: Settings, target: str, error: type[LastgoodError]) -> None:
    """A file, module or class that is not there is not silently replaced by another."""
    write(project, "lastgood.toml", f'[models.quick]\npipeline = "{target}"\n')
    with pytest.raises(error, match=target.partition(":")[2 if error is PipelineError else 0]):
        find_pipeline(load_settings(project.project), "quick")


def test_a_name_that_cannot_be_a_model_is_no_path(project: Settings) -> None:
    """A model's name is never used to leave the folder."""
    with pytest.raises(InvalidRefError):
        find_pipeline(project, "../quick")
