"""Paired tests of architectures on the same folds: ``python -m liverattn.compare a=resnet_240 b=gap_240``."""

from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from liverattn.configuration import check_name, plain, verb
from liverattn.ensemble import show
from liverattn.errors import InputError, expect_whole
from liverattn.files import write_json

if TYPE_CHECKING:
    from liverattn.comparison.pairs import Pair
    from liverattn.comparison.scored import Scored


SELECTION = "selection"
ON_SELECTION = (
    "Judged on the cases of the inner splits, which were neither trained on nor held out: settings may be chosen by "
    "these numbers without touching the held-out folds. An image can be in several inner splits, or in none."
)
LAST_OF_INNER = (
    "There are only fold runs with an inner split: their last epochs are compared. The split selected nothing then, "
    "but its cases did not train either."
)


@verb("compare")
def main(cfg: DictConfig) -> None:
    """Find the fold runs, test, write and show the table."""
    from liverattn.comparison.pairs import comparison_table

    check_name("name", cfg.name)
    if cfg.cases not in ("held_out", SELECTION) or (cfg.cases == SELECTION and cfg.protocol.name == "paper"):
        raise InputError(
            f"Expected cases to be held_out, or {SELECTION} with protocol=inner or protocol=last, but got "
            f"cases={cfg.cases} with protocol={cfg.protocol.name}."
        )
    folder = Path(HydraConfig.get().runtime.output_dir)
    first, others = chosen(cfg)
    pairs = tested(cfg, first, others)
    table = comparison_table(pairs, first.tasks, cfg.protocol.name)
    if cfg.cases == SELECTION:
        table = table.with_note(ON_SELECTION)
    table.write(folder)
    content = {
        "protocol": cfg.protocol.name,
        "cases": cfg.cases,
        "draws": cfg.draws,
        "pairs": [pair.record() for pair in pairs],
    }
    write_json(folder / "compare.json", content)
    show([table])
    print(f"Folder: {folder}")


def chosen(cfg: DictConfig) -> "tuple[Scored, list[Scored]]":
    """The first architecture and the others, over the same fold runs."""
    from liverattn.comparison.architectures import choose_data, finished_runs, group_architectures
    from liverattn.comparison.members import candidates, named_members
    from liverattn.comparison.metadata_baseline import metadata_baseline
    from liverattn.comparison.scored import read

    data = None if cfg.get("data") is None else cfg.data.name
    settings = plain(OmegaConf.masked_copy(cfg, ["b", "repeats"]))
    given = settings["b"]
    if given is not None and not isinstance(given, str | list):
        raise InputError(f"Expected b to be a name, a list of names, or null, but got {given!r}.")
    names = [str(cfg.a), *([] if given is None else [given] if isinstance(given, str) else given)]
    architectures = group_architectures(choose_data(finished_runs(Path(cfg.runs)), data, cfg.assignment))
    named = named_members(architectures, names)
    assert named is not None
    last_of_inner = cfg.protocol.name == "last" and not any(one.cells(inner=False) for one in named)
    inner = cfg.protocol.name == "inner" or cfg.cases == SELECTION or last_of_inner
    found = candidates(architectures, named, inner=inner, repeats=settings["repeats"])
    for note in (*found.notes, *([LAST_OF_INNER] if last_of_inner else [])):
        print(f"Note: {note}")
    scored = read(found)
    if cfg.cases == SELECTION:
        scored = [on_selection(one) for one in scored]
    elif last_of_inner:
        scored = [one.without_selection() for one in scored]
    by_label = {one.label: one for one in scored}
    first = by_label[named[0].label]
    if len(named) > 1:
        return first, [by_label[one.label] for one in named[1:]]
    others = [one for one in (*by_label.values(), metadata_baseline(first)) if one is not None and one is not first]
    if not others:
        raise InputError(f"There is nothing to compare {first.label!r} with: no other architecture has its fold runs.")
    return first, others


def on_selection(scored: "Scored") -> "Scored":
    """The same fold runs judged on their inner splits, or what is missing for that."""
    if (found := scored.on_selection()) is None:
        raise InputError(
            f"cases={SELECTION}: fold runs of {scored.label!r} recorded no predictions of their inner split, which "
            "runs of this version with protocol=inner do. Remove their folders and run them again, or compare "
            "cases=held_out."
        )
    return found


def tested(cfg: DictConfig, first: "Scored", others: "list[Scored]") -> "list[Pair]":
    """All pairs, or what is wrong with the options."""
    from liverattn.comparison.pairs import compare_pairs

    expect_whole("draws", cfg.draws, 1)
    expect_whole("seed", cfg.seed, 0)
    return compare_pairs(first, others, cfg.protocol.name, draws=cfg.draws, seed=cfg.seed)


if __name__ == "__main__":
    main()
