// Keeps the screen of a phone on during a meeting, where the browser lets us.

let wanted = false;
let lock: WakeLockSentinel | null = null;
let asking = false;

export function keepAwake(on: boolean): void {
  if (wanted === on) return;
  wanted = on;
  void settle();
}

async function settle(): Promise<void> {
  if (asking) return;
  if (!wanted) {
    await lock?.release().catch(() => undefined);
    lock = null;
    return;
  }
  if (lock || document.hidden || !('wakeLock' in navigator)) return;
  asking = true;
  lock = await navigator.wakeLock.request('screen').catch(() => null); // an empty battery says no
  asking = false;
  lock?.addEventListener('release', () => { lock = null; });
  if (!wanted) await settle();
}

// A hidden page loses its lock; it gets a new one when it is seen again.
document.addEventListener('visibilitychange', () => void settle());
