"""The audit: no findings for clean data, and one finding for each defect."""

import importlib
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers import DATA_DEFAULTS, TINY_OVERRIDES, composed, data_module, write_wav
from vc_lightning.audio.checks.quality import Quality
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.data.audit import report as audit
from vc_lightning.data.audit.table import UtteranceTable
from vc_lightning.data.features.files import Segment
from vc_lightning.data.manifest import Utterance
from vc_lightning.data.modules.voice import VoiceSettings

N_SPEAKERS, N_EACH = 24, 5
GOOD = Quality(10.0, 16_000, -3.0, 40.0, 0.0, 0.9)


class Data:
    """Healthy recordings of 24 speakers, five each of ten seconds, and four speakers held out."""

    def __init__(self, mel_settings):
        self.mel = mel_settings
        rng = np.random.default_rng(0)
        self.utterances, self.qualities, voices = [], {}, []
        for speaker in range(N_SPEAKERS + 4):
            for index in range(N_EACH):
                content = f"{speaker}-{index}"
                segment = Segment(content, 0, 0, 620 + speaker)
                path = Path(f"/data/s{speaker:02}/{index}.wav")
                self.utterances.append(Utterance(path, f"s{speaker:02}", "", segment))
                self.qualities[content] = GOOD
                voices.append(np.eye(64)[speaker] + 0.05 * rng.standard_normal(64))
        self.voices = np.array(voices) / np.linalg.norm(voices, axis=1, keepdims=True)
        self.n_train = N_SPEAKERS * N_EACH
        self.unusable = {}

    def set_quality(self, *rows, **changes):
        for row in rows:
            self.qualities[self.utterances[row].segment.content] = replace(GOOD, **changes)

    def set_segment(self, *rows, **changes):
        for row in rows:
            utterance = self.utterances[row]
            self.utterances[row] = replace(utterance, segment=replace(utterance.segment, **changes))

    def keep(self, rows):
        self.utterances = [self.utterances[row] for row in rows]
        self.voices = self.voices[rows]

    def report(self):
        n = self.n_train
        known = (self.qualities, self.voices, self.mel)
        table = UtteranceTable(self.utterances[:n], self.utterances[n:], *known)
        return audit.examine(table, self.unusable, 30.0)


@pytest.fixture
def data(mel_settings):
    return Data(mel_settings)


def only_finding(data):
    (finding,) = data.report().findings
    return finding


def test_no_findings_for_healthy_data(data):
    report = data.report()
    assert report.findings == []
    assert report.sizes["training"][:2] == (120, 24)
    assert report.sizes["validation"][:2] == (20, 4)
    frames = sum(u.n_frames for u in data.utterances[:120])
    assert report.sizes["training"][2] == pytest.approx(frames * 256 / 16_000 / 60)
    minutes = report.sizes["training"][2]
    assert (
        audit.summary(report)[0]
        == f"training: 120 utterances of 24 speakers, {minutes:.1f} minutes"
    )
    assert len(audit.summary(report)) == 2
    assert audit.table(report).endswith("no problems found")


@pytest.mark.parametrize(
    ("changes", "severity", "words", "remedy"),
    [
        ({"sample_rate": 8_000}, "warning", "of 8 kHz", "data.exclude"),
        ({"snr_db": 14.9}, "warning", "15 dB below the speech", "data.exclude"),
        ({"snr_db": 19.9}, "hint", "15 to 20 dB below the speech", "listen"),
        ({"clipped": 2e-4}, "warning", "clipped", "data.exclude"),
        ({"voiced": 0.29}, "warning", "speech in less than 30%", "trim"),
        ({"seconds": 3600.0}, "hint", "longer than 30 s, cut at pauses", "data.max_seconds"),
    ],
)
def test_bad_recordings(data, changes, severity, words, remedy):
    data.set_quality(3, 7, 8, 9, **changes)
    finding = data.report().findings[0]
    assert finding.severity == severity
    names = "s00/3.wav, s01/2.wav, s01/3.wav, …"
    assert finding.problem.startswith(f"4 recordings (0.7 minutes; {names})")
    assert words in finding.problem
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    "changes",
    [{"snr_db": 20.1}, {"clipped": 9e-5}, {"voiced": 0.31}, {"seconds": 30.0}],
)
def test_no_findings_just_within_limits(data, changes):
    data.set_quality(3, 7, 8, 9, **changes)
    assert data.report().findings == []


