import type { ReactNode } from "react";
import { useI18n } from "../../lib/i18n/I18nProvider";
import { type Locale, locales } from "../../lib/i18n/translate";
import { useTheme } from "../../lib/useTheme";

export function Layout({ path, children }: { path: string; children: ReactNode }) {
  const { t } = useI18n();
  const links = [
    { href: "/", label: t("nav.start") },
    { href: "/api/docs", label: t("nav.reference") },
  ];
  return (
    <div className="flex min-h-dvh flex-col">
      <a
        href="#content"
        className="sr-only focus:not-sr-only focus:absolute focus:top-2 focus:left-2 focus:z-20 focus:rounded-lg focus:bg-card focus:px-4 focus:py-2"
      >
        {t("app.skip")}
      </a>
      <header className="sticky top-0 z-10 border-b border-line bg-page/90 backdrop-blur">
        <div className="mx-auto flex max-w-6xl flex-wrap items-center gap-x-3 gap-y-1 sm:gap-x-6 px-4 py-2 sm:px-6">
          <a href="/" className="flex items-center gap-2.5 text-lg font-semibold tracking-tight">
            <img src="/favicon.svg" alt="" className="size-7" />
            Mekong
          </a>
          <nav aria-label={t("nav.main")} className="flex gap-1 max-sm:order-last max-sm:-mx-2 max-sm:w-full">
            {links.map(({ href, label }) => (
              <a
                key={href}
                href={href}
                aria-current={path === href ? "page" : undefined}
                className="rounded-lg px-3 py-1.5 text-sm text-soft hover:text-ink aria-[current=page]:bg-accent-soft aria-[current=page]:font-medium aria-[current=page]:text-ink"
              >
                {label}
              </a>
            ))}
          </nav>
          <div className="ml-auto flex items-center gap-2">
            <LanguageSelect />
            <ThemeButton />
          </div>
        </div>
      </header>
      <main
        id="content"
        tabIndex={-1}
        className="mx-auto w-full max-w-6xl flex-1 px-4 py-8 outline-none sm:px-6 sm:py-10"
      >
        {children}
      </main>
    </div>
  );
}

function LanguageSelect() {
  const { locale, setLocale, t } = useI18n();
  return (
    <select
      aria-label={t("app.language")}
      value={locale}
      onChange={(event) => setLocale(event.target.value as Locale)}
      className="min-h-9 rounded-lg border border-line bg-card px-1.5 text-sm"
    >
      {Object.entries(locales).map(([code, { name }]) => (
        <option key={code} value={code} lang={code}>
          {name}
        </option>
      ))}
    </select>
  );
}

function ThemeButton() {
  const { t } = useI18n();
  const [theme, setTheme] = useTheme();
  const next = theme === "dark" ? "light" : "dark";
  const label = t(next === "dark" ? "app.theme.toDark" : "app.theme.toLight");
  return (
    <button
      type="button"
      aria-label={label}
      title={label}
      onClick={() => setTheme(next)}
      className="grid size-9 place-items-center rounded-lg border border-line bg-card hover:border-soft"
    >
      <svg
        viewBox="0 0 20 20"
        className="size-4.5"
        fill="none"
        stroke="currentColor"
        strokeWidth="1.6"
        strokeLinecap="round"
        aria-hidden="true"
      >
        {theme === "dark" ? (
          <path d="M10 6.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7M10 1.5v1.6M10 16.9v1.6M1.5 10h1.6M16.9 10h1.6M4 4l1.1 1.1M14.9 14.9 16 16M4 16l1.1-1.1M14.9 5.1 16 4" />
        ) : (
          <path d="M17 11.6A7 7 0 1 1 8.4 3a5.6 5.6 0 0 0 8.6 8.6Z" strokeLinejoin="round" />
        )}
      </svg>
    </button>
  );
}
