/** The part of OpenAPI 3.1 that the server's document uses. */
export type Schema = {
  $ref?: string;
  type?: string | string[];
  format?: string;
  description?: string;
  enum?: unknown[];
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  additionalProperties?: Schema | boolean;
  oneOf?: Schema[];
  anyOf?: Schema[];
  allOf?: Schema[];
  examples?: unknown[];
};
type Content = { content?: Record<string, { schema?: Schema }>; description?: string };
export type Parameter = { name: string; in: string; required?: boolean; description?: string; schema?: Schema };
export type Operation = {
  operationId?: string;
  summary?: string;
  description?: string;
  tags?: string[];
  parameters?: Parameter[];
  requestBody?: Content;
  responses?: Record<string, Content>;
};
export type ApiDocument = {
  openapi: string;
  info: { title: string; version: string; description?: string };
  tags?: { name: string; description?: string }[];
  paths: Record<string, Record<string, Operation>>;
  components?: { schemas?: Record<string, Schema> };
};

export type Entry = { id: string; method: string; path: string; operation: Operation };
export type Group = { name: string; description: string; entries: Entry[] };

const methods = ["get", "post", "put", "patch", "delete"];

export function isApiDocument(value: unknown): value is ApiDocument {
  if (typeof value !== "object" || value === null) return false;
  const { openapi, paths } = value as Partial<ApiDocument>;
  return typeof openapi === "string" && typeof paths === "object" && paths !== null;
}

/** Operations by tag, in the document's order of tags; within one by path, then method. */
export function groupOperations(document: ApiDocument): Group[] {
  const groups = new Map<string, Group>();
  for (const { name, description = "" } of document.tags ?? []) groups.set(name, { name, description, entries: [] });
  for (const [path, item] of Object.entries(document.paths)) {
    for (const method of methods) {
      const operation = item[method];
      if (operation === undefined) continue;
      const name = operation.tags?.[0] ?? document.info.title;
      const group = groups.get(name) ?? { name, description: "", entries: [] };
      group.entries.push({ id: operation.operationId ?? `${method} ${path}`, method, path, operation });
      groups.set(name, group);
    }
  }
  for (const group of groups.values()) group.entries.sort((a, b) => a.path.localeCompare(b.path));
  return [...groups.values()].filter((group) => group.entries.length > 0);
}

/** Keeps the entries in which every word of the query occurs somewhere. */
export function filterGroups(groups: readonly Group[], query: string): Group[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = ({ id, method, path, operation }: Entry) => {
    const haystack = [id, method, path, operation.summary, operation.description].join(" ").toLowerCase();
    return words.every((word) => haystack.includes(word));
  };
  return groups
    .map((group) => ({ ...group, entries: group.entries.filter(matches) }))
    .filter((group) => group.entries.length > 0);
}

/** "AdminService" → "Admin" */
export const groupTitle = (name: string) => name.replace(/Service$/, "").replace(/([a-z])([A-Z])/g, "$1 $2");

export function refName(schema: Schema): string | undefined {
  return schema.$ref?.split("/").pop();
}

export function resolve(document: ApiDocument, schema: Schema | undefined): Schema {
  const name = schema === undefined ? undefined : refName(schema);
  if (name === undefined) return schema ?? {};
  return document.components?.schemas?.[name] ?? {};
}

export function bodySchema(content: Content | undefined): Schema | undefined {
  return content?.content?.["application/json"]?.schema;
}

/** A short word for a type: "string (date-time)", "list of WriteKey", "map of string". */
export function typeLabel(schema: Schema): string {
  const name = refName(schema);
  if (name !== undefined) return name.split(".").pop() ?? name;
  if (schema.items !== undefined) return `list of ${typeLabel(schema.items)}`;
  if (typeof schema.additionalProperties === "object") return `map of ${typeLabel(schema.additionalProperties)}`;
  const type = Array.isArray(schema.type) ? schema.type.join(" or ") : (schema.type ?? "any");
  return schema.format === undefined ? type : `${type} (${schema.format})`;
}

/** A made-up value of the schema. A schema that contains itself is followed once. */
export function sampleValue(document: ApiDocument, schema: Schema, seen: readonly string[] = []): unknown {
  const name = refName(schema);
  if (name !== undefined && seen.includes(name)) return {};
  const full = resolve(document, schema);
  const next = name === undefined ? seen : [...seen, name];
  if (full.examples !== undefined) return full.examples[0];
  if (full.enum !== undefined) return full.enum[0];
  if (full.properties !== undefined) {
    return Object.fromEntries(
      Object.entries(full.properties).map(([key, value]) => [key, sampleValue(document, value, next)]),
    );
  }
  if (full.items !== undefined) return [sampleValue(document, full.items, next)];
  if (typeof full.additionalProperties === "object")
    return { key: sampleValue(document, full.additionalProperties, next) };
  switch (Array.isArray(full.type) ? full.type[0] : full.type) {
    case "boolean":
      return true;
    case "integer":
    case "number":
      return 1;
    case "string":
      if (full.format === "date-time") return "2026-01-31T12:00:00Z";
      return full.format === "int64" || full.format === "uint64" ? "1" : "…";
    default:
      return {};
  }
}

/** A command that calls the operation; parts in capitals are to be replaced. */
export function sampleCall(document: ApiDocument, entry: Entry, origin: string): string {
  const url = origin + entry.path.replace(/\{([^}]+)\}/g, (_, name: string) => name.toUpperCase());
  const lines = [`curl -X ${entry.method.toUpperCase()} ${url}`, "  -H 'Authorization: Bearer API_TOKEN'"];
  const schema = bodySchema(entry.operation.requestBody);
  if (schema !== undefined) {
    const body = JSON.stringify(sampleValue(document, schema), null, 2)
      .replaceAll("'", "'\\''")
      .replaceAll("\n", "\n  ");
    lines.push("  -H 'Content-Type: application/json'", `  -d '${body}'`);
  }
  return lines.join(" \\\n");
}
