"""What a recogniser hears in a stream is what it hears in the whole, but for the newest frames."""

import numpy as np

from vc_lightning.models import running_recogniser
from vc_lightning.models.running_recogniser import N_SILENCE, RunningRecogniser

STEP = 1024  # samples: 64 ms
EVERY = 5  # steps of which one is compared
NEWEST = 4  # features, of sound that a step looks ahead


def heard(running, speech):
    """The features that each step has of the 50 before its newest ones -> [(first, features)]."""
    steps = []
    for stop in range(STEP, len(speech) + 1, STEP):
        running.push(speech[stop - STEP : stop])
        first = max(0, stop // 320 - NEWEST - 50)
        steps.append((first, running.features(first / 50, stop // 320 - NEWEST - first, 50.0)))
    return steps


def error(steps, whole):
    """Mean square of what the newest three features of every step are wrong by."""
    late = [(first, features) for first, features in steps if len(features) == 50]
    wrong = [features[-3:] - whole[first + 47 : first + 50] for first, features in late]
    return float(np.square(wrong).mean())


def test_one_step_hears_the_recording_before_a_silence(recogniser, speech):
    running = RunningRecogniser(recogniser, 4.0)
    running.push(speech)
    whole = recogniser.features(np.pad(speech, (0, N_SILENCE * 320)))
    n = len(speech) // 320
    np.testing.assert_allclose(running.features(0.0, n, 50.0), whole[:n], atol=2e-3)
    between = running.features(1.0, 2, 100.0)  # the second frame lies between two features
    np.testing.assert_allclose(between, [whole[50], (whole[50] + whole[51]) / 2], atol=2e-3)


def test_short_steps_hear_what_two_seconds_of_sound_heard_again_do_not(recogniser, speech):
    """The features that a stream used to have, of the last two seconds without silence."""
    whole = recogniser.features(speech)
    steps = heard(RunningRecogniser(recogniser, 4.0), speech)
    again = []
    for stop in range(STEP, len(speech) + 1, EVERY * STEP):
        begin = max(0, stop - 32_000) // 320
        features = recogniser.features(speech[begin * 320 : stop])
        first = max(0, stop // 320 - NEWEST - 50)
        again.append((first, features[first - begin : stop // 320 - NEWEST - begin]))
    assert error(steps[::EVERY], whole) < 0.7 * error(again, whole)


def test_earlier_sound_is_heard_before_the_stream_and_its_end_is_remembered(recogniser, speech):
    earlier, later = speech[:41_000], speech[48_000:64_000]
    running = RunningRecogniser(recogniser, 2.0, earlier)
    running.push(later)
    known = RunningRecogniser(recogniser, 2.0)
    known.push(earlier[-32_000:])
    known.push(later)
    features = running.features(0.0, 40, 50.0)
    np.testing.assert_array_equal(features, known.features(2.0, 40, 50.0))
    alone = RunningRecogniser(recogniser, 2.0)
    alone.push(later)
    whole = recogniser.features(speech)[150:190]
    wrong = [np.square(one - whole).mean() for one in (features, alone.features(0.0, 40, 50.0))]
    assert wrong[0] < 0.7 * wrong[1]


def test_too_little_earlier_sound_is_none(recogniser, speech):
    streams = [RunningRecogniser(recogniser, 2.0, one) for one in (None, speech[:300])]
    for stream in streams:
        stream.push(speech[:16_000])
    first, second = (stream.features(0.0, 40, 50.0) for stream in streams)
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_where_the_positions_end_the_last_sound_is_heard_as_a_start(
    recogniser, speech, monkeypatch
):
    monkeypatch.setattr(running_recogniser, "MAX_FRAMES", 200)
    running = RunningRecogniser(recogniser, 4.0)
    steps = heard(running, speech)
    begin = running._origin
    assert begin > 0
    anew = [(first - begin, features) for first, features in steps if first > begin + 20]
    assert len(anew) > 20
    own = error(anew, recogniser.features(speech[begin * 320 :]))
    assert own < 0.6 * error(steps[-len(anew) :], recogniser.features(speech))


def test_nothing_grows(recogniser, speech):
    running = RunningRecogniser(recogniser, 1.0)
    sizes = []
    for stop in range(1600, len(speech) + 1, 1600):  # 5 features
        running.push(speech[stop - 1600 : stop])
        running.features(stop / 16_000 - 1, 50, 50.0)
        held = len(running._wav), running._features.size, running._past[0], running._loudness
        sizes.append([one if isinstance(one, int) else one.numel() for one in held])
    assert (np.max(sizes[40:], axis=0) <= np.max(sizes[25:40], axis=0)).all()


def test_frames_outside_what_is_remembered_repeat_the_nearest(recogniser, speech):
    running = RunningRecogniser(recogniser, 1.0)
    running.push(speech[:16_000])
    features = running.features(-0.1, 10, 50.0)
    assert (features[:6] == features[5]).all()
    assert not np.allclose(features[5], features[6])
    beyond = running.features(0.9, 20, 50.0)
    assert (beyond[-5:] == beyond[-1]).all()
