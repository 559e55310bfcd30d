"""AutoVC: an autoencoder with a narrow bottleneck (Qian et al. 2019, arXiv 1905.05879)."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vc_lightning.audio.mel import n_harmonics
from vc_lightning.common.errors import (
    require_at_least,
    require_flag,
    require_layers,
    require_within,
)
from vc_lightning.models.autovc_layers import GAIN, KERNEL_SIZE, ConvNorm, films, with_speaker
from vc_lightning.models.lstm import run_lstm
from vc_lightning.models.network import Network, State
from vc_lightning.models.reference import ReferenceAttention

MAX_CONTRAST = 4
SMOOTHED_SHARE = 0.25  # of the bands, over which a spectrum is smoothed to find its contrast
DIM_LIVE = 320  # width of a live encoder's convolutions


class AutoVC(Network):
    """Network that converts mel-spectrograms between speakers, who are given by embeddings.

    Args:
        dim_neck: LSTM cells in each direction of the bottleneck; codes have twice as many channels.
        dim_emb: Size of a speaker embedding.
        dim_pre: Width of the decoder before its last LSTM.
        freq: Frames per code.
        n_mels: Mel bands.
        dim_encoder: Width of the encoder's convolutions.
        dim_decoder: Width of the decoder's last LSTM.
        decoder_layers: Layers of the decoder's last LSTM.
        dim_postnet: Width of the postnet's convolutions.
        f0: Whether the pitch is an input of the decoder, in the form of
            `MelSpectrogram.harmonics` (after Qian et al. 2020, arXiv 2004.07370).
        film: Whether the target's embedding also scales and shifts the channels of every
            convolution in decoder and postnet (FiLM, Perez et al. 2018, arXiv 1709.07871). In the
            paper the embedding is an input of the decoder only.
        dim_features: Size of a recogniser's features, which the content encoder then reads in
            place of mel and speaker embedding: the network listens. Such a network also has a
            `live_encoder`, which predicts the same codes from the mel. 0: it reads the mel.
        dim_acoustics: Numbers that describe how the target was recorded (`checks.acoustics`), an
            input of the decoder beside the embedding. Conversions use `clean`, those of clean
            recordings. 0: no such input.
        dim_reference: Width of the attention to the target's own frames, see `ReferenceAttention`;
            0: there is none.
        contrast: By how much conversions raise the spectral contrast of the postnet's mels, see
            `sharpened`; 0 leaves them as they are.

    Raises:
        InputError: A size is below 1, a switch is not true or false, or `contrast` is out of range.
    """

    kind = "autovc"
    sizes_of_mels = ("n_mels",)
    live_encoder: "ContentEncoder"  # this and the next two only where the network listens
    features_mean: Tensor
    features_std: Tensor
    clean: Tensor  # only with `dim_acoustics`
    reference: ReferenceAttention  # only with `dim_reference`

    def __init__(
        self,
        dim_neck: int,
        dim_emb: int,
        dim_pre: int,
        freq: int,
        n_mels: int = 80,
        dim_encoder: int = 512,
        dim_decoder: int = 1024,
        decoder_layers: int = 2,
        dim_postnet: int = 512,
        f0: bool = False,
        film: bool = False,
        dim_features: int = 0,
        dim_acoustics: int = 0,
        dim_reference: int = 0,
        contrast: float = 0.0,
    ):
        super().__init__(locals())
        require_flag("model.f0", f0)
        require_flag("model.film", film)
        may_be_0 = {"dim_features": dim_features, "dim_acoustics": dim_acoustics}
        may_be_0 |= {"dim_reference": dim_reference}
        require_at_least(0, "model", **may_be_0)
        require_within(0, MAX_CONTRAST, "model", contrast=contrast)
        sizes = self.arguments.keys() - may_be_0.keys() - {"f0", "film", "contrast"}
        require_at_least(1, "model", **{name: self.arguments[name] for name in sorted(sizes)})
        require_layers("model", decoder_layers=decoder_layers)
        self.freq = freq
        self.f0 = f0
        self.contrast = contrast
        self.encoder = ContentEncoder(dim_features or n_mels + dim_emb, dim_encoder, dim_neck, freq)
        if dim_features:
            self.live_encoder = ContentEncoder(n_mels + dim_emb, DIM_LIVE, dim_neck, freq)
            self.register_buffer("features_mean", torch.zeros(dim_features))
            self.register_buffer("features_std", torch.ones(dim_features))
        if dim_acoustics:
            self.register_buffer("clean", torch.zeros(dim_acoustics))
        dim_voice = dim_emb + dim_acoustics
        dim_in = 2 * dim_neck + dim_voice + (n_harmonics(n_mels) if f0 else 0)
        dim_film = dim_voice if film else None
        self.decoder = Decoder(dim_in, dim_pre, dim_decoder, decoder_layers, n_mels, dim_film)
        self.postnet = Postnet(n_mels, dim_postnet, dim_film)
        if dim_reference:
            self.reference = ReferenceAttention(n_mels, 2 * dim_neck, dim_reference)

    def forward(
        self,
        mel: Tensor,
        source_embedding: Tensor,
        target_embedding: Tensor,
        harmonics: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Convert speech to the target's voice.

        Args:
            mel: Source mel (B, n_mels, T); where the network listens, what the recogniser hears
                in the source instead (B, dim_features, T).
            source_embedding: Embedding of the source speaker (B, dim_emb).
            target_embedding: Embedding of the target speaker (B, dim_emb).
            harmonics: `MelSpectrogram.harmonics` of the target pitch (B, n_mels + 2, T); needed
                where `f0` is set.

        Returns:
            Mel of the decoder and mel of the postnet, both (B, n_mels, T), and the codes
            (B, 2·dim_neck, ⌈T/freq⌉).
        """
        codes = self.encode(mel, source_embedding)  # (B, 2*dim_neck, ceil(T/freq))
        return *self.decode(codes, mel.shape[-1], target_embedding, harmonics), codes

    @classmethod
    def sizes(cls, state: State) -> dict:
        n_mels, dim_decoder = state["decoder.projection.weight"].shape
        dim_encoder, dim_in, _ = state["encoder.convolutions.0.conv.weight"].shape
        dim_neck = state["encoder.lstm.weight_hh_l0"].shape[1]
        dim_features = dim_in if "features_mean" in state else 0
        dim_acoustics = len(state["clean"]) if "clean" in state else 0
        if dim_features:
            dim_in = state["live_encoder.convolutions.0.conv.weight"].shape[1]
        dim_emb = dim_in - n_mels
        dim_voice = dim_emb + dim_acoustics
        has_reference = "reference.input.weight" in state
        return {
            "dim_neck": dim_neck,
            "dim_emb": dim_emb,
            "dim_pre": state["decoder.lstm1.weight_hh_l0"].shape[1],
            "n_mels": n_mels,
            "dim_encoder": dim_encoder,
            "dim_decoder": dim_decoder,
            "decoder_layers": sum(key.startswith("decoder.lstm2.weight_hh") for key in state),
            "dim_postnet": state["postnet.convolutions.0.conv.weight"].shape[0],
            "f0": state["decoder.lstm1.weight_ih_l0"].shape[1] > 2 * dim_neck + dim_voice,
            "film": "decoder.films.0.linear.weight" in state,
            "dim_features": dim_features,
            "dim_acoustics": dim_acoustics,
            "dim_reference": len(state["reference.input.weight"]) if has_reference else 0,
        }

    @property
    def has_reference(self) -> bool:
        """Whether conversions attend to the target's own frames."""
        return self.arguments["dim_reference"] > 0

    @property
    def listens(self) -> bool:
        """Whether the content encoder reads a recogniser's features in place of the mel."""
        return self.arguments["dim_features"] > 0

    @property
    def lookahead(self) -> int:
        """Later frames that the convolutions of decoder and postnet read for a frame."""
        return self.decoder.reach + self.postnet.reach

    def encode(self, mel: Tensor, embedding: Tensor | None) -> Tensor:
        """Encode speech, padded with zeros to a multiple of `freq` frames.

        Args:
            mel: Mel (B, n_mels, T); where the network listens, a recogniser's features instead
                (B, dim_features, T).
            embedding: Embedding of the speaker (B, dim_emb); not needed where the network listens.

        Returns:
            Codes (B, 2·dim_neck, ⌈T/freq⌉).
        """
        if not self.listens:
            assert embedding is not None
            return self.encoder(with_speaker(self._padded(mel), embedding))
        features = (mel - self.features_mean[:, None]) / self.features_std[:, None]
        return self.encoder(self._padded(features))

    def encode_live(self, mel: Tensor, embedding: Tensor) -> Tensor:
        """Encode a mel, for streams, in which a recogniser would hear too little of the future.

        Args:
            mel: Mel (B, n_mels, T).
            embedding: Embedding of its speaker (B, dim_emb).

        Returns:
            Codes (B, 2·dim_neck, ⌈T/freq⌉).
        """
        encoder = self.live_encoder if self.listens else self.encoder
        return encoder(with_speaker(self._padded(mel), embedding))

    def _padded(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, -x.shape[-1] % self.freq))

    def decode(
        self,
        codes: Tensor,
        n_frames: int,
        embedding: Tensor,
        harmonics: Tensor | None = None,
        acoustics: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode codes in a voice.

        Args:
            codes: Codes (B, 2·dim_neck, ⌈n_frames/freq⌉).
            n_frames: Length of the mel in frames.
            embedding: Embedding of the voice (B, dim_emb).
            harmonics: See `forward`.
            acoustics: How the target was recorded (B, dim_acoustics); None for clean recordings.

        Returns:
            Mel of the decoder and mel of the postnet, both (B, n_mels, n_frames).

        Raises:
            ValueError: The network has F0 inputs, and `harmonics` is None.
        """
        voice = self.voice(embedding, acoustics)
        decoder_mel = self.decoder(self.decoder_inputs(codes, n_frames, voice, harmonics), voice)
        return decoder_mel, decoder_mel + self.postnet(decoder_mel, voice)

    def decoder_inputs(
        self, codes: Tensor, n_frames: int, voice: Tensor, harmonics: Tensor | None
    ) -> Tensor:
        """Join what the decoder reads, see `decode` and `voice` -> (B, dim_in, n_frames)."""
        inputs = with_speaker(self.repeat_codes(codes, n_frames), voice)
        if not self.f0:
            return inputs
        if harmonics is None:
            raise ValueError("the network has F0 inputs: give harmonics")
        return torch.cat([inputs, harmonics], dim=1)

    def voice(self, embedding: Tensor, acoustics: Tensor | None = None) -> Tensor:
        """Join embeddings (B, dim_emb) and acoustics -> (B, dim_emb + dim_acoustics).

        Acoustics are scaled to the size of an embedding's elements, see `FiLM`.
        """
        if not self.arguments["dim_acoustics"]:
            return embedding
        if acoustics is None:
            acoustics = self.clean.expand(embedding.shape[0], -1)
        return torch.cat([embedding, acoustics / GAIN], dim=1)

    def repeat_codes(self, codes: Tensor, n_frames: int) -> Tensor:
        """Repeat codes (B, C, ⌈n_frames/freq⌉) for `freq` frames each -> (B, C, n_frames)."""
        return codes[..., None].expand(-1, -1, -1, self.freq).flatten(2)[..., :n_frames]

    def remember(self, content: Tensor, embedding: Tensor, mel: Tensor) -> Tensor:
        """Make the reference of a voice from its speech.

        Args:
            content: What the content encoder reads, see `encode`.
            embedding: Embedding of the speaker (B, dim_emb).
            mel: Mel of the speech (B, n_mels, R).

        Returns:
            (B, D, R), see `ReferenceAttention.remember`.
        """
        codes = self.repeat_codes(self.encode(content, embedding), mel.shape[-1])
        return self.reference.remember(codes, mel)

    def refined(
        self, codes: Tensor, mel: Tensor, reference: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """Refine converted mels by frames of the target, see `ReferenceAttention`.

        Args:
            codes: Codes of the source (B, 2·dim_neck, ⌈T/freq⌉).
            mel: Mel of the postnet (B, n_mels, T).
            reference: (B, D, R), a result of `remember`.
            valid: (B, R), which frames of the reference are not padding; None for all.

        Returns:
            (B, n_mels, T).
        """
        return self.reference(self.repeat_codes(codes, mel.shape[-1]), mel, reference, valid)

    def sharpened(self, mel: Tensor) -> Tensor:
        """Raise the spectral contrast of converted mels, as a postfilter of the formants.

        A network that minimises a distance predicts the mean of all mels that fit, whose formants
        are flatter than those of any of them. What rises above the spectrum's moving average over
        a quarter of the bands is multiplied by 1 + `contrast`, frame by frame.

        Args:
            mel: (B, n_mels, T), of the postnet.

        Returns:
            (B, n_mels, T).
        """
        if self.contrast == 0:
            return mel
        reach = round(SMOOTHED_SHARE * self.arguments["n_mels"] / 2)  # bands on each side
        spectra = F.pad(mel.transpose(1, 2), (reach, reach), mode="replicate")
        average = F.avg_pool1d(spectra, 2 * reach + 1, stride=1).transpose(1, 2)
        return mel + self.contrast * (mel - average)

    @torch.no_grad()
    def initialize_output(self, mean_mel: Tensor) -> None:
        """Make an untrained network predict the mean mel of the corpus.

        The mean becomes the output bias. The postnet's last BatchNorm gets zero gain: at a gain of
        1 it would add unit-variance noise to mels in 0…1.

        Args:
            mean_mel: Mean over all frames of the corpus (n_mels,).
        """
        self.decoder.projection.bias.copy_(mean_mel)
        self.postnet.convolutions[-1].get_parameter("norm.weight").zero_()


class ContentEncoder(nn.Module):
    """Convolutions, then a bidirectional LSTM whose output is sampled every `freq` frames.

    Args:
        dim_in: Channels of the input: mel bands and embedding.
        dim: Width of the convolutions.
        dim_neck: LSTM cells in each direction.
        freq: Frames per code.
    """

    def __init__(self, dim_in: int, dim: int, dim_neck: int, freq: int):
        super().__init__()
        self.dim_neck = dim_neck
        self.freq = freq
        dims = [dim_in, dim, dim, dim]
        self.convolutions = nn.ModuleList(
            ConvNorm(a, b, "relu") for a, b in itertools.pairwise(dims)
        )
        self.lstm = nn.LSTM(dim, dim_neck, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        """Encode x (B, dim_in, T), T a multiple of freq -> codes (B, 2·dim_neck, T/freq)."""
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
        x = run_lstm(self.lstm, x.transpose(1, 2))  # (B, T, 2*dim_neck)
        # Each direction is read at the frame where it has processed the code's whole block.
        forward = x[:, self.freq - 1 :: self.freq, : self.dim_neck]
        backward = x[:, :: self.freq, self.dim_neck :]
        return torch.cat([forward, backward], dim=-1).transpose(1, 2)


class Decoder(nn.Module):
    """LSTM, convolutions and a second LSTM, then a linear layer to the mel.

    Args:
        dim_in: Channels of the input: codes, embedding and, where used, harmonics.
        dim: Width of the first LSTM and of the convolutions.
        dim_out: Width of the second LSTM.
        n_layers: Layers of the second LSTM.
        n_mels: Mel bands.
        dim_film: Size of the embedding for `FiLM` layers; None for no such layers.
    """

    def __init__(
        self,
        dim_in: int,
        dim: int,
        dim_out: int,
        n_layers: int,
        n_mels: int,
        dim_film: int | None,
    ):
        super().__init__()
        self.lstm1 = nn.LSTM(dim_in, dim, batch_first=True)
        self.convolutions = nn.ModuleList(ConvNorm(dim, dim, "relu") for _ in range(3))
        self.films = films(dim_film, dim, 3)
        self.lstm2 = nn.LSTM(dim, dim_out, num_layers=n_layers, batch_first=True)
        self.projection = nn.Linear(dim_out, n_mels)
        nn.init.xavier_uniform_(self.projection.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Decode x (B, dim_in, T) with embedding (B, dim_film) -> mel (B, n_mels, T)."""
        x = run_lstm(self.lstm1, x.transpose(1, 2)).transpose(1, 2)  # (B, dim, T)
        x = run_lstm(self.lstm2, self.convolved(x, embedding).transpose(1, 2))  # (B, T, dim_out)
        return self.projection(x).transpose(1, 2)

    def convolved(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Convolve x (B, dim, T), between the LSTMs, with embedding (B, dim_film)."""
        for convolution, film in zip(self.convolutions, self.films, strict=True):
            x = F.relu(film(convolution(x), embedding))
        return x

    @property
    def reach(self) -> int:
        """Frames on each side that the convolutions read for a frame."""
        return len(self.convolutions) * (KERNEL_SIZE // 2)


class Postnet(nn.Module):
    """Five convolutions that add detail to the decoder's mel (after Tacotron 2).

    Args:
        n_mels: Mel bands.
        dim: Width of the convolutions.
        dim_film: Size of the embedding for `FiLM` layers; None for no such layers.
    """

    def __init__(self, n_mels: int, dim: int, dim_film: int | None):
        super().__init__()
        self.films = films(dim_film, dim, 4)
        self.convolutions = nn.ModuleList(
            [
                ConvNorm(n_mels, dim, "tanh"),
                *(ConvNorm(dim, dim, "tanh") for _ in range(3)),
                ConvNorm(dim, n_mels, "linear"),
            ]
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Refine x (B, n_mels, T) with embedding (B, dim_film) -> residual (B, n_mels, T)."""
        for convolution, film in zip(self.convolutions[:-1], self.films, strict=True):
            x = torch.tanh(film(convolution(x), embedding))
        return self.convolutions[-1](x)

    @property
    def reach(self) -> int:
        """Frames on each side that are read for a frame."""
        return len(self.convolutions) * (KERNEL_SIZE // 2)