def test_names_worst_first(data):
    for row, snr_db in ((1, 12), (2, 3), (3, 8), (4, 11)):
        data.set_quality(row, snr_db=snr_db)
    assert "s00/2.wav, s00/3.wav, s00/4.wav, …" in only_finding(data).problem


def test_widespread_noise_is_serious(data):
    data.set_quality(*range(100), snr_db=10)
    assert only_finding(data).severity == "serious"
    assert audit.summary(data.report())[2].startswith("serious: 100 recordings")


def test_mixed_sample_rates(data):
    data.set_quality(3, sample_rate=48_000)
    finding = only_finding(data)
    assert finding.severity == "hint"
    assert "139 of 16 kHz, 1 of 48 kHz" in finding.problem


def test_segments_count_as_one_recording(data):
    path = data.utterances[0].path
    for row in range(3):
        data.utterances[row] = replace(data.utterances[row], path=path)
        data.set_segment(row, content="long", index=row)
    data.qualities["long"] = replace(GOOD, seconds=31.0)
    finding = only_finding(data)
    assert finding.problem.startswith("1 recording (0.5 minutes; s00/0.wav) longer than 30 s")
    assert finding.problem.endswith("3 segments")


def test_counts_unusable_files_by_reason(data):
    reasons = ["0.2 s are too short; give 0.5", "0.31 s are too short; give 0.5", "silent (peak 1)"]
    data.unusable = {Path(f"/data/x/{i}.wav"): reason for i, reason in enumerate(reasons)}
    finding = only_finding(data)
    assert finding.severity == "warning"
    assert finding.problem.startswith(
        "3 of 143 files are left out: 2 × “… s are too short”, 1 × “silent” (x/0.wav"
    )
    data.unusable |= {Path(f"/data/y/{i}.wav"): "silent" for i in range(50)}
    assert only_finding(data).severity == "serious"


def test_short_utterances(data):
    data.set_segment(3, n_frames=62)
    finding = only_finding(data)
    assert (finding.severity, "1 utterance shorter than 1 s" in finding.problem) == ("hint", True)
    data.set_segment(*range(0, 40), n_frames=62)
    assert data.report().findings[0].severity == "warning"


@pytest.mark.parametrize(
    ("row", "severity", "words"),
    [
        (1, "warning", "more than once"),
        (6, "serious", "under several speakers"),
        (121, "serious", "both in training and in validation"),
    ],
)
def test_severity_of_copies(data, row, severity, words):
    data.set_segment(row, content="0-0")
    finding = only_finding(data)
    assert finding.severity == severity
    assert finding.problem.startswith(f"1 utterance {words}")
    assert "(same bytes: s00/0.wav = " in finding.problem


def test_finds_transcoded_copies(data):
    data.voices[2] = data.voices[0]
    assert "1 pair of utterances that have the same length" in only_finding(data).problem
    data.set_segment(2, n_frames=300)
    assert data.report().findings == []


def test_finds_wrong_labels(data):
    data.voices[7] = data.voices[31]  # of s06
    data.set_segment(7, n_frames=999)
    finding = only_finding(data)
    assert finding.problem.startswith("1 utterance unlike the others of the same speaker")
    assert "s01/2.wav (-0.05, rather like s06)" in finding.problem


def test_finds_unknown_speakers(data):
    data.voices[7] = np.eye(64)[60]
    assert "s01/2.wav (" in only_finding(data).problem
    assert "rather" not in only_finding(data).problem


def test_ignores_speakers_with_few_utterances(data):
    data.keep([row for row in range(140) if row not in (8, 9)])
    data.n_train -= 2
    data.voices[7] = np.eye(64)[60]
    assert data.report().findings == []


def test_one_voice_under_two_names(data):
    data.voices[5:10] = data.voices[0:5]
    finding = only_finding(data)
    assert "1 pair of speakers that sound like one: s00 = s01" in finding.problem


