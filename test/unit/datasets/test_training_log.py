from __future__ import annotations

import numpy as np
import pytest

from edge_vision.datasets import DatasetError
from edge_vision.datasets.training_log import read_training_log


def read(tmp_path, content: str, **columns: str):
    (tmp_path / "log.csv").write_text(content)
    return read_training_log(tmp_path / "log.csv", **columns)


def test_keras(tmp_path):
    log = read(tmp_path, "epoch,accuracy,loss,val_accuracy,val_loss\n0,0.5,1.5,0.4,1.6\n1,0.6,1.25,0.5,1.5\n")
    assert log.train.tolist() == [1.5, 1.25]
    assert log.val is not None
    assert log.val.tolist() == [1.6, 1.5]
    assert log.score is not None
    assert log.score.tolist() == [0.4, 0.5]
    assert log.columns == {"train": "loss", "val": "val_loss", "score": "val_accuracy"}


def test_ultralytics_parts_are_summed(tmp_path):
    heads = "epoch, time, train/box_loss, train/cls_loss, train/dfl_loss, metrics/precision(B), metrics/mAP50(B)"
    heads += ", metrics/mAP50-95(B), val/box_loss, val/cls_loss, val/dfl_loss, lr/pg0"
    log = read(
        tmp_path, f"{heads}\n1, 10, 1, 2, 3, .5, .6, .4, 2, 3, 4, .01\n2, 20, 1, 1, 1, .5, .7, .5, 1, 1, 1, .01\n"
    )
    assert log.train.tolist() == [6, 3]
    assert log.val is not None
    assert log.val.tolist() == [9, 3]
    assert log.score is not None
    assert log.score.tolist() == [0.4, 0.5]
    assert log.columns["train"] == "train/box_loss + train/cls_loss + train/dfl_loss"


def test_lightning_rows_of_an_epoch_are_joined(tmp_path):
    rows = [
        "epoch,step,train_loss_epoch,train_loss_step,val_loss",
        "0,10,,2.0,",
        "0,20,,1.0,",
        "0,20,,,1.8",
        "0,20,1.5,,",
    ]
    rows += ["1,40,,,1.6", "1,40,1.2,,"]
    log = read(tmp_path, "\n".join(rows))
    assert log.train.tolist() == [1.5, 1.2]
    assert log.val is not None
    assert log.val.tolist() == [1.8, 1.6]
    by_step = read(tmp_path, "epoch,step,train_loss_step\n0,10,2.0\n0,20,1.0\n1,30,0.5\n")
    assert by_step.train.tolist() == [1.5, 0.5]


def test_plain_names_other_separators_and_no_epochs(tmp_path):
    log = read(tmp_path, "\ufeffTrain Loss;Valid Loss\n3;4\n2;3\n")
    assert log.epochs.tolist() == [1, 2]
    assert log.train.tolist() == [3, 2]
    assert log.val is not None
    named = read(tmp_path, "a\tb\n3\t4\n2\t3\n", train="b", val="a")
    assert named.train.tolist() == [4, 3]


def test_nan_is_stated_and_an_empty_cell_is_not(tmp_path):
    log = read(tmp_path, "epoch,loss,val_loss\n1,2,3\n2,nan,\n3,inf,2\n4,,\n")
    assert log.epochs.tolist() == [1, 2, 3]
    assert np.isnan(log.train[1])
    assert log.val_stated is not None
    assert log.val_stated.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("epoch,loss\n", {}, "no rows"),
        ("epoch,speed\n1,2\n", {}, "no column is known as the training loss.*epoch, speed"),
        ("epoch,loss\n1,2\n2,x\n", {}, "row 2 below the header, loss: 'x' is no number"),
        ("epoch,loss\n1,2\n", {"val": "v"}, "has no column 'v'.*epoch, loss"),
        ("epoch,loss\n1,\n", {}, "column loss is empty"),
    ],
)
def test_what_is_no_log_says_so(tmp_path, content, options, words):
    with pytest.raises(DatasetError, match=words):
        read(tmp_path, content, **options)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(DatasetError, match="cannot be read"):
        read_training_log(tmp_path / "none.csv")
