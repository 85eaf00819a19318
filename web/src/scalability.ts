// Whether this browser can send a camera as one stream of several spatial and
// temporal layers, in place of several streams, and how. Pure but for one
// question to the browser.

/** What is asked of the browser; a part of MediaCapabilities. */
export type Ask = (configuration: MediaEncodingConfiguration) => Promise<{ supported: boolean }>;

// The best first. K-SVC: between key frames each spatial layer stands alone,
// which costs its receivers nothing for the layers below.
const modes: Record<string, readonly string[]> = {
  vp9: ['L3T3_KEY', 'L1T3'],
  av1: ['L3T3_KEY', 'L1T3'],
};

/** The scalability mode (W3C, Scalable Video Coding for WebRTC) to send a codec with; '' for none: simulcast, then. */
export async function scalabilityOf(codec: string, ask: Ask | undefined): Promise<string> {
  for (const scalabilityMode of (ask && modes[codec]) ?? []) {
    const video = { contentType: `video/${codec.toUpperCase()}`, width: 1280, height: 720, bitrate: 1_700_000, framerate: 30, scalabilityMode };
    try {
      if ((await ask!({ type: 'webrtc', video })).supported) return scalabilityMode;
    } catch {
      return ''; // Firefox does not know the question, nor layers of this kind
    }
  }
  return '';
}