def test_flat_folder_of_one_voice(data):
    data.keep([0, 1, 2, 3, 4])
    data.n_train = 5
    data.utterances = [
        replace(u, path=Path(f"/flat/{i}.wav"), speaker=str(i))
        for i, u in enumerate(data.utterances)
    ]
    problem = data.report().findings[0].problem
    assert "the 5 files of the folder count as one speaker each" in problem
    data.voices = np.eye(64)[:5]
    assert "the folder" not in audit.table(data.report())


@pytest.mark.parametrize(
    ("n_train", "severity", "words"),
    [(5, "serious", "there is one speaker"), (95, "warning", "19 speakers are too few")],
)
def test_too_few_speakers(data, n_train, severity, words):
    data.set_segment(*range(n_train), n_frames=40_000 // n_train * 5)
    data.keep([*range(n_train), *range(120, 140)])
    data.n_train = n_train
    finding = only_finding(data)
    assert (finding.severity, words in finding.problem) == (severity, True)
    assert "experiment=finetune" in finding.remedy


def test_too_few_minutes(data):
    data.set_segment(*range(120), n_frames=300)
    assert "9.6 minutes of training are few" in only_finding(data).problem


def test_unequal_speakers(data):
    data.set_segment(*range(5), n_frames=7_000)
    finding = only_finding(data)
    assert "s00 has 9.3 minutes, the median one 0.8" in finding.problem
    assert "data.sampling=speaker" in finding.remedy


def test_speaker_length_excludes_validation(data):
    data.n_train -= 2
    data.set_segment(118, 119, n_frames=20_000)
    assert data.report().findings == []


def test_validation_set(data):
    data.n_train = 140
    assert "there is no validation" in only_finding(data).problem
    data.n_train = 139
    assert "trained on" in only_finding(data).problem


def test_no_findings_without_embeddings_and_qualities(data):
    data.voices, data.qualities = None, {}
    report = data.report()
    assert report.findings == []
    assert len(audit.figures(report)) == 5
    assert "nan" in audit.table(report)


def test_table_of_many_speakers(data):
    data.utterances = [
        replace(u, speaker=f"{u.speaker}-{i % 2}") for i, u in enumerate(data.utterances)
    ]
    data.set_segment(0, 2, 4, n_frames=2_000)
    data.set_quality(0, snr_db=10, clipped=0.1, sample_rate=44_100)
    rows = audit.table(data.report()).split("\n\n")[0].splitlines()
    assert len(rows) == 1 + 30 + 2
    head = "speaker split utterances minutes SNR dB clipped speech kHz"
    assert " ".join(rows[0].split()) == head
    assert rows[1].split() == ["s00-0", "train", "3", "1.6", "40", "1", "90%", "16/44.1"]
    assert rows[-2].startswith("26 others")
    assert rows[-1].split()[:2] == ["all", "140"]
    assert len({len(row.rstrip("0123456789/.k Hz")) for row in rows[3:30]}) <= 2  # aligned
    assert audit.markdown(data.report()).count("\n| ") == 32


def test_unusual_names(data):
    data.utterances[0] = replace(data.utterances[0], speaker="a|\n\udcff" + 99 * "x")
    data.unusable = {Path("/x/\udcff\n.wav"): "silent"}
    report = data.report()
    for text in (audit.table(report), audit.markdown(report), *audit.summary(report)):
        text.encode()
    assert "a|��xxx" in audit.table(report)
    assert r"a\|��xxx" in audit.markdown(report)


def test_speed_with_ten_thousand_utterances(data):
    data.utterances = [
        replace(u, speaker=f"{u.speaker}-{i}", segment=replace(u.segment, content=f"{i}-{row}"))
        for i in range(72)
        for row, u in enumerate(data.utterances)
    ]
    data.voices = np.random.default_rng(0).standard_normal((10_080, 256)).astype("f4")
    data.n_train = 10_000
    before = time.process_time()
    data.report()
    assert time.process_time() - before < 5


@pytest.fixture(scope="module")
def defective(tmp_path_factory, speech, other_speech):
    """Folder with one recording for each defect that is found."""
    root = tmp_path_factory.mktemp("defective")
    (root / "man").mkdir()
    (root / "woman").mkdir()
    man, woman = root / "man", root / "woman"
    rng = np.random.default_rng(0)
    for index in range(4):
        write_wav(man / f"{index}.wav", speech[index * 16_000 : index * 16_000 + 40_000])
        write_wav(woman / f"{index}.wav", other_speech[index * 30_000 : index * 30_000 + 40_000])
    write_wav(man / "clipped.wav", (20 * speech[:50_000]).clip(-0.9, 0.9))
    write_wav(man / "noisy.wav", speech[:60_000] + 0.05 * rng.standard_normal(60_000))
    write_wav(man / "telephone.wav", speech[:64_000:2], 8_000)
    write_wav(man / "mostly_silent.wav", np.pad(speech[20_000:52_000], (0, 300_000)))
    write_wav(man / "swapped.wav", other_speech[50_000:90_000])
    (man / "copy.wav").write_bytes((man / "1.wav").read_bytes())
    write_wav(woman / "silent.wav", np.zeros(32_000))
    (woman / "text.wav").write_text("no sound")
    write_wav(woman / "long.wav", np.tile(np.pad(other_speech[:100_000], (0, 12_000)), 6))
    soundfile.write(woman / "transcoded.flac", other_speech[30_000:70_000], 16_000, "PCM_24")
    return root


def test_real_recordings_with_defects(defective, tmp_path, mel_settings, encoder):
    settings = DATA_DEFAULTS | {"dir": str(defective), "cache_dir": str(tmp_path)}
    mel = MelSpectrogram(**mel_settings)
    data = data_module(VoiceSettings, mel, encoder, "ge2e-1", **settings)
    data.setup()
    report = audit.audit(data)
    expected = {
        "flat at the peaks": "1 recording (0.1 minutes; man/clipped.wav) clipped",
        "more noise": "1 recording (0.1 minutes; man/noisy.wav) with more noise",
        "dullness": "1 recording (0.1 minutes; man/telephone.wav) of 8 kHz",
        "less than 30%": "man/mostly_silent.wav",
        "unlike": "man/swapped.wav",
        "same bytes": "man/1.wav = man/copy.wav",
        "left out": "2 of 18 files",
        "longer than": "1 recording (0.7 minutes; woman/long.wav) longer than 30 s, cut at pauses",
        "bytes differ": "1 pair of utterances that have the same length",
        "too few": "2 speakers",
        "no validation": "there is no validation",
    }
    for words, start in expected.items():
        (problem,) = [f.problem for f in report.findings if words in f.problem]
        assert start in problem


@pytest.fixture
def run(corpus, cache_dir, tmp_path):
    """Run the job of train.py or prepare.py; return the run's folder."""

    def run(name, *overrides):
        settings = {
            "data.dir": corpus,
            "data.cache_dir": cache_dir,
            "data.num_workers": 0,
            "run_dir": tmp_path / "run",
            "init_from": "null",
            "trainer.max_steps": 1,
            "trainer.precision": "32-true",
        }
        listed = [f"{key}={value}" for key, value in settings.items()]
        command = importlib.import_module(f"vc_lightning.commands.{name}")
        command.main(composed(name, *listed, *TINY_OVERRIDES, *overrides))
        return tmp_path / "run"

    return run


def test_check_shows_the_report_and_trains_nothing(run, caplog):
    caplog.set_level("INFO")
    folder = run("prepare", "verb=check")
    assert "speaker  split" in caplog.text
    assert "  → add speakers" in caplog.text
    assert "network:" not in caplog.text
    assert not (folder / "checkpoints").exists()
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    pictures = [f"data/{name}" for name in ("clipped", "minutes", "seconds", "snr", "speech")]
    assert sorted(events.Tags()["images"]) == pictures
    assert b"| man | " in events.Tensors("data/text_summary")[0].tensor_proto.string_val[0]


def test_summary_before_training(run, caplog):
    caplog.set_level("INFO")
    run("train", "logger=none", "callbacks.samples.every_n_steps=1000")
    assert "training: 6 utterances of 2 speakers, 0.2 minutes\nvalidation: none" in caplog.text
    assert "findings about the data; python prepare.py check" in caplog.text
    assert "speaker  split" not in caplog.text
