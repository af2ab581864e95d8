import { existsSync, mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";

export type Look = { width: number; theme: "light" | "dark"; locale?: string };

/** The server under test; a missing one is a failure, never a skip. */
export function serverUrl(): string {
  const url = process.env.MEKONG_URL;
  if (url === undefined || url === "") {
    throw new Error("MEKONG_URL is not set: start the server and give its address, or run make test-browser");
  }
  return url.replace(/\/+$/, "");
}

function chromiumPath(): string {
  const candidates = [process.env.MEKONG_CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser"];
  const found = candidates.find((path) => path !== undefined && path !== "" && existsSync(path));
  if (found === undefined) throw new Error("no Chromium found: run tools/os-packages.sh or set MEKONG_CHROMIUM");
  return found;
}

export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: chromiumPath(),
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--disable-background-networking",
      "--disable-component-update",
      "--no-first-run",
      // A page that asks another host for anything fails here, as it would on a machine without internet.
      "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    ],
  });
}

export async function openPage(
  browser: Browser,
  look: Look,
): Promise<{ page: Page; context: BrowserContext; problems: string[] }> {
  const context = await browser.newContext({
    viewport: { width: look.width, height: 900 },
    colorScheme: look.theme,
    locale: look.locale ?? "en-GB",
  });
  const page = await context.newPage();
  const problems: string[] = [];
  page.on("pageerror", (error) => problems.push(`page error: ${error.message}`));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(`${message.type()}: ${message.text()}`);
  });
  page.on("requestfailed", (request) => {
    const reason = request.failure()?.errorText ?? "";
    if (reason !== "net::ERR_ABORTED") problems.push(`request failed: ${request.url()} ${reason}`);
  });
  return { page, context, problems };
}

/** Screenshots are for people to look at; the folder is ignored by git. */
export async function screenshot(page: Page, name: string): Promise<void> {
  const folder = fileURLToPath(new URL("screenshots/", import.meta.url));
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: `${folder}${name}.png`, fullPage: true });
}
