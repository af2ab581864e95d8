import { en, type MessageKey, type Messages } from "./en";
import { vi } from "./vi";

export type Locale = "en" | "vi";

export const locales: Record<Locale, { name: string; messages: Messages }> = {
  en: { name: "English", messages: en },
  vi: { name: "Tiếng Việt", messages: vi },
};

/** The choice made earlier, else the first language of the browser that we have, else English. */
export function pickLocale(chosen: string | null, preferred: readonly string[]): Locale {
  if (chosen !== null && chosen in locales) return chosen as Locale;
  for (const tag of preferred) {
    const language = tag.toLowerCase().split("-")[0] ?? "";
    if (language in locales) return language as Locale;
  }
  return "en";
}

/** The reader's own variant of a language: en-GB writes 16:00 where en-US writes 4:00 PM. */
export function regional(locale: Locale, preferred: readonly string[]): string {
  return preferred.find((tag) => tag.toLowerCase().startsWith(`${locale}-`)) ?? locale;
}

export function translate(locale: Locale, key: MessageKey, values: Record<string, string> = {}): string {
  return locales[locale].messages[key].replace(/\{(\w+)\}/g, (whole, name: string) => values[name] ?? whole);
}
