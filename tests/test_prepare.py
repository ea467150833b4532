"""``prepare``: every problem in one report, a table that can be read back, and near-duplicates kept together."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from liverattn import prepare
from liverattn.configuration import config_folder
from liverattn.data.manifest import Manifest
from tests.conftest import Result

Command = Callable[..., Result]


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """Twelve cases of six patients in a folder of their own; case11 is a darker copy of case0, of another patient."""
    folder = tmp_path / "hospital"
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    rows = ["image_id,path,patient_id,lesion,malignant,boxes,remark"]
    for i in range(12):
        image = np.clip(110 + 200 * cv2.GaussianBlur(random.normal(size=(240, 345)), (0, 0), 3), 15, 255)
        if i == 0:
            first = image
        cv2.imwrite(str(folder / "images" / f"{i}.png"), (first * 0.7 if i == 11 else image).astype(np.uint8))
        boxes = '"[[20, 30, 120, 110]]"' if i % 4 == 1 else ""
        rows.append(f"case{i},images/{i}.png,secret{i // 2},{i % 2},{i // 2 % 2 if i % 2 else ''},{boxes},x")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder


def of(folder: Path, *more: str) -> list[str]:
    outputs = f"paths.outputs={folder.parent / 'outputs'}"
    return ["data=manifest", f"data.manifest={folder / 'cases.csv'}", outputs, *more]


def checked(folder: Path) -> Path:
    return folder.parent / "outputs" / "checked" / "manifest"


def fingerprint(result: Result) -> str:
    assert result.status == 0, result.err
    (found,) = re.findall(r"data fingerprint (\w+)", result.out)
    return str(found)


def test_warnings_do_not_fail_and_everything_is_written(command: Command, hospital: Path) -> None:
    result = command(prepare.main, *of(hospital))
    assert result.status == 0 and result.err == ""
    folder = checked(hospital)
    assert sorted(path.name for path in folder.iterdir()) == [
        "cases.csv", "check.html", "check.json", "duplicates.csv"
    ]  # fmt: skip
    page, numbers = (folder / "check.html").read_text(), json.loads((folder / "check.json").read_text())
    said = [
        "3 lesion image(s) without boxes",
        "column(s) not used: remark",
        "1 near-duplicate pair(s) of different patients",
        "1 near-duplicate pair(s) have different labels",
    ]
    for words in said:
        assert f"Warning: {words}" in result.out or words in result.out
        assert words in page and any(words in warning for warning in numbers["warnings"])
    assert f"Look at:         {folder / 'check.html'}" in result.out
    assert "12 images (form of Table 1)" in result.out and numbers["counts"] == {"none": 6, "benign": 3, "malignant": 3}
    assert page.count("<figure>") == 2 + 12 and "Research use only." in page
    assert "secret" not in page and "secret" not in result.out  # patients stay in the table
    pairs = pd.read_csv(folder / "duplicates.csv").to_dict("records")
    assert [(pair["image_id_a"], pair["image_id_b"], pair["same_patient"]) for pair in pairs] == [
        ("case0", "case11", False)
    ]


def test_the_written_table_reads_back_as_the_same_data(command: Command, hospital: Path) -> None:
    before = fingerprint(command(prepare.main, *of(hospital)))
    table, root = checked(hospital) / "cases.csv", f"data.root={hospital}"
    again = [f"data.manifest={table}", root]
    content = table.read_text()
    annotated = content.replace("case3,", "case03,")
    table.write_text(annotated)
    after = command(prepare.main, *of(hospital, *again))
    assert fingerprint(after) != before and table.read_text() == annotated  # a table in use is never written over
    table.write_text(content)
    assert fingerprint(command(prepare.main, *of(hospital, *again))) == before


def test_near_duplicates_can_be_kept_together(command: Command, hospital: Path) -> None:
    apart = fingerprint(command(prepare.main, *of(hospital)))
    result = command(prepare.main, *of(hospital, "data.group_duplicates=true"))
    assert fingerprint(result) != apart
    assert "of different patients" not in result.out
    page = (checked(hospital) / "check.html").read_text()
    assert "6 patients became 5 groups" in page and "same patient" in page
    table = pd.read_csv(checked(hospital) / "cases.csv").set_index("image_id")["patient_id"]
    assert table["case10"] == table["case11"] == table["case0"] == table["case1"] == "secret0"
    assert table["case2"] == "secret1"


def test_the_audit_can_be_switched_off(command: Command, hospital: Path) -> None:
    result = command(prepare.main, *of(hospital, "audit=false"))
    assert result.status == 0 and "near-duplicate" not in result.out and "without boxes" in result.out
    page = (checked(hospital) / "check.html").read_text()
    assert "Near-duplicates" not in page and "Shortcut audit" not in page
    assert not (hospital.parent / "outputs" / "prepared" / "duplicates").exists()


def test_what_is_run_next_trains_on_these_data_as_it_stands(command: Command, hospital: Path) -> None:
    given = of(hospital, "data.name=clinic", 'data.exclude=["case1"]')
    result = command(prepare.main, "audit=false", *given)
    (line,) = [line for line in result.out.splitlines() if line.startswith("Next: python -m liverattn.train ")]
    options = shlex.split(line)[4:]
    assert options == ["+experiment=resnet_240", *given, "~data.tasks.type"]  # the hospital knows no types
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        assert list(compose("train", options).data.tasks) == ["lesion", "malignancy"]
    refused = command(prepare.main, "audit=false", *given, "data.tasks.type=cyst")
    assert refused.status == 1 and "Error: Expected data.tasks.type to be null or to have outputs" in refused.err


def test_what_teaches_nothing_is_not_trained_on(command: Command, hospital: Path) -> None:
    table = pd.read_csv(hospital / "cases.csv", dtype=str)
    table.assign(lesion="0", malignant="", type="", boxes="").to_csv(hospital / "cases.csv", index=False)
    result = command(prepare.main, "audit=false", *of(hospital))
    assert result.status == 0 and "no image shows a lesion" in result.out and "Next:" not in result.out


def test_every_violation_is_in_the_report(command: Command, hospital: Path) -> None:
    path = hospital / "cases.csv"
    for i in range(80):
        shutil.copy(hospital / "images" / "1.png", hospital / "images" / f"bad{i}.png")
    wrong = "".join(f"bad{i},images/bad{i}.png,p,{i + 2},,,\n" for i in range(80))
    path.write_text(path.read_text() + wrong)
    result = command(prepare.main, *of(hospital))
    report = checked(hospital) / "check.html"
    assert result.status == 1 and "Traceback" not in result.err
    assert "80 problem(s)" in result.err and "bad49" in result.err and "and 30 more" in result.err
    assert f"Report: {report}" in result.out and "bad79" not in result.err
    page = report.read_text()
    assert page.count("<li>") == 80 and "Correct these rows" in page
    assert all(f"row {14 + i} (image_id &#39;bad{i}&#39;)" in page for i in range(80))


def test_what_is_no_list_of_problems_replaces_an_older_report_too(command: Command, hospital: Path) -> None:
    assert command(prepare.main, *of(hospital, "audit=false")).status == 0
    (hospital / "cases.csv").rename(hospital / "away.csv")
    result = command(prepare.main, *of(hospital))
    assert result.status == 1 and "does not exist" in result.err
    page = (checked(hospital) / "check.html").read_text()
    assert "cannot be used yet" in page and "does not exist" in page and "<li>" not in page


def test_many_warnings_stay_on_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    from liverattn.data.audit import Audit

    manifest = Manifest(pd.DataFrame(), Path(), notes=("2 box(es) were turned",))
    prepare.show(manifest, Audit({"none": 1}, {}, [f"number {i}" for i in range(100)], None, pd.DataFrame(), []))
    out = capsys.readouterr().out
    assert out.count("Warning: ") == 13 and "Warning: ... and 88 more in the report" in out
    assert "Import: 2 box(es) were turned" in out
