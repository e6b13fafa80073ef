// The page of `ml serve` as a person meets it. `cargo xtask test-page` runs this.

import { after, before } from "node:test";
import { close, launch } from "./harness.mjs";

before(launch);
after(close);

await import("./tests/talking.mjs");
await import("./tests/keeping.mjs");
await import("./tests/showing.mjs");
await import("./tests/failing.mjs");
await import("./tests/safety.mjs");
await import("./tests/looks.mjs");
await import("./tests/operator.mjs");
