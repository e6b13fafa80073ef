// The picture of the README: `cargo build -p ml-cli`, then `node screenshot.mjs ../../assets/screenshots/page.png`.

import { writeFileSync } from "node:fs";
import { ask, close, demo, launch, serve, visitor } from "./harness.mjs";

await launch();
const server = await serve("--model", demo);
const { open } = await visitor({ viewport: { width: 1080, height: 680 } });
const page = await open(server.url);
for (const question of ["Turn the word chimney around.", "What day is before February 13?", "How much is 3 plus 504?", "Spell walnut."]) {
  await page.click("#new");
  await ask(page, question);
}
await page.click("#new");
for (const question of ["What is 17 + 25?", "Which is larger, 42 or 24?", "Spell walnut."]) await ask(page, question);
await page.mouse.move(0, 0);
writeFileSync(process.argv[2] ?? "page.png", await page.screenshot());
await close();
