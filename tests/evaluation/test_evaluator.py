"""evaluate.py as a user runs it, and converters whose scores are known."""

import json
import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers import SOURCE, composed, refusal, write_wav
from vc_lightning.commands import evaluate
from vc_lightning.commands.support import overrides
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.evaluation import domains, evaluator, pairs
from vc_lightning.evaluation.evaluator import Evaluator
from vc_lightning.evaluation.scorers import voices
from vc_lightning.evaluation.scorers.availability import MissingScorerError
from vc_lightning.evaluation.scores import TITLES, figures
from vc_lightning.evaluation.summary import combine
from vc_lightning.models import pitch_tracker
from vc_lightning.models.vocoders.factory import griffin_lim


@pytest.fixture
def run(tiny_checkpoint, corpus, tmp_path):
    """Run evaluate.py's job with a tiny network; return the report's folder."""

    def run(**settings):
        settings = {
            "data.dir": corpus,
            "n_targets": 1,
            "ckpt": tiny_checkpoint,
            "vocoder": "griffin_lim",
            "vocoder.n_iter": 1,
            "output": tmp_path / "out",
        } | settings
        overrides = [f"{key}={value}" for key, value in settings.items() if value != ""]
        evaluate.main(composed("evaluate", *overrides))
        return settings["output"]

    return run


@pytest.fixture(scope="module")
def listed(corpus):
    return pairs.from_folder(corpus, 12, 1)


@pytest.fixture
def converter(tiny_checkpoint):
    def vocoder(mel):
        return griffin_lim(mel, None, 1.0, 1, 0.0)

    return VoiceConverter.from_checkpoint(tiny_checkpoint, vocoder=vocoder)


def scored(converter, listed, *parts):
    judges = Evaluator(converter, parts, "tiny.en", 0)
    judges.analyze(listed)
    evaluation = combine(listed, [judges.score(dict(enumerate(listed)), [])], parts)
    return evaluation, {key: value.mean for key, value in figures(evaluation.conversions).items()}


class RoughnessListener:
    """Replaces the slow DNSMOS: the more high frequencies, the less natural."""

    def naturalness(self, wav, sample_rate):
        return 5 - 2 * float(np.abs(np.diff(wav)).mean() / np.abs(wav).mean())


def test_evaluates_folder_of_speakers(run, corpus, monkeypatch):
    monkeypatch.setattr("vc_lightning.evaluation.scorers.dnsmos.DNSMOSListener", RoughnessListener)
    out = run(scorers="[dnsmos,prosody,codes]")
    report = json.loads((out / "report.json").read_text())
    assert [(pair["source_speaker"], pair["target_speaker"]) for pair in report["pairs"]] == [
        ("man", "woman"),
        ("woman", "man"),
    ]
    found = report["figures"]["all"]["all pairs"]
    means = [pair["figures"]["dnsmos/vocoder"] for pair in report["pairs"]]
    assert found["dnsmos/vocoder"]["mean"] == pytest.approx(np.mean(means))
    assert all(figure["n"] <= 2 for figure in found.values())
    speeds = {key.split("/")[1]: found[key]["mean"] for key in found if key.startswith("speed/")}
    assert speeds.keys() == {"speaker_encoder", "mel", "autovc", "vocoder", "conversion"}
    assert 0 < speeds["autovc"] < speeds["conversion"]
    real = report["real_pairs"]["ge2e"]["all pairs"]
    assert real["different_speakers"]["mean"] < real["threshold"] < real["same_speaker"]["mean"]
    assert real["error_rate"] == 0
    assert (report["codes"]["n_speakers"], report["codes"]["chance"]) == (2, 0.5)
    assert len(list((out / "wavs").glob("*_man_to_woman_conversion.wav"))) == 1
    assert len(list((out / "wavs").iterdir())) == 4

    text = (out / "report.md").read_text()
    for words in ("# Evaluation", "DNSMOS, vocoder alone", "| GE2E | all pairs |", "by chance"):
        assert words in text
    assert "word error" not in text

    curves = EventAccumulator(str(out)).Reload()
    scalars = {tag: curves.Scalars(tag)[0].value for tag in curves.Tags()["scalars"]}
    assert scalars["all/dnsmos/vocoder"] == pytest.approx(np.mean(means), abs=1e-5)
    assert "codes/accuracy" in scalars
    assert {"ge2e_similarity/conversions", "ge2e_similarity/one_speaker"} <= set(
        curves.Tags()["images"]
    )
    assert "000_man_to_woman/conversion" in curves.Tags()["audio"]


