// Vercel's AI SDK, unchanged, by its two ways to such a server: chat completions, and responses.

import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, Output, embedMany, generateObject, generateText, isStepCount, streamText, tool } from 'ai';
import { z } from 'zod';

import { DEMO, ENDLESS, RANDOM, SPELL, SPELLED, SUM, UNICODE, URL, assert, becomesFree, done } from './common.mjs';

// The package warns of what it cannot ask of a server; what it warns of its own older functions is no matter here.
globalThis.AI_SDK_LOG_WARNINGS = ({ warnings }) => {
  for (const warning of warnings) assert.equal(warning.type, 'deprecated', JSON.stringify(warning));
};

const weather = tool({
  description: 'forecast',
  inputSchema: z.object({ city: z.enum(['Bangkok', 'Zürich']), days: z.number().int().min(1).max(9) }),
  execute: async ({ city, days }) => `no rain in ${city} for ${days} days`,
});
const greeting = z.object({ greeting: z.literal(UNICODE) });

async function check(name, model, embedding) {
  const known = { model: model(DEMO), temperature: 0, maxRetries: 0 };
  const answer = await generateText({ prompt: SUM, ...known });
  assert.equal(answer.text, '42', name);
  assert.equal(answer.finishReason, 'stop', name);
  assert.equal(answer.usage.outputTokens, 2, name);

  const stream = streamText({ prompt: SPELL, ...known });
  let text = '';
  for await (const part of stream.textStream) text += part;
  assert.equal(text, SPELLED, name);
  assert((await stream.usage).outputTokens > 5, name);

  const { object } = await generateObject({ prompt: 'สวัสดี 👋', schema: greeting, ...known });
  assert.deepEqual(object, { greeting: UNICODE }, name);
  const held = streamText({ prompt: 'สวัสดี 👋', output: Output.object({ schema: greeting }), ...known });
  const parts = [];
  for await (const part of held.textStream) parts.push(part);
  assert.deepEqual(await held.output, { greeting: UNICODE }, name);
  assert(!parts.join('').includes('\u{fffd}'), name);

  // Two rounds of calls, with the results of the first one in the prompt of the second.
  const ask = { model: model(RANDOM), tools: { weather }, toolChoice: 'required', stopWhen: isStepCount(2), maxRetries: 0 };
  const called = await generateText({ prompt: 'Rain?', ...ask });
  const streamed = streamText({ prompt: 'Rain?', ...ask });
  await streamed.consumeStream();
  for (const steps of [called.steps, await streamed.steps]) {
    assert.equal(steps.length, 2, name);
    for (const step of steps) {
      assert.equal(step.finishReason, 'tool-calls', name);
      assert(step.toolCalls.length > 0 && step.toolResults.every(({ output }) => output.startsWith('no rain in')), name);
    }
  }

  const wrong = generateText({ ...known, model: model('gpt-none'), prompt: SUM });
  await assert.rejects(wrong, (error) => APICallError.isInstance(error) && error.statusCode === 404, name);
  const leave = new AbortController();
  const endless = streamText({ model: model(ENDLESS), prompt: 'go on', abortSignal: leave.signal, onError() {} });
  for await (const _ of endless.textStream) leave.abort();
  await becomesFree();

  const { embeddings } = await embedMany({ model: embedding(DEMO), values: ['hello', 'garden'] });
  assert(embeddings.every((axes) => Math.abs(axes.reduce((sum, x) => sum + x * x, 0) - 1) < 1e-4), name);
}

const server = { baseURL: `${URL}/v1`, apiKey: 'none' };
const compatible = createOpenAICompatible({ name: 'ml', supportsStructuredOutputs: true, includeUsage: true, ...server });
await check('openai-compatible', compatible.chatModel, (name) => compatible.embeddingModel(name));
const openai = createOpenAI(server);
await check('openai, responses', openai.responses, (name) => openai.embeddingModel(name));
await check('openai, chat', openai.chat, (name) => openai.embeddingModel(name));
done('ai', '@ai-sdk/openai-compatible', '@ai-sdk/openai');
