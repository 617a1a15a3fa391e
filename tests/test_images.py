"""Human images: what is read, how it is divided and stored; the measures of images against other implementations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

from lmcollapse.catalog import CATALOG, find
from lmcollapse.corpora import load_human
from lmcollapse.corpora.parts import IMAGES, divide, finish, pixels_fingerprint
from lmcollapse.metrics.elbo import elbo
from lmcollapse.metrics.latents import latents
from lmcollapse.metrics.neighbours import neighbours
from lmcollapse.metrics.pixel_frechet import distance, pixel_frechet
from lmcollapse.metrics.pixel_variance import pixel_variance
from lmcollapse.metrics.scene import Detected, Heldout, Judged, Pictures, Scene, Trained, some_images
from lmcollapse.options import bind, describe, options_of
from lmcollapse.parquet import read_corpus, read_human, read_scores, write_corpus, write_human, write_scores
from lmcollapse.types import Corpus, Floats, Human, Images, Latents, Reading, Scores, UserError


def some(count: int, channels: int = 1, seed: int = 0, size: int = 6) -> Images:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, size, size + 1, channels), dtype=np.uint8)
    return Images(pixels, [f"image {i}" for i in range(count)])


def loaded(kind: str, sizes: dict[str, int | None] | None = None, **given: Any) -> Human[Images]:
    options = bind(options_of(find("image corpus", kind)), given, "corpus")
    return load_human(kind, options, seed=0, sizes=sizes, group="image corpus")


def value(readings: list[Reading], name: str) -> float:
    found = next(reading.value for reading in readings if reading.name == name)
    assert found is not None
    return found


# --- where they come from -------------------------------------------------------------------------------------------


def test_the_digits_in_two_parts() -> None:
    human = loaded("digits")
    assert len(human.train) + len(human.heldout) == 1797 and 340 <= len(human.heldout) <= 360
    assert human.train.pixels.shape[1:] == (8, 8, 1)
    assert sorted(np.unique(human.train.pixels))[-1] == 255
    keys = [set(IMAGES.keys(part)) for part in (human.train, human.heldout)]
    assert keys[0].isdisjoint(keys[1])
    assert human.facts["train"]["sha256"] == pixels_fingerprint(human.train)
    again = loaded("digits")
    assert again.facts == human.facts and (again.train.pixels == human.train.pixels).all()


def test_budgets_and_a_reserve_of_images() -> None:
    human = loaded("digits", {"train": 300, "heldout": 100, "reserve": 50})
    assert human.reserve is not None
    assert [len(part) for part in (human.train, human.heldout, human.reserve)] == [300, 100, 50]
    keys = [set(IMAGES.keys(part)) for part in (human.train, human.heldout, human.reserve)]
    assert len(set.union(*keys)) == sum(map(len, keys))
    assert human.facts["reserve"]["images"] == 50 and human.facts["train"]["images_available"] > 1000


def test_an_image_of_both_parts_leaves_the_training_part() -> None:
    train, heldout = some(150), some(30, seed=1)
    both = Images(np.concatenate([train.pixels, heldout.pixels[:3]]), [*train.sources, "a", "b", "c"])
    human = finish(Human(both, heldout), IMAGES, seed=0, train=None, heldout=None)
    assert human.facts["dropped"]["from_train_as_also_in_heldout"] == 3
    assert human.train.sources == train.sources and len(human.heldout) == 30
    with pytest.raises(UserError, match=r"training part has 5 images; at least 100 images .* raise train_images \(5\)"):
        finish(Human(train, heldout), IMAGES, seed=0, train=5, heldout=None)


def test_copies_of_an_image_stay_together() -> None:
    images = some(40)
    twice = images.take([*range(40), *range(40)])
    train, heldout = divide(twice, 0.25, kind=IMAGES)
    assert len(heldout) == 20 and set(train.sources).isdisjoint(heldout.sources)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set as the hub has it: a parquet file of images for each split; and the same as files in folders."""
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    for split, count, seed in (("train", 130, 0), ("test", 30, 1)):
        images = [Image.fromarray(pixels) for pixels in some(count, 3, seed).pixels]
        columns = {"img": images, "label": [i % 3 for i in range(count)]}
        features = library.Features({"img": library.Image(), "label": library.Value("int64")})
        where = tmp_path / "hub" / "data"
        where.mkdir(parents=True, exist_ok=True)
        library.Dataset.from_dict(columns, features).to_parquet(where / f"{split}-00000-of-00001.parquet")
        files = tmp_path / "files" / split
        files.mkdir(parents=True)
        for number, image in enumerate(images):
            image.save(files / f"{number:04d}.png")
    return tmp_path


def test_a_local_data_set_in_the_format_of_the_hub(folder: Path) -> None:
    human = loaded("datasets", path=str(folder / "hub"), image_column="img")
    assert (human.train.pixels == some(130, 3).pixels).all() and (human.heldout.pixels == some(30, 3, 1).pixels).all()
    assert human.train.sources[7] == f"{folder / 'hub'} train 7"
    as_files = loaded("datasets", path=str(folder / "files"))
    assert (as_files.train.pixels == human.train.pixels).all()
    share = loaded("datasets", path=str(folder / "files"), heldout_split=None, heldout_fraction=0.2)
    assert len(share.heldout) == 26
    scaled = loaded("datasets", path=str(folder / "files"), size=4)
    assert scaled.train.pixels.shape == (130, 4, 4, 3)


