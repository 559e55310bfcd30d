"""The text of report.json."""

import json
from dataclasses import asdict

from vc_lightning.evaluation import robustness
from vc_lightning.evaluation.report import worst
from vc_lightning.evaluation.report.contents import Contents
from vc_lightning.evaluation.report.sound_files import CONVERSION, wav_path
from vc_lightning.evaluation.scores import ScoredConversion, figures
from vc_lightning.evaluation.statistics import Verification, figure


def text(contents: Contents) -> str:
    """Return the text of report.json: all means, and the scores of every conversion."""
    evaluation = contents.evaluation
    groups = {
        kind or "all": {
            name: {key: asdict(value) for key, value in figures(group).items()}
            for name, group in by_name.items()
        }
        for kind, by_name in evaluation.groups().items()
    }
    found = {
        "about": contents.about,
        "left_out": evaluation.left_out,
        "real_pairs": {
            judge: {name: _verification(one) for name, one in verified.items()}
            for judge, verified in evaluation.verified.items()
        },
        "codes": evaluation.probe and asdict(evaluation.probe),
        "figures": groups,
        "worst": [
            {
                "pair": index,
                "badness": worst.badness(conversion)[0],
                "because": worst.reason(conversion),
                "wav": wav_path(index, conversion, CONVERSION).as_posix(),
            }
            | _pair(conversion)
            for index, conversion in contents.ranked
        ],
        "robustness": robustness.to_json(evaluation.conditions),
        "pairs": [_pair(conversion) for conversion in evaluation.conversions],
    }
    return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _verification(verification: Verification) -> dict[str, object]:
    return {
        "same_speaker": asdict(figure(verification.same)),
        "different_speakers": asdict(figure(verification.different)),
        "threshold": verification.threshold,
        "error_rate": verification.error_rate,
    }


def _pair(conversion: ScoredConversion) -> dict[str, object]:
    pair = conversion.pair
    return {
        "source": str(pair.source),
        "voice": [str(path) for path in pair.voice],
        "target_reference": str(pair.target_reference),
        "source_reference": str(pair.source_reference),
        "parallel": pair.parallel and str(pair.parallel),
        "source_speaker": pair.source_speaker,
        "target_speaker": pair.target_speaker,
        "groups": pair.groups,
        "text": pair.text,
        "figures": conversion.scores.numbers(),
        "bases": conversion.scores.bases(),
        "transcripts": conversion.transcripts,
    }
