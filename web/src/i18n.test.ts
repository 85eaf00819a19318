import { readFileSync, readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { errorText, pickLanguage, setLanguage, t, tables } from './i18n';
import type { Key } from './i18n';

const holes = (text: string) => [...text.matchAll(/\{\w+\}/g)].map((m) => m[0]).sort();

test('every language has every text, with the same placeholders', () => {
  const keys = Object.keys(tables.en).sort();
  for (const table of Object.values(tables)) {
    expect(Object.keys(table).sort()).toEqual(keys);
    for (const key of keys as Key[]) {
      expect(table[key].trim(), key).not.toBe('');
      expect(holes(table[key]), key).toEqual(holes(tables.en[key]));
    }
  }
});

test('every error of the protocol has a message and a hint', () => {
  const wire = readFileSync(new URL('./wire.ts', import.meta.url), 'utf8');
  const codes = [.../export type Code =([^;]+);/.exec(wire)![1]!.matchAll(/"(\w+)"/g)].map((m) => m[1]!);
  expect(codes.length).toBeGreaterThan(10);
  for (const code of codes) {
    expect(tables.en, code).toHaveProperty([`error.${code}`]);
    expect(tables.en, code).toHaveProperty([`hint.${code}`]);
  }
  expect(errorText('no_such_code').message).toBe(errorText('internal').message);
});

test('a text is filled in', () => {
  setLanguage('en');
  expect(t('notice.joined', { name: 'Aki $& {x}' })).toBe('Aki $& {x} joined');
  setLanguage('ja');
  expect(t('notice.joined', { name: 'Aki' })).toBe('Aki さんが参加しました');
  setLanguage('en');
});

test('the language is the wish, then the browser’s, then English', () => {
  expect(pickLanguage('ja', ['en-US'])).toBe('ja');
  expect(pickLanguage(null, ['fr', 'ja-JP', 'en'])).toBe('ja');
  expect(pickLanguage('xx', ['fr'])).toBe('en');
  expect(pickLanguage('', [])).toBe('en');
});

// What a person reads stands in the table only. Prose betrays itself: two words
// of letters with a space between, or any character outside ASCII.
test('no other module holds text', () => {
  const root = new URL('./', import.meta.url);
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((f) => /\.ts$/.test(f) && !/(\.test|^i18n|^wire)\.ts$/.test(f));
  expect(files.length).toBeGreaterThan(20);
  const found: string[] = [];
  for (const file of files) {
    const source = readFileSync(new URL(file, root), 'utf8')
      .replace(/\/\*[\s\S]*?\*\//g, '')
      .replace(/(^|\s)\/\/.*$/gm, '')
      .replace(/trace\([^\n]*|new (?:Media)?Failure\([^\n]*|return '[a-z ]+';/g, ''); // for the log
    for (const [, , literal = ''] of source.matchAll(/(['"`])((?:\\.|(?!\1)[^\\\n])*)\1/g)) {
      const text = literal.replace(/\$\{[^}]*\}/g, '');
      if (/[A-Z][a-z]+ [a-z]+|[^\x00-\x7f…·]/.test(text)) found.push(`${file}: ${literal}`);
    }
  }
  expect(found).toEqual([]);
});
