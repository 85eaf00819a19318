// The one RTCPeerConnection of a session. It never offers: it answers the
// server's numbered offers, puts own tracks into the sections that ask for
// them, and finds the receiver of a slot by its mid. Work on the connection is
// strictly one thing after another. Does not know rooms or people.

import { layersFor } from './encodings';
import { trace } from './trace';
import type { ICEServer, OfferEvent, Source } from './wire';

export interface PeerHooks {
  /** The own track that belongs to a source now; null sends nothing until setTrack. */
  trackFor(source: Source): MediaStreamTrack | null;
  /** Receivers may have come or gone. */
  changed(): void;
  iceState(state: RTCIceConnectionState): void;
}

export class Peer {
  readonly pc: RTCPeerConnection;
  private readonly hooks: PeerHooks;
  private readonly stream = new MediaStream(); // one stream for all: the browser keeps its tracks in sync
  private readonly sections = new Map<Source, string>(); // source → mid
  private chain: Promise<unknown> = Promise.resolve();

  constructor(iceServers: ICEServer[], hooks: PeerHooks) {
    this.hooks = hooks;
    this.pc = new RTCPeerConnection({ iceServers, bundlePolicy: 'max-bundle', rtcpMuxPolicy: 'require' });
    this.pc.oniceconnectionstatechange = () => {
      trace('ice', this.pc.iceConnectionState);
      hooks.iceState(this.pc.iceConnectionState);
    };
    this.pc.onconnectionstatechange = () => trace('connection', this.pc.connectionState);
  }

  /** Takes an offer and makes the answer to it. */
  answer(offer: OfferEvent): Promise<string> {
    return this.after(async () => {
      await this.pc.setRemoteDescription({ type: 'offer', sdp: offer.sdp });
      const asked = new Map<Source, string>();
      for (const section of offer.sections) {
        if (section.source) asked.set(section.source, section.mid);
      }
      // Free what the server no longer wants before the section is used again.
      for (const [source, mid] of this.sections) {
        const transceiver = asked.get(source) === mid ? undefined : this.transceiver(mid);
        if (transceiver) {
          await transceiver.sender.replaceTrack(null);
          transceiver.direction = 'inactive';
        }
      }
      this.sections.clear();
      for (const [source, mid] of asked) {
        const transceiver = this.transceiver(mid);
        if (!transceiver) continue;
        this.sections.set(source, mid);
        const track = this.hooks.trackFor(source);
        await transceiver.sender.replaceTrack(track);
        transceiver.direction = 'sendonly';
        transceiver.sender.setStreams?.(this.stream);
        await tune(transceiver.sender, source, track);
      }
      await this.pc.setLocalDescription(await this.pc.createAnswer());
      this.hooks.changed();
      return this.pc.localDescription?.sdp ?? '';
    });
  }

  /** Changes what a source sends, without an offer. Before its section exists, the answer will ask trackFor. */
  setTrack(source: Source, track: MediaStreamTrack | null): Promise<void> {
    return this.after(async () => {
      const mid = this.sections.get(source);
      const transceiver = mid === undefined ? undefined : this.transceiver(mid);
      if (!transceiver) return;
      await transceiver.sender.replaceTrack(track);
      if (track) await tune(transceiver.sender, source, track);
    });
  }

  /** What plays in a slot. The track stays the same however often the slot is bound anew. */
  receiver(mid: string): MediaStreamTrack | null {
    const transceiver = this.transceiver(mid);
    return transceiver?.currentDirection === 'recvonly' || transceiver?.currentDirection === 'sendrecv'
      ? transceiver.receiver.track : null;
  }

  close(): void {
    this.pc.oniceconnectionstatechange = null;
    this.pc.onconnectionstatechange = null;
    this.pc.close();
  }

  private transceiver(mid: string): RTCRtpTransceiver | undefined {
    return this.pc.getTransceivers().find((t) => t.mid === mid);
  }

  private after<T>(work: () => Promise<T>): Promise<T> {
    const done = this.chain.then(work);
    this.chain = done.catch(() => undefined);
    return done;
  }
}

async function tune(sender: RTCRtpSender, source: Source, track: MediaStreamTrack | null): Promise<void> {
  if (source === 'microphone' || source === 'screen-audio') return;
  const parameters = sender.getParameters();
  const encodings = parameters.encodings ?? [];
  if (encodings.length === 0) return;
  const { width = 0, height = 0 } = track?.getSettings() ?? {};
  const layers = layersFor(source, encodings.length, { width, height });
  encodings.forEach((encoding, i) => Object.assign(encoding, layers[i]));
  if (source === 'screen') parameters.degradationPreference = 'maintain-resolution';
  try {
    await sender.setParameters(parameters);
  } catch (e) {
    trace('setParameters refused', String(e)); // the browser's own choice of rates is usable
  }
}
