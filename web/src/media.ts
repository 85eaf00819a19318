// Local capture: the microphone, the camera and the screen, and which devices
// there are. Owns the tracks it opened and stops them. Knows nothing of the
// meeting; who holds a LocalMedia decides what is sent.

import { preference } from './settings';
import { trace } from './trace';
import type { Source } from './wire';

/** Why a device could not be opened, as the message table names it. */
export type MediaProblem = 'denied' | 'missing' | 'busy' | 'insecure';

export class MediaFailure extends Error {
  readonly problem: MediaProblem;

  constructor(problem: MediaProblem, cause: unknown) {
    super(String(cause));
    this.name = 'MediaFailure';
    this.problem = problem;
  }
}

export interface Device { id: string; label: string }
export interface Devices { microphone: Device[]; camera: Device[]; speaker: Device[] }

export class LocalMedia {
  private readonly tracks = new Map<Source, MediaStreamTrack>();
  private readonly ended: (source: Source) => void;

  /** ended: the device or the person stopped a track, not we. */
  constructor(ended: (source: Source) => void) {
    this.ended = ended;
  }

  track(source: Source): MediaStreamTrack | null {
    return this.tracks.get(source) ?? null;
  }

  /** Opens a device anew; the earlier track of the source stays until then. */
  async open(source: 'microphone' | 'camera'): Promise<MediaStreamTrack> {
    const wish = preference(source);
    const deviceId = wish ? { deviceId: { ideal: wish } } : {};
    const constraints: MediaStreamConstraints = source === 'microphone'
      ? { audio: { ...deviceId, echoCancellation: true, noiseSuppression: true, autoGainControl: true } }
      : { video: { ...deviceId, width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } } };
    const stream = await capture(() => navigator.mediaDevices.getUserMedia(constraints));
    const track = stream.getTracks()[0];
    if (!track) throw new MediaFailure('missing', source);
    if (source === 'camera') track.contentHint = 'motion';
    this.keep(source, track);
    return track;
  }

  /** Asks for a screen; has its sound too where the browser can. */
  async openScreen(): Promise<void> {
    const stream = await capture(() => navigator.mediaDevices.getDisplayMedia({
      video: { frameRate: { ideal: 15, max: 30 } }, audio: true,
    }));
    const [video] = stream.getVideoTracks();
    const [audio] = stream.getAudioTracks();
    if (!video) throw new MediaFailure('missing', 'screen');
    video.contentHint = 'detail';
    this.keep('screen', video);
    if (audio) this.keep('screen-audio', audio);
  }

  /** Stops a track and gives its device back. */
  close(source: Source): void {
    const track = this.tracks.get(source);
    this.tracks.delete(source);
    if (!track) return;
    track.onended = null;
    track.stop();
  }

  closeAll(): void {
    for (const source of [...this.tracks.keys()]) this.close(source);
  }

  private keep(source: Source, track: MediaStreamTrack): void {
    this.close(source);
    this.tracks.set(source, track);
    const { width, height } = track.getSettings();
    trace('opened', `${source} ${width ?? ''}x${height ?? ''}`);
    track.onended = () => {
      if (this.tracks.get(source) !== track) return;
      this.tracks.delete(source);
      this.ended(source);
    };
  }
}

async function capture(ask: () => Promise<MediaStream>): Promise<MediaStream> {
  if (!window.isSecureContext || !navigator.mediaDevices) throw new MediaFailure('insecure', 'no secure context');
  try {
    return await ask();
  } catch (e) {
    const name = e instanceof DOMException ? e.name : '';
    trace('capture refused', name);
    if (name === 'NotAllowedError' || name === 'SecurityError') throw new MediaFailure('denied', e);
    if (name === 'NotFoundError' || name === 'OverconstrainedError') throw new MediaFailure('missing', e);
    throw new MediaFailure('busy', e);
  }
}

export function canShareScreen(): boolean {
  return typeof navigator.mediaDevices?.getDisplayMedia === 'function';
}

export function canChooseSpeaker(): boolean {
  return 'setSinkId' in HTMLMediaElement.prototype;
}

/** The devices of this machine; labels are empty until the person allowed one. */
export async function listDevices(): Promise<Devices> {
  const found: Devices = { microphone: [], camera: [], speaker: [] };
  const kinds = { audioinput: found.microphone, videoinput: found.camera, audiooutput: found.speaker };
  const all = await navigator.mediaDevices?.enumerateDevices().catch(() => []) ?? [];
  for (const d of all) {
    if (d.deviceId) kinds[d.kind].push({ id: d.deviceId, label: d.label });
  }
  return found;
}

/** Calls back with the loudness of a microphone, 0 to 1, until stopped. */
export function meter(track: MediaStreamTrack, level: (value: number) => void): () => void {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 512;
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    let sum = 0;
    for (const s of samples) sum += s * s;
    const decibels = 10 * Math.log10(sum / samples.length + 1e-10);
    level(Math.min(1, Math.max(0, (decibels + 60) / 50))); // -60 dB: silence, -10 dB: as loud as it gets
  }, 80);
  return () => {
    clearInterval(timer);
    void context.close();
  };
}
