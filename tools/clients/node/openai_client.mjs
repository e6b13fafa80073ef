// OpenAI's client for Node, unchanged.

import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';

import {
  DEMO, ENDLESS, LOCKED_URL, RANDOM, SOON, SPELL, SPELLED, SUM, UNICODE, URL, WEATHER, assert, becomesFree, done, isWeather, underWay,
  user,
} from './common.mjs';

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: 'none', maxRetries: 0 });
const KNOWN = { model: DEMO, temperature: 0 };
const LASTING = { model: ENDLESS, messages: user('go on') };

async function collected(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

async function chats() {
  const answer = await client.chat.completions.create({ messages: user(SUM), ...KNOWN });
  assert.equal(answer.choices[0].message.content, '42');
  const usage = { stream: true, stream_options: { include_usage: true } };
  const chunks = await collected(await client.chat.completions.create({ messages: user(SPELL), ...usage, ...KNOWN }));
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''), SPELLED);
  assert(chunks.at(-1).usage.completion_tokens > 5);
  const form = zodResponseFormat(z.object({ greeting: z.literal(UNICODE) }), 'greeting');
  const parts = client.chat.completions.stream({ messages: user('สวัสดี 👋'), response_format: form, ...KNOWN });
  const deltas = [];
  parts.on('content', (delta) => deltas.push(delta));
  const parsed = await parts.finalChatCompletion();
  assert.deepEqual(parsed.choices[0].message.parsed, { greeting: UNICODE });
  assert(deltas.length > 10 && !deltas.join('').includes('\u{fffd}'));
}

async function embeddings() {
  // This client asks for base64 by itself, too.
  const short = await client.embeddings.create({ model: DEMO, input: ['hello', 'garden'] });
  const plain = await client.embeddings.create({ model: DEMO, input: ['hello', 'garden'], encoding_format: 'float' });
  for (const [at, { embedding }] of plain.data.entries()) {
    assert.equal(embedding.length, short.data[at].embedding.length);
    assert(embedding.every((value, axis) => Math.abs(value - short.data[at].embedding[axis]) < 1e-6));
  }
}

async function responses() {
  const first = await client.responses.create({ input: SUM, ...KNOWN });
  assert.equal(first.output_text, '42');
  const stream = client.responses.stream({ input: '17+9', previous_response_id: first.id, ...KNOWN });
  assert.equal((await stream.finalResponse()).output_text, '26');
}

async function tools() {
  const asked = [];
  const run = (stream) => client.chat.completions.runTools({
    model: RANDOM,
    messages: user('Rain?'),
    stream,
    tool_choice: { type: 'function', function: { name: 'weather' } },
    tools: [{
      type: 'function',
      function: {
        name: 'weather', description: 'forecast', parameters: WEATHER, parse: JSON.parse,
        function: (given) => { asked.push(given); return 'no rain'; },
      },
    }],
  });
  // A tool that is named is called once, and the runner ends there.
  await run(false).done();
  await run(true).done();
  assert(asked.length >= 2 && asked.every(isWeather), JSON.stringify(asked));
}

async function errors() {
  const create = (more) => client.chat.completions.create({ messages: user(SUM), ...KNOWN, ...more });
  await assert.rejects(create({ model: 'gpt-4' }), (error) => error instanceof OpenAI.NotFoundError && error.param === 'model');
  await assert.rejects(
    create({ temprature: 1 }), (error) => error instanceof OpenAI.BadRequestError && error.code === 'unknown_parameter',
  );
  const wrong = new OpenAI({ baseURL: `${LOCKED_URL}/v1`, apiKey: 'wrong', maxRetries: 0 });
  await assert.rejects(collected(wrong.models.list()), OpenAI.AuthenticationError);
  const right = new OpenAI({ baseURL: `${LOCKED_URL}/v1`, apiKey: 'secret', maxRetries: 0 });
  const stream = await right.chat.completions.create({ stream: true, ...LASTING });
  await assert.rejects(right.chat.completions.create(LASTING), OpenAI.RateLimitError);
  stream.controller.abort();
  await becomesFree(LOCKED_URL);
}

async function leaving() {
  await assert.rejects(client.chat.completions.create(LASTING, { timeout: SOON }), OpenAI.APIConnectionTimeoutError);
  await becomesFree();
  for await (const _ of await client.chat.completions.create({ stream: true, ...LASTING })) {
    assert(await underWay() >= 1);
    break;
  }
  await becomesFree();
}

for (const check of [chats, embeddings, responses, errors, leaving, tools]) await check();
done('openai');
