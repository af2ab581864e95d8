import { describe, expect, it } from "vitest";
import { en, type MessageKey } from "./en";
import { pickLocale, regional, translate } from "./translate";
import { vi } from "./vi";

describe("messages", () => {
  const keys = Object.keys(en) as MessageKey[];

  it.each(keys)("%s has the same placeholders in both languages and is not empty", (key) => {
    const placeholders = (text: string) => (text.match(/\{\w+\}/g) ?? []).sort();
    expect(vi[key].trim()).not.toBe("");
    expect(placeholders(vi[key])).toEqual(placeholders(en[key]));
  });
});

describe("pickLocale", () => {
  it("takes the earlier choice first", () => expect(pickLocale("vi", ["en-GB"])).toBe("vi"));
  it("takes the first language we have", () => expect(pickLocale(null, ["fr", "vi-VN", "en"])).toBe("vi"));
  it("ignores an unknown choice", () => expect(pickLocale("xx", ["vi"])).toBe("vi"));
  it("falls back to English", () => expect(pickLocale(null, ["fr"])).toBe("en"));
});

describe("regional", () => {
  it("takes the reader's variant of the language", () => {
    expect(regional("en", ["vi-VN", "en-GB", "en-US"])).toBe("en-GB");
    expect(regional("vi", ["en-GB"])).toBe("vi");
  });
});

describe("translate", () => {
  it("fills in values and leaves unknown placeholders", () => {
    expect(translate("en", "reference.noMatch", { query: "x" })).toBe("No operation matches “x”.");
    expect(translate("en", "reference.noMatch")).toContain("{query}");
  });
});
