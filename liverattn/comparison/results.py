"""All architectures of one data set and the ensemble of some of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liverattn.comparison.architectures import Cell, FinishedRun
from liverattn.comparison.held_out import HeldOut
from liverattn.comparison.scored import Scored
from liverattn.errors import InputError
from liverattn.evaluation.crossvalidation import average_probabilities, member_weights
from liverattn.evaluation.scores import Task

ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Comparison:
    """Everything that tables, figure and files are made of.

    Attributes:
        protocol: That ranks and is shown in Tables 2 and 3.
        ranking: Architectures, from the best to the worst.
        ensemble: Of the members.
        members: Labels.
        weights: (M,) of the members, adding up to 1.
        are_named: The user named the members; else they are the first of the ranking.
        notes: What else a reader of the numbers should know, one line each.
    """

    protocol: str
    ranking: tuple[Scored, ...]
    ensemble: Scored
    members: tuple[str, ...]
    weights: NDArray[np.float64]
    are_named: bool
    notes: tuple[str, ...]

    @property
    def rows(self) -> tuple[Scored, ...]:
        """Of Table 2."""
        return (*self.ranking, self.ensemble)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The same for all rows."""
        return self.ensemble.tasks

    @property
    def outputs(self) -> list[str]:
        """Names of the K outputs."""
        return [output for task in self.tasks for output in task.outputs]

    @property
    def shown(self) -> HeldOut:
        """The ensemble's predictions in the runs that the protocol is at home in."""
        return self.ensemble.held_out[self.protocol == "inner"]

    def predictions(self) -> pd.DataFrame:
        """One row per image and repeat: names, truth, the probabilities of the ensemble and of every member."""
        parts = [self.shown.keys[["image_id", "patient_id", "repeat", "fold"]]]
        parts.append(pd.DataFrame(self.shown.truth, columns=[f"truth_{name}" for name in self.outputs]))
        members = {scored.label: scored for scored in self.ranking}
        for prefix, scored in {"": self.ensemble, **{f"{name}/": members[name] for name in self.members}}.items():
            probability = scored.held_out[self.protocol == "inner"].probabilities[self.protocol]
            parts.append(pd.DataFrame(probability, columns=[f"{prefix}probability_{name}" for name in self.outputs]))
        return pd.concat(parts, axis=1)

    def epochs(self) -> pd.DataFrame | None:
        """AUCs of every epoch of every fold run that is compared, on its held-out and its selection cases.

        What is told of the selection cases may choose settings: no held-out case had a part in it. Several epochs with
        the same AUC there are told apart by their order alone (:func:`~liverattn.evaluation.protocols.best_epochs`).

        Returns:
            Columns ``architecture``, ``repeat``, ``fold``, ``inner`` (a split selected) and those of a run's
            ``epochs.csv``; None where all runs are of a version that wrote none.
        """
        parts = []
        for scored in self.ranking:
            assert scored.architecture is not None
            for (inner, (repeat, fold)), run in sorted(scored.architecture.runs.items()):
                found = run.folder.read_epochs() if (repeat, fold) in scored.cells(inner=inner) else None
                if found is not None:
                    place = {"architecture": scored.label, "repeat": repeat, "fold": fold, "inner": inner}
                    parts.append(pd.concat([pd.DataFrame(place, index=found.index), found], axis=1))
        return pd.concat(parts, ignore_index=True) if parts else None

    def fold_runs(self, label: str) -> dict[Cell, FinishedRun]:
        """Those of an architecture that the shown numbers are over.

        A single run with an inner split is asked for protocol=last, too.
        """
        (one,) = (scored.architecture for scored in self.ranking if scored.label == label)
        assert one is not None
        return {cell: one.runs.get((self.protocol == "inner", cell), one.any_run) for cell in self.cells}

    @property
    def cells(self) -> list[Cell]:
        """Repeat and fold of every fold run that the shown numbers are over."""
        return self.ensemble.cells(inner=self.protocol == "inner")

    def record(self) -> dict[str, Any]:
        """What was compared, and all numbers, for ``metrics.json``."""
        run = _run_of(self.ranking[0])
        return {
            "data": run.data_name,
            "assignment": run.assignment,
            "protocol": self.protocol,
            "members": list(self.members),
            "weights": self.weights.tolist(),
            "cells": self.cells,
            "notes": list(self.notes),
            "results": {scored.label: scored.record() for scored in self.rows},
        }

    def tags(self) -> dict[str, str]:
        """What people filter tracked ensembles by."""
        run = _run_of(self.ranking[0])
        return {
            "verb": "ensemble",
            "data": run.data_name,
            "assignment_hash": run.assignment,
            "protocol": self.protocol,
            "members": "; ".join(self.members),
            "fold_runs": str(len(self.cells)),
        }

    def tracked_numbers(self) -> dict[str, float]:
        """The ensemble's numbers by the names that a fold run's have, and every row's means below its label."""
        numbers: dict[str, float] = {}
        for scored in self.rows:
            label = re.sub(r"[^\w .-]", "-", scored.label)  # MLflow takes nothing else
            place = "final" if scored.architecture is None else f"architectures/{label}"
            found = scored.summaries(self.protocol) or {}
            names = {f"auc_{task.name}": task.name for task in self.tasks} | {"score": "score"}
            if scored.architecture is None:
                names |= {f"auc_output_{output}": output for output in self.outputs}
            numbers |= {f"{place}/{shown}": found[name].mean for shown, name in names.items()}
            numbers |= {f"{place}/{shown}_deviation": found[name].deviation for shown, name in names.items()}
        return numbers


