"""What the report of an evaluation is made of."""

import functools
from dataclasses import dataclass
from pathlib import Path

import soundfile

from vc_lightning.common.errors import InputError
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.evaluation.report import worst
from vc_lightning.evaluation.report.sound_files import CONVERSION, VOCODER, wav_path
from vc_lightning.evaluation.scores import ScoredConversion, Sounds
from vc_lightning.evaluation.summary import Evaluation


@dataclass(frozen=True)
class Contents:
    """What the report of an evaluation is made of; its sound is in files, see `sound_files`.

    Attributes:
        evaluation: The results.
        folder: Folder of the report.
        about: Names and values that describe the evaluation, such as the weights.
        converter: The converter, which reads recordings and makes mels.
        n_worst: Number of worst conversions of each domain that are shown first.
    """

    evaluation: Evaluation
    folder: Path
    about: dict[str, str]
    converter: VoiceConverter
    n_worst: int

    @functools.cached_property
    def ranked(self) -> list[tuple[int, ScoredConversion]]:
        """The worst conversions with the numbers of their pairs, see `worst.ranked`."""
        return worst.ranked(self.evaluation.conversions, self.n_worst)

    def sounds(self, index: int, conversion: ScoredConversion) -> Sounds:
        """Read the sound of a conversion and of its source, given the number of its pair.

        Raises:
            InputError: A file is missing or damaged.
        """
        path, vocoder_path = (
            self.folder / wav_path(index, conversion, name) for name in (CONVERSION, VOCODER)
        )
        try:
            after, vocoder = soundfile.read(path, dtype="float32")[0], None
            if vocoder_path.is_file():
                vocoder = soundfile.read(vocoder_path, dtype="float32")[0]
        except (OSError, soundfile.SoundFileError) as error:
            raise InputError(
                f"{self.folder}: the sound of pair {index} cannot be read ({error})"
            ) from error
        return Sounds(self.converter.load(conversion.pair.source), after, vocoder)
