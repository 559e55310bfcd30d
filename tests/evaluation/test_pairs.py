"""Choice of the pairs of an evaluation."""

import csv

import pytest

from vc_lightning.common.errors import InputError
from vc_lightning.evaluation import pairs

COLUMNS = ("path", "speaker", "split", "seconds", "lang", "sex", "person", "text")


def manifest(folder, speakers, texts=False):
    """Write a manifest of speakers (name, split, n, lang, sex), whose files do not exist."""
    path = folder / "MANIFEST.tsv"
    with path.open("w", newline="") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(COLUMNS)
        for name, split, n, lang, sex in speakers:
            for i in range(n):
                text = f"sentence {i}" if texts else ""
                table.writerow([f"{name}/{i}.wav", name, split, 4, lang, sex, "", text])
    return path


SPEAKERS = [
    *((f"t{i}", "test", 10, "en", "FMF"[i]) for i in range(3)),
    *((f"s{i}", "train", 8, "en", "?") for i in range(3)),
    ("d", "train", 7, "de", "M"),
    ("once", "train", 1, "en", "M"),
]


def test_manifest_pairs_are_fixed_and_cover_all_categories(tmp_path):
    path = manifest(tmp_path, SPEAKERS)
    found = pairs.from_manifest(path, None, "test", 4, 5)
    assert found == pairs.from_manifest(path, None, "test", 4, 5)
    kinds = [pair.groups["speakers"] for pair in found]
    assert kinds[:12] == ["unseen → unseen"] * 4 + ["unseen → seen"] * 4 + ["seen → seen"] * 4
    languages = [pair.groups["languages"] for pair in found]
    assert set(languages[:12]) == {"en → en"}
    assert set(languages[12:]) == {"en → de", "de → en"}
    couples = [(pair.source_speaker, pair.target_speaker) for pair in found]
    assert couples[:4] == [("t0", "t1"), ("t1", "t2"), ("t2", "t0"), ("t0", "t2")]
    assert len(set(couples)) == len(couples) == 16
    assert [pair.groups.get("gender") for pair in found[:5]] == [
        *("cross gender", "cross gender", "same gender", "same gender"),
        None,
    ]


def test_recordings_have_one_role(tmp_path):
    for pair in pairs.from_manifest(manifest(tmp_path, SPEAKERS), None, "test", 9, 5):
        used = [pair.source, *pair.voice, pair.target_reference, pair.source_reference]
        assert len(pair.voice) == 5
        assert len(set(used)) == 8
        assert pair.source.parent.name == pair.source_reference.parent.name == pair.source_speaker
        assert {path.parent.name for path in (*pair.voice, pair.target_reference)} == {
            pair.target_speaker
        }


def test_roles_of_a_speakers_recordings(tmp_path):
    """Three recordings take turns as source, five are the voice, the last one is the reference."""
    found = pairs.from_manifest(manifest(tmp_path, SPEAKERS), None, "test", 6, 5)
    first = [pair for pair in found if pair.source_speaker == "t0"]
    assert [pair.source.stem for pair in first[:4]] == ["0", "1", "2", "0"]
    assert [path.stem for path in found[0].voice] == ["3", "4", "5", "6", "7"]
    assert (found[0].target_reference.stem, found[0].source_reference.stem) == ("9", "9")
    assert found[0].source == tmp_path / "t0" / "0.wav"


def test_excludes_short_recordings_and_same_person(tmp_path):
    path = manifest(tmp_path, SPEAKERS[:3])
    text = path.read_text().replace("t0/0.wav\tt0\ttest\t4", "t0/0.wav\tt0\ttest\t1.9")
    path.write_text(text)
    found = pairs.from_manifest(path, None, "test", 9, 5)
    assert found[0].source.stem == "1"
    for name in ("t0", "t1"):
        text = text.replace(f"en\t{'FM'[int(name[1])]}\t\t", f"en\t{'FM'[int(name[1])]}\tAnn\t", 10)
    path.write_text(text)
    couples = {
        (p.source_speaker, p.target_speaker) for p in pairs.from_manifest(path, None, "test", 9, 5)
    }
    assert couples == {("t1", "t2"), ("t2", "t1")} | {("t0", "t2"), ("t2", "t0")}


def test_ignores_recordings_without_speaker(tmp_path):
    path = manifest(tmp_path, [*SPEAKERS[:3], ("", "test", 10, "en", "F")])
    for pair in pairs.from_manifest(path, None, "test", 99, 5):
        assert "" not in (pair.source_speaker, pair.target_speaker)


