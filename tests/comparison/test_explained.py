"""Recorded outputs of fold runs, averaged: against the files, computed another way."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from liverattn.comparison.architectures import finished_runs
from liverattn.comparison.explained import Data, Explained, explain
from liverattn.comparison.subjects import Member, Subject, one_run
from liverattn.errors import InputError
from liverattn.runs import RunFolder
from liverattn.training.outputs import read_outputs
from tests.comparison.explained_runs import CLINIC, EPOCH, GRID, attention_logits, data, recorded_run


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return data(tmp_path_factory.mktemp("clinic"))


def ensemble(outputs: Path, clinic: Data, repeats: Sequence[int], grids: Sequence[tuple[int, int]]) -> Subject:
    """Members ``a``, ``b``... with weights 1, 2...; all folds of the repeats."""
    members = []
    for k, grid in enumerate(grids):
        for repeat in repeats:
            for fold in range(2):
                recorded_run(outputs, "ab"[k], clinic, repeat, fold, grid=grid)
        runs = {run.cell: run for run in finished_runs(outputs / "runs" / "ab"[k])}
        members.append(Member("ab"[k], (k + 1) / sum(range(1, len(grids) + 1)), runs))
    return Subject(outputs, "ensemble", "paper", tuple(members))


def recorded(outputs: Path, name: str, image: str, repeat: int, grid: tuple[int, int]) -> np.ndarray:
    """Attention logits of one image, straight from what was written."""
    fold = CLINIC.fold_of(repeat)[image]
    held_out = [other for other in CLINIC.images if CLINIC.fold_of(repeat)[other] == fold]
    return attention_logits(grid, len(held_out), [repeat, fold, *grid])[held_out.index(image)].astype(np.float64)


def map_of(scores: np.ndarray) -> np.ndarray:
    """Eq. 3 with lambda 1."""
    return np.asarray(expit(scores) / expit(scores).sum())


def test_a_run_gives_what_it_recorded(tmp_path: Path, clinic: Data) -> None:
    run = recorded_run(tmp_path, "a", clinic, 0, 1)
    explained = explain(one_run(run.path), [clinic])
    held_out = sorted(image for image in CLINIC.images if CLINIC.fold_of(0)[image] == 1)
    assert explained.table["image_id"].tolist() == held_out
    predictions = run.read_predictions().query("protocol == 'paper' and task == 'type'").set_index("image_id")
    k = CLINIC.outputs.index("cyst")
    np.testing.assert_allclose(explained.probability[:, k], expit(predictions.loc[held_out, "logit_cyst"]), rtol=1e-6)
    np.testing.assert_array_equal(explained.truth[:, k], predictions.loc[held_out, "truth_cyst"])
    for place, image in enumerate(held_out):
        expected = recorded(tmp_path, "a", image, 0, GRID)
        np.testing.assert_allclose(explained.scores["type"][place], expected, rtol=1e-9)
        np.testing.assert_allclose(explained.weights["lesion"][place], map_of(expected), rtol=1e-5)
        row = clinic.manifest.table.index[clinic.manifest.table["image_id"] == image][0]
        pixels = clinic.cases.image(row) * clinic.cases.factors[row]
        np.testing.assert_array_equal(explained.image(place), pixels)
        np.testing.assert_array_equal(explained.boxes(place), clinic.cases.boxes[row])


def test_an_ensemble_averages_members_and_repeats(tmp_path: Path, clinic: Data) -> None:
    subject = ensemble(tmp_path, clinic, [0, 1], [GRID, (2, 3)])
    explained = explain(subject, [clinic, clinic])
    assert explained.table["image_id"].tolist() == CLINIC.images
    assert explained.scores["lesion"].shape == (len(CLINIC.images), *GRID)  # the finest grid
    for place, image in enumerate(CLINIC.images):
        fine = [recorded(tmp_path, "a", image, repeat, GRID) for repeat in (0, 1)]
        coarse = [recorded(tmp_path, "b", image, repeat, (2, 3)) for repeat in (0, 1)]
        spread = [np.kron(map_of(scores), np.ones((2, 2))) / 4 for scores in coarse]
        expected = sum(map_of(scores) for scores in fine) / 6 + 2 * sum(spread) / 6
        np.testing.assert_allclose(explained.weights["malignancy"][place], expected, rtol=1e-5)
        mean = sum(expit(s) for s in fine) / 6 + 2 * sum(np.kron(expit(s), np.ones((2, 2))) for s in coarse) / 6
        np.testing.assert_allclose(expit(explained.scores["malignancy"][place]), mean, rtol=1e-5)
    parts = []
    for member in subject.members:
        tables = [run.folder.read_predictions() for run in member.runs.values()]
        rows = pd.concat(tables).query("protocol == 'paper' and task == 'malignancy'")
        parts.append(member.weight * expit(rows.set_index("image_id")["logit_malignancy"]).groupby(level=0).mean())
    np.testing.assert_allclose(explained.probability[:, 1], sum(parts), rtol=1e-5)


def test_a_task_without_a_copy_in_some_fold_has_no_map_there(tmp_path: Path, clinic: Data) -> None:
    run = recorded_run(tmp_path, "a", clinic)
    table = run.read_predictions()
    run.write_predictions(table[table["task"] != "lesion"])
    explained = explain(one_run(run.path), [clinic])
    assert np.isnan(explained.scores["lesion"]).all() and np.isnan(explained.probability[:, 0]).all()
    assert explained.seen_task == "malignancy"
    assert explained.quality("lesion")["peak"].isna().all()
    assert explained.quality("malignancy")["peak"].notna().all()


def test_quality_by_hand(tmp_path: Path, clinic: Data) -> None:
    explained = explain(one_run(recorded_run(tmp_path, "a", clinic).path), [clinic])
    weights, scores = np.zeros((len(explained.rows), *GRID)), np.full((len(explained.rows), *GRID), -5.0)
    cyst = explained.table.index[explained.table["type"] == "cyst"][0]
    x0 = explained.boxes(cyst)[0, 0]  # type: ignore[index]
    cell = int(x0 // 16) + 1  # wholly inside the box, of 32 pixels, in the second row
    weights[cyst, 1, cell], weights[cyst, 3, 0], scores[cyst, 1, cell] = 0.75, 0.25, 5
    shown = Explained(**{**vars(explained), "weights": {"lesion": weights}, "scores": {"lesion": scores}})
    found = shown.quality("lesion").loc[cyst]
    chance = 32 * 16 / (64 * 96)
    assert (found["pointing"], found["energy"]) == (1, 0.75)
    assert found["chance"] == pytest.approx(chance) and found["lift"] == pytest.approx(0.75 / chance)
    assert found["iou"] == pytest.approx(16 * 16 / (32 * 16))
    free = explained.table.index[explained.table["lesion"] == 0][0]
    assert np.isnan(shown.quality("lesion").loc[free, "energy"])


def test_other_images_than_the_runs_are_refused(tmp_path: Path, clinic: Data) -> None:
    run = recorded_run(tmp_path, "a", clinic)
    run.update_record(data="0" * 64)
    with pytest.raises(InputError, match=rf"not those that {run.path} was made from.*that of the run 000000000000"):
        explain(one_run(run.path), [clinic])


def damage_epoch(run: RunFolder) -> None:
    run.epoch(EPOCH).write_bytes(run.epoch(EPOCH).read_bytes()[:200])


def lose_epoch(run: RunFolder) -> None:
    run.epoch(EPOCH).unlink()


def lose_predictions(run: RunFolder) -> None:
    run.predictions.write_bytes(b"")


def damage_split(run: RunFolder) -> None:
    run.split.write_text("{}")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (damage_epoch, "003.safetensors cannot be read"),
        (lose_epoch, "003.safetensors cannot be read"),
        (lose_predictions, r"predictions\.parquet cannot be read"),
        (damage_split, r"split\.json cannot be used"),
    ],
)
def test_damage_is_refused_by_name(tmp_path: Path, clinic: Data, damage: object, named: str) -> None:
    run = recorded_run(tmp_path, "a", clinic)
    damage(run)  # type: ignore[operator]
    with pytest.raises(InputError, match=named):
        explain(one_run(run.path), [clinic])


def test_an_epoch_that_lacks_an_image_is_refused(tmp_path: Path, clinic: Data) -> None:
    run = recorded_run(tmp_path, "a", clinic)
    outputs = read_outputs(run.epoch(EPOCH))
    outputs.only(outputs.rows[1:]).write(run.epoch(EPOCH))
    with pytest.raises(InputError, match="lacks a held-out image"):
        explain(one_run(run.path), [clinic])


def test_fold_runs_that_saw_what_they_hold_out_are_refused(tmp_path: Path, clinic: Data) -> None:
    subject = ensemble(tmp_path, clinic, [0], [GRID])
    run = subject.members[0].runs[0, 0].folder
    text = run.split.read_text()
    held_out = next(image for image in CLINIC.images if CLINIC.fold_of(0)[image] == 0)
    run.split.write_text(text.replace('"train": [', f'"train": ["{held_out}", '))
    with pytest.raises(InputError, match="was trained on the patient"):
        explain(subject, [clinic])
