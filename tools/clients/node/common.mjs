// What the clients have in common; the same as ../python/common.py.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

export { assert };
export const URL = process.env.ML_URL;
export const LOCKED_URL = process.env.ML_LOCKED_URL;
export const DEMO = 'qwen3-demo';
export const RANDOM = 'random';
// Answers last until they are left; in SOON milliseconds none ends on any machine.
export const ENDLESS = 'endless';
export const SOON = 500;
export const SUM = 'What is 17 + 25?';
export const SPELL = 'Spell the word garden.';
export const SPELLED = 'g-a-r-d-e-n';
export const UNICODE = 'สวัสดีชาวโลก 👩‍👩‍👧🇹🇭 naïve ✓ 你好';
export const WEATHER = {
  type: 'object',
  properties: { city: { enum: ['Bangkok', 'Zürich'] }, days: { type: 'integer', minimum: 1, maximum: 9 } },
  required: ['city', 'days'],
  additionalProperties: false,
};
export const user = (content) => [{ role: 'user', content }];

export function isWeather(given) {
  const { city, days, ...more } = typeof given === 'string' ? JSON.parse(given) : given;
  return ['Bangkok', 'Zürich'].includes(city) && days >= 1 && days <= 9 && Object.keys(more).length === 0;
}

export async function underWay(url = URL) {
  const health = await (await fetch(`${url}/health`)).json();
  return health.running + health.waiting;
}

// An answer that nobody waits for any more gives its place back.
export async function becomesFree(url = URL) {
  const since = Date.now();
  while (await underWay(url)) {
    assert(Date.now() - since < 100_000, 'a place is not given back');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export function done(...packages) {
  const version = (name) => JSON.parse(readFileSync(new globalThis.URL(`./node_modules/${name}/package.json`, import.meta.url))).version;
  console.log(`${packages.map((name) => `${name} ${version(name)}`).join(', ')}: as it should be`);
}
