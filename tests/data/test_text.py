"""Text as a task: documents, splits by family, tokens on disk; what is wrong is one line, and nothing is half-written."""

import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mesaopt.data import packages, shards
from mesaopt.data.corpora import botocore, docstrings, google
from mesaopt.data.corpus import Once, corpus_called, held_back, plain_text
from mesaopt.data.packages import Package
from mesaopt.data.shards import read_facts, tokenise_stage
from mesaopt.data.windows import Tokens, repeated
from mesaopt.errors import InputError
from mesaopt.spec.text import Text

#: enough families for both splits
DOCUMENTS = [f"document {number} says: {'word ' * (number % 7 + 3)}and ends." for number in range(60)]


def own(folder: Path, **settings) -> Text:
    return Text("text", ("folder",), **{"context_length": 16, "path": str(folder), "validation": 0.2} | settings)


def write_lines(folder: Path, documents=DOCUMENTS, name="a.jsonl", column="text") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps({column: one}) + "\n" for one in documents))
    return folder


def tokens_of(tmp_path: Path, text: Text) -> Path:
    out = tmp_path / "out" / "tokens.json"
    tokenise_stage(text, out, {})
    return out


def stored(out: Path, split: str) -> np.ndarray:
    names = [shard["file"] for shard in read_facts(out)["splits"][split]["shards"]]
    return np.concatenate([np.fromfile(out.parent / name, dtype="<u2") for name in names])


def documents_in(tokens: np.ndarray) -> list[str]:
    ends = np.flatnonzero(tokens == 256)
    return [bytes(part[:-1].astype(np.uint8)).decode() for part in np.split(tokens, ends + 1) if len(part)]


# --- from documents to tokens
def test_every_document_is_in_one_split_whole_and_ends(tmp_path):
    out = tokens_of(tmp_path, own(write_lines(tmp_path / "text")))
    found = {split: documents_in(stored(out, split)) for split in ("train", "validation")}
    assert sorted(found["train"] + found["validation"]) == sorted(DOCUMENTS)
    assert 3 <= len(found["validation"]) <= 25
    facts = read_facts(out)
    assert facts["splits"]["train"]["documents"] == len(found["train"])
    assert facts["vocabulary"]["size"] == 257 and facts["text"]["tokeniser"] == "bytes" and "commit" in facts


def test_the_same_text_gives_the_same_bytes_and_copies_fall_on_one_side(tmp_path):
    twice = write_lines(tmp_path / "text", [*DOCUMENTS, *DOCUMENTS])
    first, second = (tokens_of(tmp_path / name, own(twice)) for name in ("a", "b"))
    for split in ("train", "validation"):
        assert read_facts(first)["splits"][split] == read_facts(second)["splits"][split]
    train, validation = (set(documents_in(stored(first, split))) for split in ("train", "validation"))
    assert not train & validation


def test_all_kinds_of_files_hold_the_same_documents(tmp_path):
    lines = write_lines(tmp_path / "jsonl")
    (tmp_path / "zst").mkdir()
    with pa.CompressedOutputStream(str(tmp_path / "zst" / "a.jsonl.zst"), "zstd") as file:
        file.write((lines / "a.jsonl").read_bytes())
    (tmp_path / "parquet").mkdir()
    pq.write_table(pa.table({"number": range(60), "text": DOCUMENTS}), tmp_path / "parquet" / "a.parquet", row_group_size=7)
    expected = [one.text for one in corpus_called("folder").documents(own(lines), None)]
    assert expected == DOCUMENTS
    for kind in ("zst", "parquet"):
        assert [one.text for one in corpus_called("folder").documents(own(tmp_path / kind), None)] == DOCUMENTS


def test_a_text_file_is_one_document_however_long(tmp_path, monkeypatch):
    monkeypatch.setattr("mesaopt.data.corpora.folder.PIECE", 10)
    (tmp_path / "a.txt").write_text("ä" * 25)
    found = list(corpus_called("folder").documents(own(tmp_path), None))
    assert [one.text for one in found] == ["ä" * 10, "ä" * 10, "ä" * 5]
    assert [one.last for one in found] == [False, False, True] and len({one.family for one in found}) == 1


def test_many_shards_are_one_text(tmp_path, monkeypatch):
    folder = write_lines(tmp_path / "text")
    one = tokens_of(tmp_path / "one", own(folder))
    monkeypatch.setattr(shards, "SHARD", 100)
    many = tokens_of(tmp_path / "many", own(folder))
    assert np.array_equal(stored(one, "train"), stored(many, "train"))
    named = read_facts(many)["splits"]["train"]["shards"]
    assert len(named) > 5 and {shard["tokens"] for shard in named[:-1]} == {100}
    windows = Tokens(many, "train", own(folder)).windows(1, "text", 0, 200)
    whole = stored(one, "train").astype(np.int64)
    places = {whole[i : i + 17].tobytes() for i in range(len(whole) - 16)}
    assert all(window.numpy().tobytes() in places for window in windows)


