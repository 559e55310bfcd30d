// Runs on the browser's audio thread: sends the microphone's sound, plays the server's.
// Sample n of the answer is the conversion of sample n of the microphone, so the delay is the
// difference of the two counts.

const SEND_SECONDS = 0.02; // length of a message to the server
const FIRST_CUSHION_SECONDS = 0.08; // delay of the playback, so that a late message leaves no gap
const MAX_CUSHION_SECONDS = 0.4;
const EXCESS_SECONDS = 0.06; // beyond the cushion: if the queue is longer, silence is dropped
const WATCH_SECONDS = 2; // in which the fullness of the queue is observed
const REPORT_SECONDS = 0.25;
const FADE_SECONDS = 0.005; // after a gap
const QUIET = 0.005; // amplitude of sound that may be dropped

class LiveVoice extends AudioWorkletProcessor {
  constructor() {
    super();
    this.message = new Float32Array(Math.round(SEND_SECONDS * sampleRate));
    this.filled = 0;
    this.isOpen = false; // the server listens
    this.isOver = false; // the server has sent everything
    this.queue = [];
    this.position = 0; // in the first piece of the queue
    this.queued = 0;
    this.isPlaying = false;
    this.cushion = FIRST_CUSHION_SECONDS * sampleRate;
    this.held = 0; // samples of silence since the first piece came
    this.captured = this.played = this.gaps = 0;
    this.lowest = Infinity;
    this.watched = this.reported = 0;
    this.toDrop = 0;
    this.gain = 0;
    this.last = 0;
    this.peak = 0;
    this.port.onmessage = ({ data }) => this.take(data);
  }

  take(data) {
    if (data.samples) {
      this.queue.push(data.samples);
      this.queued += data.samples.length;
    } else if (data.skipped) {
      this.played += data.skipped; // the server could not convert these in time
    } else if (data.type === "open") {
      this.isOpen = true;
    } else if (data.type === "close") {
      this.isOpen = false;
    } else if (data.type === "over") {
      this.isOpen = false;
      this.isOver = true;
    }
  }

  process([input], [output]) {
    const speaker = output[0];
    const microphone = input.length ? input[0] : new Float32Array(speaker.length);
    this.capture(microphone);
    this.play(speaker);
    for (const channel of output.slice(1)) channel.set(speaker);
    this.report(speaker.length);
    return true;
  }

  capture(samples) {
    for (const sample of samples) {
      this.peak = Math.max(this.peak, Math.abs(sample));
      if (!this.isOpen) continue;
      this.captured += 1;
      this.message[this.filled++] = sample;
      if (this.filled === this.message.length) {
        this.port.postMessage({ samples: this.message.slice() });
        this.filled = 0;
      }
    }
  }

  play(speaker) {
    if (!this.isPlaying && this.queued > 0) {
      this.held += speaker.length;
      if (this.held >= this.cushion || this.isOver) {
        this.isPlaying = true;
        this.gain = this.held = 0;
      }
    }
    for (let i = 0; i < speaker.length; i++) {
      if ((this.isPlaying || this.isOver) && this.queued === 0) this.runDry();
      if (this.isPlaying) {
        this.gain = Math.min(1, this.gain + 1 / (FADE_SECONDS * sampleRate));
        this.last = this.next() * this.gain;
      } else {
        this.last *= 0.98; // from the last sample before a gap to silence, without a click
      }
      speaker[i] = this.last;
    }
    if (this.isPlaying) this.dropSilence(speaker.length);
  }

  next() {
    const sample = this.queue[0][this.position++];
    if (this.position === this.queue[0].length) {
      this.queue.shift();
      this.position = 0;
    }
    this.queued -= 1;
    this.played += 1;
    return sample;
  }

  runDry() {
    this.isPlaying = false;
    if (this.isOver) {
      this.isOver = false;
      this.port.postMessage({ isSilent: true });
      return;
    }
    this.gaps += 1;
    this.cushion = Math.min(MAX_CUSHION_SECONDS * sampleRate, this.cushion * 1.5);
  }

  // After a late message the queue stays too long: drop as much silence.
  dropSilence(length) {
    this.lowest = Math.min(this.lowest, this.queued);
    this.watched += length;
    if (this.watched >= WATCH_SECONDS * sampleRate) {
      const excess = this.lowest - this.cushion;
      this.toDrop = excess > EXCESS_SECONDS * sampleRate ? excess : 0;
      this.lowest = Infinity;
      this.watched = 0;
    }
    while (this.toDrop > 0 && this.queued > 0 && Math.abs(this.last) < QUIET) {
      const sample = this.queue[0][this.position];
      if (Math.abs(sample) >= QUIET) break;
      this.next();
      this.toDrop -= 1;
    }
  }

  report(length) {
    this.reported += length;
    if (this.reported < REPORT_SECONDS * sampleRate) return;
    this.reported = 0;
    this.port.postMessage({
      level: this.peak,
      gaps: this.gaps,
      delay: this.isPlaying ? (this.captured - this.played) / sampleRate : null,
    });
    this.peak = 0;
  }
}

registerProcessor("live-voice", LiveVoice);