def test_data_sets_that_will_not_do(folder: Path) -> None:
    path = str(folder / "hub")
    refused: list[tuple[dict[str, Any], str]] = [
        ({}, "has no column 'image'; image_column can be img, label"),
        ({"image_column": "label"}, "holds .*, no images"),
        ({"image_column": "img", "heldout_split": "dev"}, "has no split 'dev'; it has train, test"),
        ({"image_column": "img", "heldout_split": "train"}, "are both 'train'"),
        ({"path": str(folder / "nowhere")}, "does not exist"),
    ]
    for given, message in refused:
        with pytest.raises(UserError, match=message):
            loaded("datasets", **{"path": path, **given})
    Image.new("L", (9, 9)).save(folder / "files" / "train" / "0005.png")
    with pytest.raises(UserError, match=r"row 5 of train is an image of 9 x 9 pixels.*give corpus\.size"):
        loaded("datasets", path=str(folder / "files"))


# --- on disk ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_back_from_disk_and_leave_the_same_bytes(tmp_path: Path, channels: int) -> None:
    images = some(20, channels)
    human = Human(images, some(5, channels, 1), reserve=some(3, channels, 2))
    write_human(human, tmp_path)
    back = read_human(tmp_path)
    for part in ("train", "heldout", "reserve"):
        assert (getattr(back, part).pixels == getattr(human, part).pixels).all()
        assert getattr(back, part).sources == getattr(human, part).sources
    corpus = Corpus.of_images(images.pixels, 3).take(np.array([4, 4, 1]))
    for name in ("one", "two"):
        write_corpus(corpus, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    again = read_corpus(tmp_path / "one")
    assert (again.values == corpus.values).all() and again.row.tolist() == [4, 4, 1] and again.offsets is None


def test_others_open_a_corpus_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    images = some(7, 3)
    write_corpus(Corpus.of_images(images.pixels, 2), tmp_path / "corpus.parquet")
    rows = library.load_dataset("parquet", data_files=str(tmp_path / "corpus.parquet"))["train"]
    assert isinstance(rows.features["image"], library.Image)
    assert (np.asarray(rows[4]["image"]) == images.pixels[4]).all()
    assert rows["origin"][:] == ["synthetic"] * 7 and rows["generation"][:] == [2] * 7


def test_latents_come_back_from_disk(tmp_path: Path) -> None:
    given = scores(9)
    write_scores(given, tmp_path / "scores.parquet")
    back = read_scores(tmp_path / "scores.parquet")
    assert back.latents is not None and given.latents is not None
    assert (back.latents.mean == given.latents.mean).all() and (back.latents.variance == given.latents.variance).all()
    assert (back.nats == given.nats).all()


# --- measures --------------------------------------------------------------------------------------------------------


def scores(count: int, latent: int = 4) -> Scores:
    rng = np.random.default_rng(count)
    mean, variance = rng.normal(size=(count, latent)), rng.uniform(0.1, 1.5, (count, latent))
    mean[:, 0] = 0.01 * mean[:, 0]  # is not in use
    inferred = Latents(mean.astype(np.float32), variance.astype(np.float32))
    return Scores(rng.uniform(20, 30, count), np.full(count, 42), latents=inferred)


def vectors(count: int, width: int, shift: float, seed: int) -> Floats:
    mixed = np.random.default_rng(99).normal(size=(width, width))
    return np.random.default_rng(seed).normal(size=(count, width)) @ mixed + shift


@pytest.mark.parametrize(("count", "width"), [(300, 10), (25, 40)])
def test_the_frechet_distance_against_the_root_of_a_matrix(count: int, width: int) -> None:
    one, other = vectors(count, width, 0, 0), vectors(count + 7, width, 0.5, 1)
    covariances = [np.cov(side, rowvar=False) for side in (one, other)]
    root = sqrtm(covariances[0] @ covariances[1])
    expected = np.sum((one.mean(0) - other.mean(0)) ** 2) + np.trace(covariances[0] + covariances[1] - 2 * root.real)
    assert distance(one, other) == pytest.approx(expected, rel=1e-6)
    assert distance(one, one) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_neighbours_by_their_definition(shift: float) -> None:
    """Loops over pairs, as the papers define it."""
    human, written = vectors(60, 5, 0, 0), 0.7 * vectors(60, 5, 0, 1) + shift
    k = 4

    def radii(side: Floats) -> list[float]:
        return [sorted(cdist(side[i : i + 1], side)[0])[k] for i in range(len(side))]  # the nearest is itself

    far, near = cdist(written, human), (radii(human), radii(written))
    inside = [[far[j, i] <= near[0][i] for i in range(60)] for j in range(60)]
    found = neighbours(Pictures(written, human, 60), neighbours=k)
    assert value(found, "image_precision") == np.mean([any(row) for row in inside])
    assert value(found, "image_recall") == np.mean([(far[:, i] <= near[1]).any() for i in range(60)])
    assert value(found, "image_density") == pytest.approx(np.sum(inside) / (k * 60))
    assert value(found, "image_coverage") == np.mean([far[:, i].min() <= near[0][i] for i in range(60)])


def test_coverage_of_another_human_sample_is_what_theory_says() -> None:
    draws = [neighbours(Pictures(vectors(400, 3, 0, 2 * i), vectors(400, 3, 0, 2 * i + 1), 400)) for i in range(20)]
    covered = np.array([value(each, "image_coverage") for each in draws])
    assert abs(covered.mean() - (1 - 0.5**5)) < 4 * covered.std(ddof=1) / np.sqrt(20) + 2e-3


def test_the_variance_of_pixels_is_half_the_mean_squared_distance_of_two_images() -> None:
    human, written = vectors(50, 6, 0, 0), 0.5 * vectors(50, 6, 0, 1)

    def pairs(side: Floats) -> float:
        return float((cdist(side, side) ** 2).sum() / (len(side) * (len(side) - 1)))

    found = pixel_variance(Pictures(written, human, 50))
    assert value(found, "pixel_variance") == pytest.approx(pairs(written) / pairs(human))
    copies = np.repeat(written[:1], 50, axis=0)
    assert value(pixel_variance(Pictures(copies, human, 50)), "pixel_variance") == pytest.approx(0, abs=1e-12)
    low, high = found[0].low, found[0].high
    assert low is not None and high is not None and low < 0.25 < high


def test_the_parts_of_the_bound_add_up() -> None:
    torch = pytest.importorskip("torch")
    heldout, written = scores(40), scores(30)
    assert heldout.latents is not None
    found = elbo(Heldout(Corpus.of_images(some(40).pixels, -1), heldout), {"generation_0": Judged(written, written)})
    normal = torch.distributions.Normal
    inferred = normal(torch.tensor(heldout.latents.mean), torch.tensor(heldout.latents.variance).sqrt())
    expected = torch.distributions.kl_divergence(inferred, normal(0.0, 1.0)).sum(dim=1).mean()
    assert value(found, "divergence") == pytest.approx(float(expected), rel=1e-5)
    assert value(found, "reconstruction") + value(found, "divergence") == pytest.approx(heldout.nats.mean())
    assert value(found, "bits_per_value") == pytest.approx(heldout.nats.mean() / np.log(2) / 42)
    assert value(found, "negative_elbo_written") == pytest.approx(written.nats.mean())


def test_latent_variables_in_use_and_their_variance() -> None:
    heldout = scores(4000)
    found = latents(Heldout(Corpus.of_images(some(1).pixels, -1), heldout))
    assert value(found, "active_latents") == 3
    # normals of variance 1, one of 0.0001, around which is inferred with variance 0.8 on average
    assert value(found, "latent_variance") == pytest.approx((3 * 1 + 4 * 0.8) / 4, abs=0.03)
    low, high = found[1].low, found[1].high
    assert low is not None and high is not None and low < value(found, "latent_variance") < high < low + 0.1


@pytest.mark.parametrize("name", CATALOG["image measure"])
def test_every_measure_of_images_is_pure_and_says_why_it_has_no_value(name: str) -> None:
    measure = find("image measure", name)
    images = some(80).pixels
    heldout = Heldout(Corpus.of_images(images, -1), scores(80))
    judges = {"generation_0": Judged(scores(80), scores(80))}
    usual = Scene(
        pictures=Pictures(some_images(images, 60), some_images(images, 60), 60),
        heldout=heldout,
        judges=judges,
        trained=Trained(80, 20, 80, 20),
        detected=Detected(np.linspace(0, 1, 80), np.arange(80) % 3 > 0, 0.5),
    )
    readings = usual.read(measure, options_of(measure)().model_dump())
    assert readings and readings == usual.read(measure, {})
    assert all(reading.value is not None and not reading.note for reading in readings)
    assert all(description for *_, description in describe(options_of(measure)))
    few = some_images(images, 3)
    for pictures in (Pictures(few, few, 60), Pictures(few, few, 3)):
        for reading in Scene(pictures=pictures).read(measure, {}):
            assert reading.value is None and "needed" in reading.note


def test_a_sample_of_images_is_a_prefix_of_a_larger_one_as_a_set() -> None:
    images = some(50).pixels
    small, large = some_images(images, 10), some_images(images, 30)
    assert {row.tobytes() for row in small} <= {row.tobytes() for row in large}
    assert large.max() <= 1 and large.dtype == np.float32 and large.shape == (30, 42)


def test_many_images_have_a_distance_without_interval() -> None:
    sides = [vectors(2100, 2, 0, seed) for seed in (0, 1)]
    (reading,) = pixel_frechet(Pictures(sides[0], sides[1], 2100))
    assert reading.value is not None and reading.low is None
