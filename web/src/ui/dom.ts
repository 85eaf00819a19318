// Making elements. Text comes in only as Text, that is, from the message table
// or marked as somebody's own words; nothing is ever parsed as HTML.

import type { Text } from '../i18n';

export type Child = Node | Text | null | false;

export interface Props {
  class?: string;
  id?: string;
  type?: string;
  for?: string;
  href?: string;
  name?: string;
  value?: string;
  maxLength?: number;
  rows?: number;
  autocomplete?: 'off' | 'name';
  placeholder?: Text;
  title?: Text;
  label?: Text; // aria-label
  role?: string;
  live?: 'polite' | 'assertive'; // aria-live
  hidden?: boolean;
  disabled?: boolean;
  tabIndex?: number;
  data?: Record<string, string>;
  on?: { [K in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[K]) => void };
}

export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props: Props = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  const { class: className, for: target, label, role, live, data, on, ...plain } = props;
  if (className) element.className = className;
  if (target) element.setAttribute('for', target);
  if (label !== undefined) element.setAttribute('aria-label', label);
  if (role) element.setAttribute('role', role);
  if (live) element.setAttribute('aria-live', live);
  for (const [key, value] of Object.entries(data ?? {})) element.dataset[key] = value;
  for (const [type, listener] of Object.entries(on ?? {})) element.addEventListener(type, listener as EventListener);
  Object.assign(element, plain);
  for (const child of children) if (child !== null && child !== false) element.append(child);
  return element;
}

export function setText(element: Element, text: Text): void {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element: Element, name: string, value: string): void {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Makes the children of an element exactly these, moving as little as possible: a moved video would restart. */
export function setChildren(element: Element, children: readonly Element[]): void {
  const keep = new Set<Element>(children);
  for (const child of [...element.children]) if (!keep.has(child)) child.remove();
  children.forEach((child, i) => {
    if (element.children[i] !== child) element.insertBefore(child, element.children[i] ?? null);
  });
}
