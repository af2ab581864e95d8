/** What /readyz answers, both when ready (200) and while starting (503). */
export type Readiness = {
  ready: boolean;
  version: string;
  checks: Check[];
  addresses: Address[];
};
export type Check = { name: string; ready: boolean; reason: string };
export type Address = { name: string; address: string };

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const text = (value: unknown) => (typeof value === "string" ? value : "");
const records = (value: unknown) => (Array.isArray(value) ? value.filter(isRecord) : []);

/** Reads the answer and returns null for anything else, such as a proxy's error page. */
export function parseReadiness(body: unknown): Readiness | null {
  if (!isRecord(body) || typeof body.ready !== "boolean") return null;
  return {
    ready: body.ready,
    version: text(body.version),
    checks: records(body.checks).map((check) => ({
      name: text(check.name),
      ready: check.ready === true,
      reason: text(check.reason),
    })),
    addresses: records(body.addresses)
      .map((entry) => ({ name: text(entry.name), address: text(entry.address) }))
      .filter((entry) => entry.address !== ""),
  };
}

/** Parts that wait come first: they are what one looks for. */
export function sortChecks(checks: readonly Check[]): Check[] {
  return [...checks].sort((a, b) => Number(a.ready) - Number(b.ready) || a.name.localeCompare(b.name));
}

/** A command that sends one event of the shop contract to the server that this page came from. */
export function sampleEvent(origin: string): string {
  const event = {
    event_type: "view",
    anonymous_id: "visitor-1",
    page_url: "https://shop.example/p/123",
    ecom: { product_id: "sku-123", category: "Laptops", currency: "VND", price: 18990000, qty: 1 },
  };
  const lines = [
    `curl ${origin}/v1/events`,
    "  -H 'Authorization: Bearer WRITE_KEY'",
    "  -H 'Content-Type: application/json'",
    `  -d '${JSON.stringify(event, null, 2).replaceAll("\n", "\n  ")}'`,
  ];
  return lines.join(" \\\n");
}