def compare(
    ranking: Sequence[Scored],
    members: Sequence[str],
    weights: Sequence[float] | None,
    protocol: str,
    *,
    are_named: bool,
    notes: Sequence[str] = (),
) -> Comparison:
    """Average the members' probabilities, same fold, each task from its own copy.

    Args:
        ranking: All architectures, from the best to the worst.
        members: Labels of some of them.
        weights: One number >= 0 per member; None: equal.
        protocol: That is shown.
        are_named: The user named the members.
        notes: For readers of the numbers.

    Raises:
        InputError: The weights cannot be used, or an architecture is called as the ensemble is.
    """
    by_label = {one.label: one for one in ranking}
    if ENSEMBLE in by_label:
        raise InputError(
            f"An experiment is called {ENSEMBLE!r}, as the ensemble is in every table. Rename it: name=..."
        )
    found = member_weights(weights, members)
    averaged = _average([by_label[label] for label in members], found)
    ensemble = Scored(ENSEMBLE, None, ranking[0].tasks, averaged)
    return Comparison(protocol, tuple(ranking), ensemble, tuple(members), found, are_named, tuple(notes))


def _run_of(scored: Scored) -> FinishedRun:
    assert scored.architecture is not None
    return scored.architecture.any_run


def _average(members: Sequence[Scored], weights: NDArray[np.float64]) -> dict[bool, HeldOut]:
    """For full and inner runs, where all members have the same of them."""
    averaged = {}
    for inner in (False, True):
        parts = [member.held_out[inner] for member in members if inner in member.held_out]
        if len(parts) == len(members) and _are_of_the_same_cases(parts):
            selections = [part.selection for part in parts if part.selection is not None]
            has_selection = len(selections) == len(parts) and _are_of_the_same_cases(selections)
            selection = _averaged(selections, weights) if has_selection else None
            averaged[inner] = replace(_averaged(parts, weights), cases=parts[0].cases, selection=selection)
    return averaged


def _are_of_the_same_cases(parts: Sequence[HeldOut]) -> bool:
    return all(part.keys.equals(parts[0].keys) for part in parts)


def _averaged(parts: Sequence[HeldOut], weights: NDArray[np.float64]) -> HeldOut:
    probabilities = {
        protocol: average_probabilities([part.probabilities[protocol] for part in parts], weights)
        for protocol in parts[0].probabilities
    }
    return HeldOut(parts[0].keys, parts[0].truth, probabilities, parts[0].trained)
