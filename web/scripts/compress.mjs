// Writes a .br and a .gz beside each text file of dist/, so that the server never compresses while it answers.
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { extname, join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const dist = new URL("../dist/", import.meta.url).pathname;
const text = new Set([".html", ".js", ".css", ".svg", ".json"]);

for (const name of readdirSync(dist, { recursive: true })) {
  const file = join(dist, name);
  if (!text.has(extname(file)) || statSync(file).isDirectory()) continue;
  const bytes = readFileSync(file);
  const variants = {
    br: brotliCompressSync(bytes, {
      params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length },
    }),
    gz: gzipSync(bytes, { level: 9 }),
  };
  for (const [suffix, packed] of Object.entries(variants)) {
    if (packed.length < bytes.length) writeFileSync(`${file}.${suffix}`, packed);
  }
}
