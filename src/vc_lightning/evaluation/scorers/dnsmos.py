"""DNSMOS (Reddy et al. 2022), a judge of naturalness on which the recipe was chosen."""

from pathlib import Path

import numpy as np
import torch

from vc_lightning.audio.files import io as audio
from vc_lightning.evaluation.scorers.availability import SAMPLE_RATE, require_packages


def require_installed() -> None:
    """Raise MissingScorerError where the packages of `DNSMOSListener` are not installed."""
    require_packages("dnsmos", "speechmos", "onnxruntime", "requests")


class DNSMOSListener:
    """Scores naturalness, 1 to 5, with the models in the wheel of speechmos.

    Raises:
        MissingScorerError: A package is not installed.
    """

    def __init__(self) -> None:
        require_installed()
        import onnxruntime
        import speechmos
        from speechmos.dnsmos import DNSMOS

        folder = Path(speechmos.__file__).parent
        models = [
            str(folder / "dnsmos_models" / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")
        ]
        self.dnsmos = DNSMOS(*models)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        sessions = [onnxruntime.InferenceSession(path, options) for path in models]
        self.dnsmos.onnx_sess, self.dnsmos.p808_onnx_sess = sessions

    def naturalness(self, wav: np.ndarray, sample_rate: int) -> float:
        """Return the overall DNSMOS of a recording, 1 to 5.

        Args:
            wav: The recording (n,).
            sample_rate: Its sample rate in Hz.
        """
        wav = audio.resample(wav, sample_rate, SAMPLE_RATE).clip(-1, 1)
        return float(self.dnsmos(wav, SAMPLE_RATE, False)["ovrl_mos"])
