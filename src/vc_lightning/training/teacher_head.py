"""The head that predicts a teacher's features from AutoVC's codes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vc_lightning.models.autovc_layers import KERNEL_SIZE
from vc_lightning.training.losses import Valid, masked_mean

DIM_HEAD = 256


class TeacherHead(nn.Module):
    """Predicts a teacher's features from the codes; needed in training only.

    Args:
        dim_codes: Channels of the codes.
        freq: Frames per code; the position of a frame within its code is an input as well.
        std: Standard deviation (D,) of the features.
    """

    std: Tensor

    def __init__(self, dim_codes: int, freq: int, std: Tensor):
        super().__init__()
        self.freq = freq
        self.convolution1 = nn.Conv1d(dim_codes + freq, DIM_HEAD, KERNEL_SIZE, padding="same")
        self.convolution2 = nn.Conv1d(DIM_HEAD, len(std), KERNEL_SIZE, padding="same")
        self.register_buffer("std", std)

    def forward(self, codes: Tensor) -> Tensor:
        """Predict features (B, D, T), in units of their std, from codes per frame (B, C, T)."""
        positions = torch.arange(codes.shape[-1], device=codes.device) % self.freq
        positions = F.one_hot(positions, self.freq).T.expand(len(codes), -1, -1)  # (B, freq, T)
        hidden = self.convolution1(torch.cat([codes, positions.to(codes.dtype)], dim=1))
        return self.convolution2(F.relu(hidden))

    def losses(self, codes: Tensor, features: Tensor, valid: Valid) -> dict[str, Tensor]:
        """Compute the squared error of the predicted features.

        Args:
            codes: (B, C, T), codes repeated to frames.
            features: (B, T, D), the teacher's features, of mean 0.
            valid: Masks of the elements that count.

        Returns:
            `teacher`, the error; `teacher_ratio`, relative to the error of predicting 0.
        """
        features = features.transpose(1, 2) / self.std[:, None]
        error = (self(codes).float() - features).square()
        teacher = masked_mean(error, valid.frames, valid.n_frames)
        unit = masked_mean(features.square(), valid.frames, valid.n_frames)
        return {"teacher": teacher, "teacher_ratio": teacher.detach() / unit}
