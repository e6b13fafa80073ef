// An answer that is being written: what is asked of the server, and how what comes becomes a message.

import { ServerError, stream } from "./api.js";

/** Fields of sampling that the settings have, and what each must be. */
export const SAMPLING = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "max_tokens"];

/** The further fields of the settings as an object; an error says what is wrong with them. */
export function furtherFields(settings) {
  const text = (settings.further ?? "").trim();
  if (!text) return {};
  let fields;
  try {
    fields = JSON.parse(text);
  } catch (error) {
    throw new ServerError(`The further fields in the settings are no JSON: ${error.message}`, { code: "settings" });
  }
  if (fields === null || typeof fields !== "object" || Array.isArray(fields)) {
    throw new ServerError('The further fields in the settings must be an object, such as {"stop": "END"}.', { code: "settings" });
  }
  return fields;
}

/** What is sent for the next answer of a conversation. */
export function requestOf(conversation, model) {
  const { settings } = conversation;
  const request = { model, messages: messagesOf(conversation), stream: true, stream_options: { include_usage: true } };
  for (const name of SAMPLING) {
    if (typeof settings[name] === "number") request[name] = settings[name];
  }
  if (settings.reasoning) request.reasoning_effort = settings.reasoning;
  return { ...request, ...furtherFields(settings) };
}

function messagesOf({ settings, messages }) {
  const sent = [];
  const system = (settings.system ?? "").trim();
  if (system) sent.push({ role: "system", content: system });
  for (const message of messages) {
    if (message.role === "user") {
      // Templates want the roles in turn; an answer that failed may have left two questions.
      if (sent.at(-1)?.role === "user") sent.at(-1).content += `\n\n${message.text}`;
      else sent.push({ role: "user", content: message.text });
    } else if (message.text || message.calls.length > 0) {
      sent.push(...answerOf(message));
    }
  }
  return sent;
}

function answerOf(message) {
  const answer = { role: "assistant", content: message.text };
  if (message.reasoning) answer.reasoning_content = message.reasoning;
  if (message.calls.length === 0) return [answer];
  answer.tool_calls = message.calls.map(({ id, name, args }) => ({ id, type: "function", function: { name, arguments: args || "{}" } }));
  const results = message.calls.map(({ id, result }) => ({ role: "tool", tool_call_id: id, content: result ?? "no result" }));
  return [answer, ...results];
}

/** A message for an answer that nothing has come of yet. */
export function emptyAnswer(model) {
  return { role: "assistant", model, text: "", reasoning: "", calls: [], state: "waiting" };
}

/**
 * Asks for an answer, and writes what comes into `message`; calls `changed` after each piece. Never throws: how it
 * ended is `message.state`, and `message.error` where it failed.
 */
export async function write(message, conversation, signal, changed) {
  const since = performance.now();
  const elapsed = () => (performance.now() - since) / 1000;
  let pieces = 0;
  let last = 0;
  try {
    const request = requestOf(conversation, message.model);
    const admitted = () => {
      message.state = "reading";
      changed();
    };
    for await (const chunk of stream("/v1/chat/completions", request, signal, admitted)) {
      if (chunk.usage) message.usage = { prompt: chunk.usage.prompt_tokens, cached: chunk.usage.prompt_tokens_details?.cached_tokens ?? 0, generated: chunk.usage.completion_tokens };
      const choice = chunk.choices?.[0];
      if (!choice) continue;
      if (choice.finish_reason) message.finish = choice.finish_reason;
      if (add(message, choice.delta ?? {})) {
        pieces += 1;
        last = elapsed();
        message.first ??= last;
        message.state = "writing";
        message.rate = rate(pieces - 1, last - message.first);
      }
      changed();
    }
    message.state = "done";
    message.rate = rate((message.usage?.generated ?? 0) - 1, last - message.first) ?? message.rate;
  } catch (error) {
    if (error.name === "AbortError") message.state = "stopped";
    else {
      message.state = "failed";
      message.error = error instanceof ServerError ? { text: error.message, code: error.code, status: error.status, retryAfter: error.retryAfter } : { text: String(error.message ?? error), code: "page" };
      if (!(error instanceof ServerError)) console.error(error);
    }
  }
  changed();
}

// Tokens a second; nothing where there is too little to tell.
function rate(steps, time) {
  return steps > 0 && time > 0.002 ? steps / time : undefined;
}

// Whether the delta brought anything.
function add(message, delta) {
  const text = delta.content ?? "";
  const reasoning = delta.reasoning_content ?? delta.reasoning ?? "";
  message.text += text;
  message.reasoning += reasoning;
  for (const part of delta.tool_calls ?? []) {
    const call = (message.calls[part.index] ??= { id: "", name: "", args: "" });
    if (part.id) call.id = part.id;
    if (part.function?.name) call.name = part.function.name;
    call.args += part.function?.arguments ?? "";
  }
  return Boolean(text || reasoning || delta.tool_calls);
}
