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
  /** The scalability mode in which a source is sent, if it is one stream; '' for the browser's own choice. */
  modeFor(source: Source): string;
  /** Receivers may have come or gone. */
  changed(): void;
  iceState(state: RTCIceConnectionState): void;
}

export class Peer {
  readonly pc: RTCPeerConnection;
  private readonly hooks: PeerHooks;
  private readonly stream = new MediaStream(); // one stream for all: the browser keeps its tracks in sync
  private readonly sections = new Map<Source, { mid: string; track: string }>(); // what the server wants, by the source
  private readonly wanted = new Map<string, number>(); // layers of an own track that are of use to anybody
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
      const asked = new Map<Source, { mid: string; track: string }>();
      for (const { source, mid, track = '' } of offer.sections) {
        if (source) asked.set(source, { mid, track });
      }
      // Free what the server no longer wants before the section is used again.
      for (const [source, { mid }] of this.sections) {
        const transceiver = asked.get(source)?.mid === mid ? undefined : this.transceiver(mid);
        if (transceiver) {
          await transceiver.sender.replaceTrack(null);
          transceiver.direction = 'inactive';
        }
      }
      this.sections.clear();
      for (const [source, section] of asked) {
        const transceiver = this.transceiver(section.mid);
        if (!transceiver) continue;
        this.sections.set(source, section);
        await transceiver.sender.replaceTrack(this.hooks.trackFor(source));
        transceiver.direction = 'sendonly';
        transceiver.sender.setStreams?.(this.stream);
        await this.tune(source);
      }
      await this.pc.setLocalDescription(await this.pc.createAnswer());
      this.hooks.changed();
      return this.pc.localDescription?.sdp ?? '';
    });
  }

  /** Changes what a source sends, without an offer. Before its section exists, the answer will ask trackFor. */
  setTrack(source: Source, track: MediaStreamTrack | null): Promise<void> {
    return this.after(async () => {
      const sender = this.sender(source);
      if (!sender) return;
      await sender.replaceTrack(track);
      if (track) await this.tune(source);
    });
  }

  /** How many layers of an own track are of use to anybody: the others are not sent. */
  demand(track: string, layers: number): Promise<void> {
    return this.after(async () => {
      this.wanted.set(track, layers);
      for (const [source, section] of this.sections) if (section.track === track) await this.tune(source);
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

  private sender(source: Source): RTCRtpSender | undefined {
    const section = this.sections.get(source);
    return section && this.transceiver(section.mid)?.sender;
  }

  // Sets what each layer of a picture sends.
  private async tune(source: Source): Promise<void> {
    const sender = this.sender(source);
    if (!sender || source === 'microphone' || source === 'screen-audio') return;
    const parameters = sender.getParameters();
    const encodings = parameters.encodings ?? [];
    if (encodings.length === 0) return;
    const { width = 0, height = 0 } = sender.track?.getSettings() ?? {};
    const wanted = this.wanted.get(this.sections.get(source)?.track ?? '');
    const layers = layersFor(source, encodings.length, { width, height }, wanted);
    encodings.forEach((encoding, i) => Object.assign(encoding, layers[i]));
    const scalabilityMode = this.hooks.modeFor(source);
    if (scalabilityMode && encodings.length === 1) Object.assign(encodings[0]!, { scalabilityMode });
    if (source === 'screen') parameters.degradationPreference = 'maintain-resolution';
    try {
      await sender.setParameters(parameters);
    } catch (e) {
      trace('setParameters refused', String(e)); // the browser's own choice of rates is usable
    }
  }

  private after<T>(work: () => Promise<T>): Promise<T> {
    const done = this.chain.then(work);
    this.chain = done.catch(() => undefined);
    return done;
  }
}