def test_identity_converter(converter, listed, monkeypatch):
    """Returns the source: no word errors, the same pitch and the source's voice."""
    monkeypatch.setattr(
        converter, "convert_analyzed", lambda sources, *_: [source.wav for source in sources]
    )
    report, found = scored(converter, listed, "words", "pocketsphinx", "prosody")
    for conversion in report.conversions:
        assert np.array_equal(conversion.sounds.conversion, conversion.sounds.source)
        scores, transcripts = conversion.scores, conversion.transcripts
        assert scores["ge2e/to_target"] == scores["ge2e/before"]
        assert transcripts["words/conversion"] == transcripts["words/source"] != ""
    assert (found["words/word_errors"], found["words/character_errors"]) == (0, 0)
    assert found["pocketsphinx/source"] == found["pocketsphinx/conversion"] < 1
    assert found["words/vocoder_character_errors"] > 0  # of one iteration of Griffin-Lim
    # The sources were tracked at the level of the mels.
    assert found["prosody/correlation"] == pytest.approx(1, abs=1e-3)
    assert found["prosody/voiced_agreement"] > 0.98
    assert found["prosody/distance"] == pytest.approx(found["prosody/distance_before"], abs=0.1)
    assert found["prosody/range_conversion"] == pytest.approx(found["prosody/range_source"], 0.05)
    assert found["ge2e/to_source"] > found["ge2e/to_target"]
    assert (found["ge2e/nearer"], found["ge2e/accepted"]) == (0, 0)
    assert report.left_out == []


def test_perfect_converter(converter, listed, monkeypatch):
    """Returns the target's recording: its voice, its pitch, and no distortion to it."""
    wavs = {
        converter.load(pair.source).tobytes(): converter.load(pair.target_reference)
        for pair in listed
    }
    monkeypatch.setattr(
        converter, "convert_analyzed", lambda sources, *_: [wavs[sources[0].wav.tobytes()]]
    )
    parallel = [
        pairs.Pair(**{**vars(pair), "parallel": pair.target_reference, "groups": {"accent": name}})
        for pair, name in zip(listed, ("Scots", "Welsh"), strict=True)
    ]
    report, found = scored(converter, parallel, "prosody")
    assert found["ge2e/to_target"] == pytest.approx(1)
    assert (found["ge2e/nearer"], found["ge2e/accepted"]) == (1, 1)
    assert found["prosody/distance"] < found["prosody/distance_before"]
    assert found["distortion/conversion"] == 0
    assert found["distortion/before"] > 3
    groups = report.groups()
    assert list(groups) == ["", "accent"]
    assert groups["accent"]["Welsh"] == [report.conversions[1]]


def test_silent_converter(converter, listed, monkeypatch):
    """Silence has no voice, words or pitch, and must not stop the evaluation."""
    silence = np.zeros(32_000, dtype=np.float32)
    monkeypatch.setattr(converter, "convert_analyzed", lambda *_: [silence])
    _, found = scored(converter, listed, "words", "prosody")
    assert found["ge2e/speech"] == 0
    assert (found["ge2e/nearer"], found["ge2e/accepted"]) == (0, 0)
    assert found["words/word_errors"] == 1
    assert not {"ge2e/to_target", "prosody/correlation", "prosody/distance"} & found.keys()
    assert set(found) < set(TITLES)


