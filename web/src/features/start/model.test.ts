import { describe, expect, it } from "vitest";
import { parseReadiness, sampleEvent, sortChecks } from "./model";

describe("parseReadiness", () => {
  it("reads a complete answer", () => {
    const body = {
      ready: false,
      version: "v1.2.3",
      checks: [
        { name: "kafka", ready: true, reason: "" },
        { name: "identity", ready: false, reason: "catching up" },
      ],
      addresses: [
        { name: "Kafka", address: "127.0.0.1:19092" },
        { name: "nothing", address: "" },
      ],
    };
    expect(parseReadiness(body)).toEqual({
      ...body,
      addresses: [{ name: "Kafka", address: "127.0.0.1:19092" }],
    });
  });

  it("fills in what is missing", () => {
    expect(parseReadiness({ ready: true })).toEqual({ ready: true, version: "", checks: [], addresses: [] });
  });

  it.each([null, "ok", [], {}, { ready: "yes" }, { checks: [] }])("refuses %j", (body) => {
    expect(parseReadiness(body)).toBeNull();
  });

  it("skips entries that are no objects and takes only true for ready", () => {
    const parsed = parseReadiness({ ready: true, checks: [1, null, { name: "x", ready: "true" }] });
    expect(parsed?.checks).toEqual([{ name: "x", ready: false, reason: "" }]);
  });
});

describe("sortChecks", () => {
  it("puts waiting parts first and leaves its input alone", () => {
    const input = [
      { name: "b", ready: true, reason: "" },
      { name: "c", ready: false, reason: "" },
      { name: "a", ready: true, reason: "" },
    ];
    expect(sortChecks(input).map((check) => check.name)).toEqual(["c", "a", "b"]);
    expect(input[0]?.name).toBe("b");
  });
});

describe("sampleEvent", () => {
  it("is one command with a JSON body", () => {
    const command = sampleEvent("http://127.0.0.1:8080");
    expect(command).toContain("curl http://127.0.0.1:8080/v1/events");
    const body = command.match(/-d '(.*)'$/s)?.[1] ?? "";
    expect(JSON.parse(body)).toMatchObject({ event_type: "view", anonymous_id: "visitor-1" });
  });
});
