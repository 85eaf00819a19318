// The icons, drawn on a grid of 24 with a line of 1.8.

const paths = {
  mic: ['M12 3.5a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0v-5a3 3 0 0 1 3-3Z', 'M5.5 11a6.5 6.5 0 0 0 13 0', 'M12 17.5V21'],
  micOff: ['M9 9v2.5a3 3 0 0 0 4.6 2.5M15 11V6.5a3 3 0 0 0-5.8-1.1', 'M5.5 11a6.5 6.5 0 0 0 10.2 5.3M18.5 11a6.5 6.5 0 0 1-.7 2.9', 'M12 17.5V21', 'M3.5 3.5l17 17'],
  camera: ['M3.5 8a2 2 0 0 1 2-2h7.5a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2h-7.5a2 2 0 0 1-2-2Z', 'M15 11l5.5-3v8l-5.5-3'],
  cameraOff: ['M9.5 6h3.5a2 2 0 0 1 2 2v3.5M15 15.5v.5a2 2 0 0 1-2 2h-7.5a2 2 0 0 1-2-2v-8a2 2 0 0 1 2-2h.3', 'M15 11.2l5.5-3.2v8l-2.5-1.4', 'M3.5 3.5l17 17'],
  screen: ['M3.5 6.5a2 2 0 0 1 2-2h13a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2h-13a2 2 0 0 1-2-2Z', 'M8.5 20h7', 'M12 13.5v-5.5M9.5 10l2.5-2.5 2.5 2.5'],
  chat: ['M5.5 5h13a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2h-6.5l-4.5 3.5v-3.5h-2a2 2 0 0 1-2-2v-8a2 2 0 0 1 2-2Z', 'M8 9.5h8M8 12.8h5'],
  people: ['M9 11.5a3.25 3.25 0 1 0 0-6.5 3.25 3.25 0 0 0 0 6.5Z', 'M3 19.5c0-3 2.7-5 6-5s6 2 6 5', 'M15.5 5.3a3.25 3.25 0 0 1 0 5.9', 'M17.5 14.9c2.1.7 3.5 2.4 3.5 4.6'],
  link: ['M10 14a4 4 0 0 0 5.7 0l3.1-3.1a4 4 0 0 0-5.7-5.7l-1.3 1.3', 'M14 10a4 4 0 0 0-5.7 0l-3.1 3.1a4 4 0 0 0 5.7 5.7l1.3-1.3'],
  settings: ['M4 7.5h9M17 7.5h3M4 16.5h3M11 16.5h9', 'M15 9.7a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4Z', 'M9 18.7a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4Z'],
  leave: ['M4 14.5c-1-1-1.2-2.6-.3-3.7 2-2.4 5-3.8 8.3-3.8s6.3 1.4 8.3 3.8c.9 1.1.7 2.7-.3 3.7l-1 .9c-.5.4-1.2.4-1.7 0l-1.7-1.4c-.4-.3-.6-.8-.5-1.3l.2-1.2c-2.1-.7-4.5-.7-6.6 0l.2 1.2c.1.5-.1 1-.5 1.3l-1.7 1.4c-.5.4-1.2.4-1.7 0Z'],
  close: ['M6 6l12 12M18 6l-12 12'],
  send: ['M4.5 12l15-7-4.5 15-3.5-6Z', 'M11.5 14l8-9'],
  remove: ['M10 11.5a3.25 3.25 0 1 0 0-6.5 3.25 3.25 0 0 0 0 6.5Z', 'M4 19.5c0-3 2.7-5 6-5 1.7 0 3.3.6 4.4 1.5', 'M16 17.5h5'],
  warning: ['M12 4.5l8.5 15h-17Z', 'M12 10v4.5', 'M12 17v.1'],
  sound: ['M4.5 9.5h3l4.5-4v13l-4.5-4h-3Z', 'M15.5 9a4.5 4.5 0 0 1 0 6', 'M18 6.5a8 8 0 0 1 0 11'],
  globe: ['M12 20.5a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17Z', 'M3.5 12h17', 'M12 3.5c2.3 2.3 3.5 5.2 3.5 8.5s-1.2 6.2-3.5 8.5c-2.3-2.3-3.5-5.2-3.5-8.5s1.2-6.2 3.5-8.5Z'],
  home: ['M4.5 11l7.5-6.5 7.5 6.5', 'M6.5 9.5v10h11v-10'],
  record: ['M12 20.5a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17Z', 'M12 15.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7Z'],
  broadcast: ['M12 14a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z', 'M8.1 15.9a5.5 5.5 0 0 1 0-7.8M15.9 8.1a5.5 5.5 0 0 1 0 7.8', 'M5.3 18.7a9.5 9.5 0 0 1 0-13.4M18.7 5.3a9.5 9.5 0 0 1 0 13.4'],
  soundOff: ['M4.5 9.5h3l4.5-4v13l-4.5-4h-3Z', 'M16 9.5l5 5M21 9.5l-5 5'],
  expand: ['M4.5 9.5v-5h5M14.5 4.5h5v5M19.5 14.5v5h-5M9.5 19.5h-5v-5'],
  shrink: ['M9.5 4.5v5h-5M19.5 9.5h-5v-5M14.5 19.5v-5h5M4.5 14.5h5v5'],
  check: ['M5 12.5l4.5 4.5 9.5-10'],
  pin: ['M9 4h6l-.8 6.2 3.3 3.3v1.5h-11v-1.5l3.3-3.3Z', 'M12 15v5.5'],
  signalFair: ['M5 20v-5', 'M12 20v-10.5', 'M19 20v-.1'],
  signalPoor: ['M5 20v-5', 'M12 20v-.1', 'M19 20v-.1'],
  plus: ['M12 5v14M5 12h14'],
} as const;

export type Icon = keyof typeof paths;

const ns = 'http://www.w3.org/2000/svg';

export function icon(name: Icon): SVGSVGElement {
  const svg = document.createElementNS(ns, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  for (const d of paths[name]) {
    const path = document.createElementNS(ns, 'path');
    path.setAttribute('d', d);
    svg.append(path);
  }
  return svg;
}

/** The mark of the product: a voice, kept low. */
export function logo(): SVGSVGElement {
  const svg = document.createElementNS(ns, 'svg');
  svg.setAttribute('viewBox', '0 0 32 32');
  svg.setAttribute('class', 'logo');
  svg.setAttribute('aria-hidden', 'true');
  const shapes: [string, Record<string, string>][] = [
    ['rect', { width: '32', height: '32', rx: '9', class: 'logo-ground' }],
    ['circle', { cx: '10.5', cy: '16', r: '3.2', class: 'logo-dot' }],
    ['path', { d: 'M16.2 10.6a7.8 7.8 0 0 1 0 10.8', class: 'logo-wave' }],
    ['path', { d: 'M20.6 7.2a13 13 0 0 1 0 17.6', class: 'logo-wave far' }],
  ];
  for (const [tag, attributes] of shapes) {
    const shape = document.createElementNS(ns, tag);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    svg.append(shape);
  }
  return svg;
}
