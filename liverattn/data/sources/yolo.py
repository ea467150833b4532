"""YOLO text: one file per image, one line per region, in shares of the image's size."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from liverattn.data.annotations import AnnotatedImage, Edges, Findings, Region, around_center, enclosing, scaled
from liverattn.data.image_files import ImageFiles
from liverattn.data.images import ImageError, image_size
from liverattn.data.importing import PERCENT, ROTATED, ImportedSource
from liverattn.errors import InputError

LISTS = ("classes.txt", "obj.names", "labels.txt", "predefined_classes.txt")
TOLD = ("data.yaml", "data.yml", *LISTS[:2])  # by who wrote the labels; the others may be a tool's own
SUBSETS = ("train.txt", "val.txt", "valid.txt", "test.txt")  # which images they have; no labels
REGIONS = re.compile(r"\s*([0-9.]+\s|$)")
MARKED = re.compile(r"\s*[0-9]+(\s+[-+0-9.eE]+){4,}\s*$", re.MULTILINE)
NAMES = TypeAdapter(dict[int, str] | list[str])


class _WithoutAliases(yaml.SafeLoader):
    """Refuses aliases: a few lines of aliases of aliases can stand for more than any memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*...), which is refused")
        return super().compose_node(parent, index)


@dataclass(frozen=True, kw_only=True)
class YoloSource(ImportedSource):
    """Cases from YOLO label files: detection (5 numbers), oriented boxes (9) and outlines (7, 11, 13, ...).

    An image without a label file is lesion-free, as the format has it, and counted in a warning.

    Attributes:
        names: File with the class list, relative to ``root`` or absolute: ``data.yaml`` or one name per line; None:
            it is looked for.
    """

    names: str | None = None

    def read(self, root: Path, images: ImageFiles, findings: Findings) -> Iterator[AnnotatedImage]:
        """See :meth:`ImportedSource.read`."""
        class_file = self._class_file(root)
        names = _class_names(class_file)
        labeled = set()
        paths = [path for path in self.exports(root, "**/*.txt") if path != class_file]
        named = {path: str(path.with_suffix("")) for path in paths}
        labels = {path: name for path, name in named.items() if not _is_list(path, images.named(name))}
        finder = images.finder(labels.values())
        for path, name in labels.items():
            try:
                if not images.named(name) and not _holds_regions(path):
                    findings.warnings.append(f"{path}: no image of this name; passed over")
                    continue
                file = finder.find(name)
            except ValueError as error:
                findings.errors.append(f"the image of {path} {error}")
                continue
            labeled.add(file)
            yield AnnotatedImage(file, _regions(path, root, file, names, findings))
        unlabeled = [path for path in images.paths if path not in labeled]
        if unlabeled and self.unlisted is None:
            findings.warnings.append(
                f"{len(unlabeled)} image(s) have no label file and are taken as lesion-free, as YOLO has it; "
                "data.unlisted=ignore leaves them out"
            )
            yield from map(AnnotatedImage, unlabeled)

    def _class_file(self, root: Path) -> Path:
        if self.names is not None:
            return root / Path(self.names).expanduser()
        places = [root] if self.annotations is None else [root / self.annotations, root]
        found = [path for place in places for name in ("data.yaml", "data.yml", *LISTS) for path in place.glob(name)]
        if not found:
            raise InputError(f"No class list (data.yaml, {', '.join(LISTS)}) in {root}. Give it as data.names=FILE.")
        other = next(
            (path for path in found if path.name in TOLD and _class_names(path) != _class_names(found[0])), None
        )
        if other is not None:
            raise InputError(
                f"The class lists {found[0]} and {other} differ. Give the one that counts as data.names=FILE."
            )
        return found[0]


def _is_list(path: Path, namesakes: Sequence[str]) -> bool:
    """Whether a file says which classes or images there are; an image may be called so, too."""
    if path.name.lower() not in (*LISTS, *SUBSETS):
        return False
    if not namesakes:
        return True
    try:
        return REGIONS.match(path.read_text(encoding="utf-8-sig")) is None
    except (OSError, ValueError):
        return False  # said where its regions are read


def _holds_regions(path: Path) -> bool:
    """Whether a file of no image is one of labels, so that its image is called something else, or is missing."""
    try:
        return MARKED.match(path.read_text(encoding="utf-8-sig")) is not None
    except (OSError, ValueError):
        return False


def _class_names(path: Path) -> dict[int, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix in (".yaml", ".yml"):
            listed = NAMES.validate_python(yaml.load(text, _WithoutAliases)["names"])
        else:
            listed = [line.strip() for line in text.splitlines() if line.strip()]
    except (OSError, ValueError, TypeError, KeyError, RecursionError, ValidationError, yaml.YAMLError) as error:
        raise InputError(
            f"The class list {path} cannot be read ({type(error).__name__}: {str(error)[:200]}). Expected 'names:' in "
            "a YAML file, or one name per line."
        ) from None
    return listed if isinstance(listed, dict) else dict(enumerate(listed))


def _regions(path: Path, root: Path, file: str, names: dict[int, str], findings: Findings) -> tuple[Region, ...]:
    regions = []
    try:
        width, height = image_size(root / file)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except ImageError:
        return ()  # the manifest's check names the image
    except (OSError, ValueError) as error:
        findings.refuse(file, f"{path}: cannot be read ({error})")
        return ()
    for i, line in enumerate(lines, start=1):
        try:
            if line.strip():
                regions.append(_region(line.split(), (width, height), names, findings))
        except (ValueError, OverflowError) as error:
            findings.refuse(file, f"{path}, line {i}: {error}")
    return tuple(regions)


def _region(words: Sequence[str], size: tuple[int, int], names: dict[int, str], findings: Findings) -> Region:
    numbers = [float(word) for word in words]
    if int(numbers[0]) not in names or not numbers[0].is_integer():
        raise ValueError(f"class {words[0]} is not in the class list, which has {len(names)}")
    findings.conversions[PERCENT] += 1
    return Region(names[int(numbers[0])], scaled(_shares(numbers[1:], findings), *size))


def _shares(numbers: Sequence[float], findings: Findings) -> Edges:
    if len(numbers) == 4:
        return around_center(*numbers)
    if len(numbers) % 2 or len(numbers) < 6:
        raise ValueError(f"expected a class and 4 numbers (or pairs of x and y), but got {len(numbers)} numbers")
    if len(numbers) == 8:
        findings.conversions[ROTATED] += 1
    return enclosing(list(zip(numbers[::2], numbers[1::2], strict=True)))