def test_finds_parallel_recordings(tmp_path):
    found = pairs.from_manifest(manifest(tmp_path, SPEAKERS[:3], texts=True), None, "test", 9, 5)
    for pair in found:
        assert pair.parallel == tmp_path / pair.target_speaker / pair.source.name
        assert pair.text == f"sentence {pair.source.stem}"
    bare = pairs.from_manifest(manifest(tmp_path, SPEAKERS[:3]), None, "test", 9, 5)
    assert {pair.parallel for pair in bare} == {None}


def test_train_split_has_seen_speakers_only(tmp_path):
    found = pairs.from_manifest(manifest(tmp_path, SPEAKERS), None, "train", 50, 5)
    assert {pair.groups["speakers"] for pair in found} == {"seen → seen"}
    assert len(found) == 12  # of four speakers, each pair once


def test_pairs_of_speaker_folders(corpus):
    found = pairs.from_folder(corpus, 12, 1)
    assert [(p.source_speaker, p.target_speaker) for p in found] == [
        ("man", "woman"),
        ("woman", "man"),
    ]
    assert found[0].voice == (corpus / "woman" / "1.wav",)
    assert found[0].target_reference == corpus / "woman" / "2.wav"
    assert found[0].groups == {}


def table(folder, *rows):
    path = folder / "pairs.tsv"
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n")
    return path


def test_pairs_of_table(corpus, tmp_path):
    path = table(
        tmp_path,
        ("source", "target", "source_other", "language", "accent"),
        ("man/0.wav", "woman/0.wav|woman/1.wav|woman/2.wav", "man/1.wav", "en", "Scots"),
        ("woman/0.wav", "man/0.wav | man/1.wav", "", "", ""),
    )
    first, second = pairs.from_table(path, corpus)
    assert first.voice == (corpus / "woman/0.wav", corpus / "woman/1.wav")
    assert first.target_reference == corpus / "woman/2.wav"
    assert first.source_reference == corpus / "man/1.wav"
    assert (first.language, first.groups) == ("en", {"accent": "Scots"})
    assert second.source_reference == second.source
    assert second.groups == {}
    assert (first.source_speaker, second.target_speaker) == (str(corpus / "man"),) * 2


def test_single_target_is_voice_and_reference(corpus, tmp_path):
    path = table(tmp_path, ("source", "target", "text"), ("man/0.wav", "woman/0.wav", "Oh!"))
    (pair,) = pairs.from_table(path, corpus)
    assert pair.voice == (pair.target_reference,) == (corpus / "woman/0.wav",)
    assert (pair.text, pair.groups) == ("Oh!", {})


HEAD = ("source", "target")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([("source", "voice"), ("a", "b")], "columns named source, target"),
        ([HEAD], "needs rows"),
        ([HEAD, ("man/0.wav", " | ")], "line 2: names no target"),
        ([HEAD, ("", "woman/0.wav|woman/1.wav")], "line 2: names no source"),
        ([HEAD, ("man/9.wav", "woman/0.wav|woman/1.wav")], "man/9.wav: no such file"),
        ([HEAD, ("man/0.wav", "man/1.wav|man/2.wav")], "source_speaker and target_speaker"),
    ],
)
def test_bad_table_error_names_line(corpus, tmp_path, rows, reason):
    with pytest.raises(InputError, match=r"data\.pairs=.*pairs\.tsv") as error:
        pairs.from_table(table(tmp_path, *rows), corpus)
    assert reason in str(error.value)


def test_refuses_too_few_recordings(corpus, tmp_path):
    with pytest.raises(InputError, match=r"0 of 2 speakers .* 7 recordings .*lower n_targets"):
        pairs.from_folder(corpus, 12, 5)
    path = manifest(tmp_path, SPEAKERS)
    with pytest.raises(InputError, match=r"0 of 0 speakers of the split val .*data\.split"):
        pairs.from_manifest(path, None, "val", 12, 5)
    with pytest.raises(InputError, match=r"0 of 3 .* 11 recordings"):
        pairs.from_manifest(path, None, "test", 12, 9)
    with pytest.raises(InputError, match=r"data\.manifest=.*cannot be read"):
        pairs.from_manifest(tmp_path / "missing.tsv", None, "test", 12, 5)