def test_each_source_is_analyzed_and_converted_once(converter, listed, monkeypatch):
    """Although two pairs have the same source, and the steps of all conversions are timed."""
    calls = Counter()

    def counting(name, function):
        def counted(*arguments, **named):
            calls[name, isinstance(arguments[0], np.ndarray)] += 1
            return function(*arguments, **named)

        return counted

    for name in ("analyze", "resynthesize", "convert_analyzed"):
        monkeypatch.setattr(converter, name, counting(name, getattr(converter, name)))
    monkeypatch.setattr(pitch_tracker, "track", counting("track", pitch_tracker.track))
    recordings = {path for pair in listed for path in evaluator.recordings(pair)}
    report, found = scored(converter, [*listed, listed[0]])
    assert calls == {
        ("analyze", False): 2,
        ("analyze", True): 1,  # of two seconds, to warm up
        ("resynthesize", False): 2,
        ("convert_analyzed", False): 3,
        ("track", True): len(recordings) + 1,
    }
    whole = [conversion.scores["speed/conversion"] for conversion in report.conversions]
    assert len(whole) == 3
    assert whole[0].base == pytest.approx(len(converter.load(listed[0].source)) / 16_000)
    steps = [found[f"speed/{name}"] for name in ("autovc", "vocoder")]
    assert 0 < sum(steps) < found["speed/conversion"]


@pytest.mark.parametrize("robustness", ["false", "true"])
def test_missing_scorers_are_named_and_skipped(run, monkeypatch, robustness):
    def require_packages(scorer, *modules):
        raise MissingScorerError(
            f"{scorer}: {modules[0]} not installed; pip install 'vc-lightning[eval]'"
        )

    for module in ("recognisers.whisper", "recognisers.pocket_sphinx", "dnsmos"):
        name = f"vc_lightning.evaluation.scorers.{module}.require_packages"
        monkeypatch.setattr(name, require_packages)
    monkeypatch.setenv("VC_LIGHTNING_CACHE", "/nowhere")
    scorers = "'words, pocketsphinx, dnsmos, campplus, distillmos'"
    out = run(scorers=scorers, robustness=robustness, n_robustness=1)
    report = json.loads((out / "report.json").read_text())
    get = "its weights are not in /nowhere; run once: python -m vc_lightning.evaluation.scorers."
    assert report["left_out"] == [
        f"campplus: {get}download",
        f"distillmos: {get}download",
        "words: faster_whisper not installed; pip install 'vc-lightning[eval]'",
        "pocketsphinx: pocketsphinx not installed; pip install 'vc-lightning[eval]'",
        "dnsmos: speechmos not installed; pip install 'vc-lightning[eval]'",
    ]
    sections = {key.split("/")[0] for key in report["figures"]["all"]["all pairs"]}
    assert sections == {"ge2e", "speed"}
    assert "- dnsmos: speechmos not installed" in (out / "report.md").read_text()


def test_skips_words_of_unknown_languages(converter, listed, monkeypatch):
    foreign = [pairs.Pair(**{**vars(pair), "language": "ru"}) for pair in listed]
    report, found = scored(converter, foreign, "words")
    assert report.left_out == ["words: tiny.en does not understand ru (pairs: 2)"]
    assert "words/word_errors" not in found


def test_table_of_pairs_and_reused_folder(run, corpus, tmp_path, capsys):
    table = tmp_path / "my pairs, 1.tsv"
    table.write_text(
        "source\ttarget\tsource_reference\nman/0.wav\twoman/0.wav|woman/1.wav\tman/1.wav\n"
    )
    settings = {"data.pairs": f"'{table}'", "scorers": "dnsmos"}
    report = json.loads((run(**settings) / "report.json").read_text())
    (pair,) = report["pairs"]
    assert pair["target_reference"] == str(corpus / "woman" / "1.wav")
    found = report["figures"]["all"]["all pairs"]
    assert found["ge2e/before"]["low"] is None
    assert found["dnsmos/recording"]["mean"] > found["dnsmos/vocoder"]["mean"] > 1
    with pytest.raises(SystemExit) as stop:
        run(**settings)
    assert stop.value.code == 2
    assert "holds files already; name a new folder" in capsys.readouterr().err


def table(folder, *rows):
    """Write a table of pairs to a new folder."""
    folder.mkdir()
    path = folder / "PAIRS.tsv"
    path.write_text("\n".join(["source\ttarget", *rows]) + "\n")
    return path