def test_megabytes_end_both_splits(tmp_path):
    folder = write_lines(tmp_path / "text", [f"{number} {'x' * 100}" for number in range(1000)])
    facts = read_facts(tokens_of(tmp_path, own(folder, megabytes=0.02)))
    assert 16_000 <= facts["splits"]["train"]["tokens"] <= 17_000
    assert 4_000 <= facts["splits"]["validation"]["tokens"] <= 4_500


# --- what cannot be read
BAD = {
    "not JSON": (b'{"text": "a"}\n{"text": \n', "a.jsonl: line 2: not JSON"),
    "not UTF-8": (b'{"text": "a"}\n{"text": "\xff\xfe"}\n', "a.jsonl: line 2: not text in UTF-8"),
    "another column": (b'{"txt": "a"}\n', "a.jsonl: line 1: unknown column 'text': did you mean 'txt'?"),
    "an empty document": (b'{"text": "a"}\n{"text": " "}\n', "a.jsonl: line 2: an empty document"),
    "a number": (b'{"text": 3}\n', "a.jsonl: line 1: 'text' is no text but int"),
    "a list": (b"[1]\n", "a.jsonl: line 1: no JSON object"),
}


def refused(tmp_path, text, message):
    with pytest.raises(InputError) as error:
        tokens_of(tmp_path, text)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*")), "nothing half-written"


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_document_is_one_line(tmp_path, kind):
    content, message = BAD[kind]
    write_lines(tmp_path / "text", name="0.jsonl")  # what came before is not kept
    (tmp_path / "text" / "a.jsonl").write_bytes(content)
    refused(tmp_path, own(tmp_path / "text"), message)


def test_bad_files_of_other_kinds_are_one_line(tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    refused(tmp_path, own(folder), "no file ending in")
    refused(tmp_path, own(tmp_path / "absent"), "no folder of text")
    for name, content, message in (
        ("a.parquet", b"PAR1 no", "not a readable Parquet file"),
        ("a.jsonl.zst", b"no zstd", "cannot be read"),
        ("a.txt", b"\xff\xfe", "not text in UTF-8"),
        ("a.txt", b" \n", "an empty document"),
    ):
        (folder / name).write_bytes(content)
        refused(tmp_path, own(folder), message)
        (folder / name).unlink()
    pq.write_table(pa.table({"content": ["a"]}), folder / "a.parquet")
    refused(tmp_path, own(folder), "unknown column 'text'")


def test_a_split_without_enough_text_is_one_line(tmp_path):
    refused(tmp_path, own(write_lines(tmp_path / "text", ["only one document"])), "fewer than a sequence of 17")


def test_tokens_that_were_damaged_are_named(tmp_path):
    text = own(write_lines(tmp_path / "text"))
    out = tokens_of(tmp_path, text)
    file = out.parent / "train-0000.bin"
    content = file.read_bytes()
    for damaged in (content[:-2], content[:-2] + b"\1\1"):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"train-0000.bin: damaged"):
            Tokens(out, "train", text)
    file.unlink()
    with pytest.raises(InputError, match=r"train-0000.bin: cannot be read"):
        Tokens(out, "train", text)
    with pytest.raises(InputError, match="tokens of another text"):
        Tokens(out, "train", own(tmp_path / "text", validation=0.3))


# --- sequences
def test_sequences_are_drawn_by_seed_and_step(tmp_path):
    text = own(write_lines(tmp_path / "text"))
    tokens = Tokens(tokens_of(tmp_path, text), "train", text)
    first = tokens.windows(1, "text", 0, 8)
    assert first.shape == (8, 17) and np.array_equal(first, tokens.windows(1, "text", 0, 8))
    assert not np.array_equal(first, tokens.windows(1, "text", 1, 8))
    assert not np.array_equal(first, tokens.windows(2, "text", 0, 8))


def test_another_length_takes_the_same_tokens(tmp_path):
    folder = write_lines(tmp_path / "text")
    out = tokens_of(tmp_path, own(folder))
    assert Tokens(out, "train", own(folder, context_length=30)).windows(1, "text", 0, 2).shape == (2, 31)


@pytest.mark.parametrize("length", [15, 16])
def test_repeated_tokens_come_again(length):
    windows = repeated(50, length, 4, seed=1).numpy()
    half = -(-(length + 1) // 2)
    assert windows.shape == (4, length + 1)
    assert np.array_equal(windows[:, half:], windows[:, : length + 1 - half])
    assert len(np.unique(windows)) > 10


# --- the corpora
def test_copies_of_a_document_are_one_family_and_others_of_that_name_are_not(tmp_path):
    for name, text in {"a/one.txt": "words", "a/two.txt": "words", "b/one.txt": "other words"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "words"}) + "\n")
    families = {}
    for one in corpus_called("folder").documents(own(tmp_path), None):
        families.setdefault(one.text, []).append(one.family)
    assert len(families["words"]) == 3 and len(set(families["words"])) == 1
    assert set(families["other words"]).isdisjoint(families["words"])


