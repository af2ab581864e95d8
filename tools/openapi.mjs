// Joins the OpenAPI documents that protoc-gen-openapiv3 writes (one per proto file) into one and adds what is true
// for all operations: how to sign in, and the shape of an error. Usage: node tools/openapi.mjs FROM_DIR TO_FILE
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const [from, to] = process.argv.slice(2);
if (!from || !to) {
  console.error("usage: node tools/openapi.mjs FROM_DIR TO_FILE");
  process.exit(2);
}

const errorResponse = {
  description: "The request failed. `error.code` is stable, `error.message` says what to do.",
  content: { "application/json": { schema: { $ref: "#/components/schemas/mekong.Error" } } },
};

const errorSchema = {
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      required: ["code", "message", "request_id"],
      properties: {
        code: { type: "string", description: "What went wrong, as a stable word.", examples: ["slug_taken"] },
        message: { type: "string", description: "One sentence that says what to do." },
        request_id: { type: "string", description: "Finds the request in the server's log." },
      },
    },
  },
};

const document = {
  openapi: "3.1.0",
  info: {
    title: "Mekong API",
    version: "v1",
    description:
      "REST interface of the Mekong customer data platform. The same operations are served over gRPC. " +
      "Every request carries `Authorization: Bearer <API token>`.",
    license: { name: "Apache-2.0", identifier: "Apache-2.0" },
  },
  servers: [{ url: "/" }],
  security: [{ token: [] }],
  tags: [],
  paths: {},
  components: {
    securitySchemes: { token: { type: "http", scheme: "bearer", description: "An API token of a workspace." } },
    schemas: { "mekong.Error": errorSchema },
  },
};

// put adds an entry, and stops when two documents disagree about it.
function put(target, key, value, what) {
  if (key in target && JSON.stringify(target[key]) !== JSON.stringify(value)) {
    console.error(`openapi: two proto files define the ${what} ${key} differently; rename one of them.`);
    process.exit(1);
  }
  target[key] = value;
}

// sentence drops the name that a Go comment starts with ("AdminService manages …" → "Manages …").
function sentence(comment, name) {
  const text = comment.replace(/\s*\n\s*/g, " ");
  const rest = text.startsWith(`${name} `) ? text.slice(name.length + 1) : text;
  return rest.charAt(0).toUpperCase() + rest.slice(1);
}

// describe turns the rpc's comment ("CreateSource adds a source. Scope …") into a short summary and the rest.
function describe(operation) {
  const comment = [operation.summary, operation.description].filter(Boolean).join("\n");
  const text = sentence(comment, operation.operationId.split("_").pop());
  const [, first = text, rest = ""] = text.match(/^(.*?[^.]\.)\s+(?=[A-Z])(.*)$/s) ?? [];
  operation.summary = first.replace(/\.$/, "");
  if (rest) operation.description = rest;
  else delete operation.description;
  operation.responses = { ...operation.responses, default: errorResponse };
}

const files = readdirSync(from, { recursive: true })
  .filter((name) => name.endsWith(".openapi.json"))
  .sort();
if (files.length === 0) {
  console.error(`openapi: no document found in ${from}; run make generate.`);
  process.exit(1);
}
for (const file of files) {
  const part = JSON.parse(readFileSync(join(from, file), "utf8"));
  for (const tag of part.tags ?? []) {
    document.tags.push({ ...tag, description: sentence(tag.description ?? "", tag.name) });
  }
  for (const [path, item] of Object.entries(part.paths ?? {})) {
    for (const [method, operation] of Object.entries(item)) {
      describe(operation);
      document.paths[path] ??= {};
      put(document.paths[path], method, operation, `operation ${method.toUpperCase()}`);
    }
  }
  for (const [name, schema] of Object.entries(part.components?.schemas ?? {})) {
    put(document.components.schemas, name, schema, "schema");
  }
}
document.components.schemas = Object.fromEntries(
  Object.entries(document.components.schemas).sort(([a], [b]) => (a < b ? -1 : 1)),
);

mkdirSync(dirname(to), { recursive: true });
writeFileSync(to, `${JSON.stringify(document, null, 2)}\n`);
