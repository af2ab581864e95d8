import { describe, expect, it } from "vitest";
import {
  type ApiDocument,
  filterGroups,
  groupOperations,
  groupTitle,
  isApiDocument,
  sampleCall,
  sampleValue,
  typeLabel,
} from "./model";

const document: ApiDocument = {
  openapi: "3.1.0",
  info: { title: "T", version: "v1" },
  tags: [{ name: "BService", description: "b" }, { name: "Unused" }],
  paths: {
    "/z": { get: { operationId: "ListZ", tags: ["AService"], summary: "Returns all" } },
    "/a/{a_id}": {
      post: {
        operationId: "CreateA",
        tags: ["BService"],
        requestBody: { content: { "application/json": { schema: { $ref: "#/components/schemas/x.Node" } } } },
      },
      get: { operationId: "GetA", tags: ["BService"] },
    },
    "/b": { delete: {} },
  },
  components: {
    schemas: {
      "x.Node": {
        type: "object",
        properties: {
          name: { type: "string" },
          size: { type: "string", format: "int64" },
          at: { type: "string", format: "date-time" },
          children: { type: "array", items: { $ref: "#/components/schemas/x.Node" } },
          labels: { type: "object", additionalProperties: { type: "string" } },
        },
      },
    },
  },
};

describe("groupOperations", () => {
  it("follows the order of tags, leaves out empty ones and takes operations without a tag", () => {
    const groups = groupOperations(document);
    expect(groups.map((group) => [group.name, group.entries.map((entry) => entry.id)])).toEqual([
      ["BService", ["GetA", "CreateA"]],
      ["AService", ["ListZ"]],
      ["T", ["delete /b"]],
    ]);
  });
});

describe("filterGroups", () => {
  const found = (query: string) =>
    filterGroups(groupOperations(document), query).flatMap((group) => group.entries.map((entry) => entry.id));

  it("wants every word, in any order and case", () => expect(found("A POST")).toEqual(["CreateA"]));
  it("looks into summaries", () => expect(found("returns")).toEqual(["ListZ"]));
  it("keeps all without a query", () => expect(found("  ")).toHaveLength(4));
  it("finds nothing for nonsense", () => expect(found("xyzzy")).toEqual([]));
});

describe("sampleValue", () => {
  it("fills every field and follows a recursive schema once", () => {
    expect(sampleValue(document, { $ref: "#/components/schemas/x.Node" })).toEqual({
      name: "…",
      size: "1",
      at: "2026-01-31T12:00:00Z",
      children: [{}],
      labels: { key: "…" },
    });
  });

  it("is an empty object for a reference that leads nowhere", () => {
    expect(sampleValue(document, { $ref: "#/components/schemas/missing" })).toEqual({});
  });
});

describe("sampleCall", () => {
  it("names what must be replaced and sends a JSON body", () => {
    const entry = groupOperations(document)[0]?.entries[1];
    if (entry === undefined) throw new Error("no entry");
    const call = sampleCall(document, entry, "http://h");
    expect(call).toContain("curl -X POST http://h/a/A_ID");
    expect(call).toContain("API_TOKEN");
    expect(call).toContain('"name": "…"');
  });
});

describe("small things", () => {
  it("labels types", () => {
    expect(typeLabel({ type: "array", items: { $ref: "#/components/schemas/x.Node" } })).toBe("list of Node");
    expect(typeLabel({ type: "object", additionalProperties: { type: "string" } })).toBe("map of string");
    expect(typeLabel({ type: ["string", "null"], format: "date" })).toBe("string or null (date)");
    expect(typeLabel({})).toBe("any");
  });
  it("titles groups", () => expect(groupTitle("MessageTemplateService")).toBe("Message Template"));
  it("knows a document from an error page", () => {
    expect(isApiDocument(document)).toBe(true);
    expect(isApiDocument({ error: {} })).toBe(false);
    expect(isApiDocument(null)).toBe(false);
  });
});
