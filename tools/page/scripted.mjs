// A server in front of `ml serve` that answers what a test has written down, and passes all else on: so a page can be
// shown tools, thoughts, slow answers and failures, under the headers that it really has.

import http from "node:http";

/** Starts it in front of `upstream`; `script(request, response, body)` gives whether it has answered. */
export async function scripted(upstream, script) {
  const server = http.createServer(async (request, response) => {
    const body = await new Promise((resolve) => {
      let text = "";
      request.setEncoding("utf8");
      request.on("data", (part) => (text += part));
      request.on("end", () => resolve(text));
    });
    if (await script(request, response, body)) return;
    const { hostname, port } = new URL(upstream);
    const headers = { ...request.headers, host: `${hostname}:${port}` };
    if (headers.origin) headers.origin = upstream;
    const passed = http.request({ hostname, port, path: request.url, method: request.method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    passed.on("error", () => response.destroy());
    response.on("close", () => passed.destroy());
    passed.end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => (server.closeAllConnections(), server.close()) };
}

/** Begins a stream of `chat.completion.chunk`s; `say(delta)` sends one, `end(reason, usage)` the last ones. */
export function chunks(response) {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  const data = (object) => response.write(`data: ${JSON.stringify(object)}\n\n`);
  const chunk = (delta, finish_reason = null) => data({ object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason }] });
  return {
    say: (delta) => chunk(typeof delta === "string" ? { content: delta } : delta),
    end(reason = "stop", usage = { prompt_tokens: 12, completion_tokens: 34, prompt_tokens_details: { cached_tokens: 8 } }) {
      chunk({}, reason);
      data({ choices: [], usage });
      response.end("data: [DONE]\n\n");
    },
    fail(error) {
      data({ error });
      response.end("data: [DONE]\n\n");
    },
  };
}

/** An answer of JSON. */
export function json(response, status, object, headers = {}) {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(object));
  return true;
}
