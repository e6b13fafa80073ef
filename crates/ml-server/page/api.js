// The server's API: requests with the key, errors as the server tells them, and its stream of events.

/** What went wrong, as a person can be told it. */
export class ServerError extends Error {
  constructor(message, { status = 0, code = "", retryAfter = 0 } = {}) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
}

const KEY = "ml-key";
let key = kept();
let asking = null;
let asker = async () => null;

function kept() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/** `ask` is called with whether a key was wrong, and gives a key, or null where the user has none. */
export function onKeyWanted(ask) {
  asker = ask;
}

// Requests that are refused at the same time ask once.
function askForKey(wrong) {
  asking ??= asker(wrong).finally(() => {
    asking = null;
  });
  return asking;
}

/** A response that is no error. It asks for the key where the server does. */
export async function request(path, options = {}) {
  for (;;) {
    const shown = key;
    const headers = { ...options.headers, ...(shown && { authorization: `Bearer ${shown}` }) };
    let response;
    try {
      response = await fetch(path, { cache: "no-store", credentials: "omit", ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError("The server does not answer. Is it still running?", { code: "unreachable" });
    }
    if (response.status === 401 && options.quiet !== true) {
      // Another request may have asked for it by now.
      if (key !== shown && key) continue;
      const given = await askForKey(Boolean(shown));
      if (given === null) throw await failure(response);
      key = given;
      try {
        sessionStorage.setItem(KEY, given);
      } catch {
        // It lasts as long as the page.
      }
      continue;
    }
    if (!response.ok && !(options.quiet && response.status === 503)) throw await failure(response);
    return response;
  }
}

async function failure(response) {
  let told = {};
  try {
    told = (await response.json()).error ?? {};
  } catch {
    // No JSON: something else than `ml serve` has answered.
  }
  return new ServerError(told.message ?? `The server answered with status ${response.status}.`, {
    status: response.status,
    code: told.code ?? "",
    retryAfter: Number(response.headers.get("retry-after")) || 0,
  });
}

/** JSON of a path. */
export async function get(path, options) {
  return (await request(path, options)).json();
}

/** The objects of a streamed answer. `admitted` is called when the request has its place. */
export async function* stream(path, body, signal, admitted) {
  const headers = { "content-type": "application/json" };
  const response = await request(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  admitted();
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      const object = JSON.parse(data);
      if (object.error) throw new ServerError(object.error.message, { code: object.error.code ?? "", status: 500 });
      yield object;
    }
  } catch (error) {
    if (error instanceof ServerError || error.name === "AbortError") throw error;
    throw new ServerError("The connection broke off.", { code: "unreachable" });
  }
  throw new ServerError("The answer broke off.", { code: "unreachable" });
}

/** The data of server-sent events, one text an event. */
async function* events(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let left = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      left += decoder.decode(value, { stream: true });
      const whole = left.split("\n\n");
      left = whole.pop();
      for (const event of whole) {
        const lines = event.split("\n").filter((line) => line.startsWith("data: "));
        if (lines.length > 0) yield lines.map((line) => line.slice(6)).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