def test_a_family_is_held_back_by_its_name_alone():
    shares = [held_back(f"service-{number}", 0.05) for number in range(4000)]
    assert 0.03 < np.mean(shares) < 0.07
    assert held_back("s3", 0.999999) and not held_back("s3", 1e-12)


def test_markup_becomes_plain_text():
    said = "<p>Deletes the <code>bucket</code>.</p><ul><li>a &lt; b</li><li>c&nbsp;d</li></ul> if x < y"
    assert plain_text(said) == "Deletes the bucket.\na < b\nc d\nif x < y"


def long(text: str) -> str:
    return f"{text}, which is more than forty characters long"


def package_with(tmp_path: Path, files: dict[str, bytes]) -> Path:
    path = tmp_path / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_botocore_gives_a_document_a_file_and_a_family_a_service(tmp_path):
    def service(*said):
        return gzip.compress(json.dumps({"shapes": [{"documentation": one} for one in said]}).encode())

    path = package_with(
        tmp_path,
        {
            "botocore/data/s3/2020/api.json.gz": service(f"<p>{long('Old')}</p>", "short", long("Same")),
            "botocore/data/s3/2021/api.json.gz": service(long("New"), long("Same")),
            "botocore/data/sqs/2021/api.json.gz": service(long("Same")),
            "botocore/data/endpoints.json": b"{}",
        },
    )
    found = list(botocore.documents(Text("text", ("botocore",)), path))
    assert [(one.family, one.text) for one in found] == [
        ("s3", f"{long('Old')}\n\n{long('Same')}"),
        ("s3", long("New")),  # what stands twice is text once, and a document without any is none
    ]


def test_google_gives_a_family_an_interface(tmp_path):
    names = ("compute.v1.json", "compute.beta.json", "drive.v3.json")
    content = {name: json.dumps({"schemas": {"a": {"description": long(name)}}}).encode() for name in names}
    path = package_with(tmp_path, {f"googleapiclient/discovery_cache/documents/{name}": content[name] for name in names})
    found = list(google.documents(Text("text", ("google",)), path))
    assert [one.family for one in found] == ["compute", "compute", "drive"]
    assert found[2].text == long("drive.v3.json")


def test_docstrings_are_read_and_not_run():
    first = next(docstrings.documents(Text("text", ("docstrings",)), None))
    assert first.family.startswith("numpy") and len(first.text) > 40


def test_once_means_once():
    new = Once()
    assert [new(word) for word in ("a", "b", "a")] == [True, True, False]


# --- packages
def test_only_the_pinned_file_is_read(tmp_path, monkeypatch):
    path = package_with(tmp_path, {"a": b"b"})
    pinned = Package("botocore", "1.0", "0" * 64, "Apache-2.0")
    monkeypatch.setitem(packages.PACKAGES, "botocore", pinned)
    text = Text("text", ("botocore",), context_length=16)
    for given, message in (
        ({}, "the package botocore is needed"),
        ({"botocore": path}, "not botocore 1.0: its SHA-256 is"),
        ({"botocore": tmp_path / "absent"}, "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            tokenise_stage(text, tmp_path / "out" / "tokens.json", given)
    assert not list((tmp_path / "out").iterdir())


def test_pip_says_in_one_line_that_it_cannot(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InputError, match="pip cannot fetch it: ERROR: No matching distribution") as error:
        packages.fetch_stage("botocore", tmp_path / "botocore.whl")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


# --- bounded memory
@pytest.mark.long
def test_a_folder_of_two_gigabytes_takes_less_than_one_of_memory(tmp_path):
    import subprocess
    import sys

    folder = tmp_path / "text"
    folder.mkdir()
    line = json.dumps({"text": "many words that say little " * 4000}) + "\n"
    for number in range(20):
        with open(folder / f"{number:02d}.jsonl", "w") as file:
            for row in range(1000):
                file.write(line.replace("many", f"{number} {row}", 1))
    assert sum(path.stat().st_size for path in folder.iterdir()) > 2e9
    code = (
        "import resource; from pathlib import Path; from mesaopt.data.shards import tokenise_stage;"
        "from mesaopt.spec.text import Text;"
        f"tokenise_stage(Text('text', ('folder',), path={str(folder)!r}), Path({str(tmp_path / 'out/tokens.json')!r}), {{}});"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    sources = str(Path(shards.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": sources}, capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 1e9
    text = Text("text", ("folder",), path=str(folder))
    assert Tokens(tmp_path / "out/tokens.json", "train", text).windows(1, "text", 0, 4).shape == (4, 1025)
