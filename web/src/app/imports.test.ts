import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const src = fileURLToPath(new URL("..", import.meta.url));

/** components, lib → nothing of features or app; a feature → itself, components, lib; app → all. Null when allowed. */
function complaint(from: string, to: string): string | null {
  const [layer = "", feature = ""] = from.split("/");
  const [target = "", targetFeature = ""] = to.split("/");
  if (layer === "app") return null;
  if (target === "app") return `${from} imports ${to}: only app composes pages`;
  if (target !== "features") return null;
  if (layer !== "features") return `${from} imports ${to}: ${layer} knows no feature, pass the value in`;
  return feature === targetFeature ? null : `${from} imports ${to}: move what both features need to components or lib`;
}

function importsOf(file: string): string[] {
  const source = readFileSync(join(src, file), "utf8");
  return [...source.matchAll(/(?:from|import\()\s*"(\.[^"]+)"/g)].map((match) =>
    relative(src, join(src, dirname(file), match[1] ?? "")),
  );
}

describe("imports", () => {
  const files = readdirSync(src, { recursive: true, encoding: "utf8" }).filter((name) => /\.tsx?$/.test(name));

  it("go from app to features to components and lib", () => {
    expect(files.length).toBeGreaterThan(0);
    const wrong = files.flatMap((file) => importsOf(file).map((to) => complaint(file, to))).filter(Boolean);
    expect(wrong).toEqual([]);
  });

  it("are complained about when they go elsewhere", () => {
    expect(complaint("features/a/model.ts", "features/b/model")).toContain("both features");
    expect(complaint("features/a/model.ts", "app/App")).toContain("only app");
    expect(complaint("lib/x.ts", "features/a/model")).toContain("knows no feature");
    expect(complaint("features/a/components/X.tsx", "features/a/model")).toBeNull();
    expect(complaint("features/a/model.ts", "lib/x")).toBeNull();
  });

  it("lead to files of at most 300 lines", () => {
    const long = files.filter((file) => readFileSync(join(src, file), "utf8").split("\n").length > 300);
    expect(long).toEqual([]);
  });
});