def test_domains_and_worst_conversions(run, corpus, tmp_path, speech, caplog, monkeypatch):
    """A manifest, and a table with paths relative to its folder; also under worse conditions."""
    monkeypatch.setattr("vc_lightning.evaluation.scorers.dnsmos.DNSMOSListener", RoughnessListener)
    caplog.set_level("INFO")
    rows = [
        f"{corpus}/{name}/{i}.wav\t{name}\ttest\ten" for name in ("man", "woman") for i in (0, 1, 2)
    ]
    manifest = tmp_path / "readers" / "MANIFEST.tsv"
    manifest.parent.mkdir()
    manifest.write_text("\n".join(["path\tspeaker\tsplit\tlang", *rows]) + "\n")
    pairs_table = table(tmp_path / "noisy one", "n/a b.wav\tm/0.wav")
    noise = 0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    for name, wav in {
        "n/a b.wav": speech[:32_000] + noise,
        "m/0.wav": speech[30_000:62_000],
    }.items():
        path = pairs_table.parent / name
        path.parent.mkdir()
        write_wav(path, wav)
    out = run(
        **{"data.dir": "", "data.manifest": f"[{manifest}]", "data.pairs": f"'{pairs_table}'"},
        **{"scorers": "dnsmos", "n_worst": 1, "robustness": "true", "n_robustness": 1},
    )
    report = json.loads((out / "report.json").read_text())
    domains = report["figures"]["domain"]
    assert [domains[name]["dnsmos/recording"]["n"] for name in ("readers", "noisy one")] == [
        2,
        1,
    ]
    scores = [pair["figures"]["dnsmos/recording"] for pair in report["pairs"]]
    assert domains["readers"]["dnsmos/recording"]["mean"] == pytest.approx(np.mean(scores[:2]))
    assert domains["noisy one"]["dnsmos/recording"]["mean"] == scores[2] < min(scores[:2]) - 0.3
    assert report["figures"]["all"]["all pairs"]["dnsmos/recording"]["n"] == 3
    assert report["about"]["scored against the only recording of the voice"] == "1 pairs"
    assert "noisy one: " in report["about"]["pairs"]

    first, second = report["worst"]  # of each domain
    assert first["pair"] in (0, 1)
    assert second["pair"] == 2
    assert first["figures"] == report["pairs"][first["pair"]]["figures"]
    conditions = [trial["condition"] for trial in report["robustness"]]
    assert conditions[:2] == ["as recorded", "20 dB quieter"]
    assert {"a second speaker, as loud", "target of 1 s"} <= set(conditions)
    assert {trial["converted"] + len(trial["refused"]) for trial in report["robustness"]} <= {1, 2}
    assert all(trial["figures"]["ge2e/nearer"]["n"] for trial in report["robustness"])
    clean = report["robustness"][0]["figures"]["dnsmos/conversion"]["mean"]
    own = [pair["figures"]["dnsmos/conversion"] for pair in report["pairs"]]
    assert clean == pytest.approx((own[0] + own[2]) / 2)

    text = (out / "report.md").read_text()
    order = [
        "## The worst conversions",
        "## Real recordings",
        "## All pairs",
        "## By domain",
        "## Robustness",
    ]
    assert sorted(order, key=text.index) == order
    assert (out / "pictures" / "robustness.png").stat().st_size > 10_000
    text = text.replace("![scores under every condition]", "")
    links = re.findall(r"\]\(([^)]+)\)", text)
    # Conversion, vocoder, source, target and its reference, and pictures of those with speech.
    assert len(links) == 2 * 5 + sum(worst["figures"]["ge2e/speech"] for worst in report["worst"])
    assert all((out / unquote(link)).is_file() for link in links)
    assert not any(" " in link or link.startswith("/") for link in links)
    assert f"among the worst: {out / first['wav']}" in caplog.text

    curves = EventAccumulator(str(out)).Reload().Tags()
    assert "domain_noisy_one/dnsmos/conversion" in curves["scalars"]
    assert "robustness_mp3_at_64_kbit_s/dnsmos/conversion" in curves["scalars"]
    title = first["wav"].removeprefix("wavs/").removesuffix("_conversion.wav")
    assert f"worst_01_{title}/conversion" in curves["audio"]


