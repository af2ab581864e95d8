import { useEffect, useState } from "react";
import { useI18n } from "../../lib/i18n/I18nProvider";

/** Browsers offer the clipboard on https and loopback only; elsewhere there is no button to promise it. */
export function CopyButton({ text, what }: { text: string; what: string }) {
  const { t } = useI18n();
  const [copied, setCopied] = useState(false);

  useEffect(() => {
    if (!copied) return;
    const timer = window.setTimeout(() => setCopied(false), 2000);
    return () => window.clearTimeout(timer);
  }, [copied]);

  if (navigator.clipboard === undefined) return null;
  return (
    <button
      type="button"
      aria-label={`${copied ? t("app.copied") : t("app.copy")}: ${what}`}
      className="inline-flex min-h-8 shrink-0 items-center gap-1.5 rounded-md px-2 text-xs font-medium text-soft hover:bg-sunken hover:text-ink"
      onClick={() => {
        navigator.clipboard.writeText(text).then(
          () => setCopied(true),
          () => setCopied(false),
        );
      }}
    >
      <svg
        viewBox="0 0 16 16"
        className="size-3.5"
        fill="none"
        stroke="currentColor"
        strokeWidth="1.5"
        aria-hidden="true"
      >
        {copied ? (
          <path d="m3 8.5 3.2 3L13 4.5" strokeLinecap="round" strokeLinejoin="round" />
        ) : (
          <path d="M5.5 5.5v-3h8v8h-3m-8-5h8v8h-8z" strokeLinejoin="round" />
        )}
      </svg>
      <span className="max-sm:sr-only">{copied ? t("app.copied") : t("app.copy")}</span>
    </button>
  );
}
