import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Look, launch, openPage, screenshot, serverUrl } from "./browser";

const looks: [string, Look][] = [
  ["phone-light", { width: 320, theme: "light" }],
  ["phone-dark", { width: 390, theme: "dark", locale: "vi-VN" }],
  ["desktop-light", { width: 1280, theme: "light" }],
  ["desktop-dark", { width: 1280, theme: "dark" }],
  ["wide-light", { width: 2200, theme: "light", locale: "vi-VN" }],
];

let browser: Browser;
const url = serverUrl();

beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser?.close());

async function open(path: string, look: Look) {
  const opened = await openPage(browser, look);
  await opened.page.goto(url + path);
  return opened;
}

const overflow = () => document.documentElement.scrollWidth - document.documentElement.clientWidth;

describe.each(looks)("on %s", (name, look) => {
  const vietnamese = look.locale?.startsWith("vi") ?? false;

  it("the start page shows a ready system", async () => {
    const { page, context, problems } = await open("/", look);
    await page
      .getByRole("status")
      .filter({ hasText: vietnamese ? "Sẵn sàng" : "Ready" })
      .waitFor();
    await page
      .getByRole("definition")
      .filter({ hasText: new URL(url).host })
      .first()
      .waitFor();
    expect(await page.evaluate(() => document.documentElement.dataset.theme)).toBe(look.theme);
    expect(await page.evaluate(() => document.documentElement.lang)).toBe(vietnamese ? "vi" : "en");
    expect(await page.evaluate(overflow)).toBeLessThanOrEqual(0);
    await screenshot(page, `start-${name}`);
    expect(problems).toEqual([]);
    await context.close();
  });

  it("the reference lists the operations and shows one", async () => {
    const { page, context, problems } = await open("/api/docs", look);
    const operation = page.locator("#AdminService_CreateSource");
    await operation.locator("summary").click();
    await operation.getByText("curl -X POST").waitFor();
    expect(await page.locator("details").count()).toBeGreaterThan(10);
    expect(await page.evaluate(overflow)).toBeLessThanOrEqual(0);
    await screenshot(page, `reference-${name}`);
    expect(problems).toEqual([]);
    await context.close();
  });
});

describe("the pages", () => {
  const look: Look = { width: 1280, theme: "light" };

  it("switch language and theme and remember it", async () => {
    const { page, context } = await open("/", look);
    await page.getByLabel("Language").selectOption("vi");
    await page.getByRole("button", { name: "Chuyển sang giao diện tối" }).click();
    await page.reload();
    await page.getByRole("heading", { level: 1, name: "Nền tảng dữ liệu khách hàng của bạn" }).waitFor();
    await page.locator("html[data-theme=dark][lang=vi]").waitFor();
    await context.close();
  });

  it("find operations by words and say when there is none", async () => {
    const { page, context } = await open("/api/docs", look);
    await page.getByRole("searchbox").fill("post sources");
    await page.locator("#AdminService_ListWorkspaces").waitFor({ state: "detached" });
    expect(await page.locator("#AdminService_CreateSource").count()).toBe(1);
    await page.getByRole("searchbox").fill("xyzzy");
    await page.getByRole("button", { name: "Clear the search" }).click();
    await page.locator("#AdminService_ListWorkspaces").waitFor();
    await context.close();
  });

  it("say that the server is away, and recover", async () => {
    const { page, context } = await openPage(browser, look);
    await page.route("**/readyz", (route) => route.abort());
    await page.goto(url);
    await page.getByRole("status").filter({ hasText: "Not reachable" }).waitFor();
    await screenshot(page, "start-away");
    await page.unroute("**/readyz");
    await page.getByRole("button", { name: "Try again" }).click();
    await page.getByRole("status").filter({ hasText: "Ready" }).waitFor();
    await context.close();
  });

  it("name the part that is not ready yet", async () => {
    const { page, context } = await openPage(browser, look);
    const body = { ready: false, version: "v0", checks: [{ name: "identity", ready: false, reason: "catching up" }] };
    await page.route("**/readyz", (route) => route.fulfill({ status: 503, json: body }));
    await page.goto(url);
    await page.getByText("catching up", { exact: true }).waitFor();
    await page.getByRole("status").filter({ hasText: "Starting" }).waitFor();
    await screenshot(page, "start-starting");
    await context.close();
  });

  it("offer another try when the reference cannot be loaded", async () => {
    const { page, context } = await openPage(browser, look);
    await page.route("**/api/openapi.json", (route) => route.fulfill({ status: 503, body: "away" }));
    await page.goto(`${url}/api/docs`);
    await page.getByRole("alert").waitFor();
    await page.unroute("**/api/openapi.json");
    await page.getByRole("button", { name: "Try again" }).click();
    await page.locator("#AdminService_CreateSource").waitFor();
    await context.close();
  });
});