def test_verification_within_domains():
    """Across domains, microphones distinguish speakers too, which would lower the error rate."""

    def pair(source, target):
        paths = [Path(name) for name in (f"{source}0", f"{target}0", f"{target}1", f"{source}1")]
        return pairs.Pair(paths[0], (paths[1],), *paths[2:], source, target)

    listed = [pair("ann", "bob"), pair("eve", "dan")]
    rng = np.random.default_rng(0)
    paths = [Path(f"{name}{n}") for name in ("ann", "bob", "eve", "dan") for n in (0, 1)]
    embeddings = {path: rng.standard_normal(4) for path in paths}
    both = domains.together([("a", listed[:1]), ("b", listed[1:])])
    found = voices.verify(both, embeddings)
    counts = {name: (len(one.same), len(one.different)) for name, one in found.items()}
    assert counts == {"all pairs": (4, 4), "a": (2, 2), "b": (2, 2)}
    mixed = voices.verify(listed, embeddings)["all pairs"]
    assert (len(mixed.same), len(mixed.different)) == (4, 12)


def test_refuses_bad_inputs(run, tmp_path, corpus, capsys):
    (tmp_path / "file").write_text("")
    noise = tmp_path / "voices"
    for name in ("a", "b"):
        (noise / name).mkdir(parents=True)
        for index in range(3):
            (noise / name / f"{index}.wav").write_bytes(SOURCE.read_bytes()[:2000])
    for settings, reason in [
        ({"data.dir": ""}, "data.manifest=FILE, data.dir=FOLDER or data.pairs=FILE"),
        ({"data.dir": tmp_path / "missing"}, "there is no such folder"),
        ({"n_targets": 2}, "lower n_targets"),
        ({"n_targets": 0}, "n_targets=0: give an integer of at least 1"),
        ({"n_pairs": "many"}, "n_pairs=many: give an integer of at least 1"),
        ({"n_worst": 0}, "n_worst=0: give an integer of at least 1"),
        ({"n_robustness": -1}, "n_robustness=-1: give an integer of at least 1"),
        ({"robustness": "yes please"}, "robustness=yes please: give true or false"),
        ({"data.pairs": f"[{tmp_path}/file,{tmp_path}/file]"}, "columns named source, target"),
        ({"data.manifest": "[1]"}, "data.manifest=1: name one file"),
        ({"scorers": "taste"}, "scorers=taste: taste is unknown; choose from campplus, distillmos"),
        ({"scorers": "words", "recogniser": "tinny"}, "recogniser=tinny"),
        ({"scorers": "'words,naturalness'"}, "naturalness is now distillmos"),
        ({"vocoder_alone": "perhaps"}, "vocoder_alone=perhaps: give true or false"),
        ({"compare": f"[{tmp_path}/file]"}, "compare: give two reports"),
        ({"compare": f"[{tmp_path}/file,{tmp_path}/file]"}, "is not a report.json of this version"),
        ({"compare": f"[{tmp_path}/gone,{tmp_path}/file]"}, "gone: there is no such file"),
        ({"seed": -1}, "seed=-1"),
        ({"ckpt": tmp_path / "missing"}, "no such file"),
        ({"ckpt": SOURCE}, "cannot be read"),
        ({"data.manifest": tmp_path / "missing"}, "cannot be read"),
        ({"data.manifest": tmp_path / "file", "data.split": "tset"}, "data.split=tset"),
        ({"data.pairs": tmp_path / "file"}, "columns named source, target"),
        ({"output": tmp_path / "file" / "out"}, "cannot be written"),
        ({"device": "warp"}, "device=warp"),
        ({"data.dir": noise, "output": tmp_path / "noise"}, f"{noise / 'a' / '0.wav'}"),
    ]:
        with pytest.raises(SystemExit) as stop:
            run(**settings)
        message = capsys.readouterr().err
        assert (stop.value.code, message.count("\n")) == (2, 1), message
        assert reason in message


def test_script_with_unusual_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, reported = refusal("evaluate", "data.pairs=a, b = (c).tsv", "scorers=words,codes")
    assert code == 2
    assert reported.startswith("error: data.pairs=a, b = (c).tsv: cannot be read")
    assert reported.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert {"data.pairs", "recogniser", "vocoder.n_iter"} <= set(overrides.known_keys("evaluate"))
