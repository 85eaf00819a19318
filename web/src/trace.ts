// The last things that happened, kept in memory only, for window.sotto.log: a
// report of trouble (or a failed browser test) starts with it. Never keys,
// tokens or message texts.

const kept = 400;
const lines: string[] = [];

export function trace(what: string, detail?: string | number): void {
  lines.push(`${(performance.now() / 1000).toFixed(3)} ${what}${detail === undefined ? '' : ' ' + String(detail)}`);
  if (lines.length > kept) lines.splice(0, lines.length - kept);
}

export function traced(): readonly string[] {
  return lines.slice();
}
