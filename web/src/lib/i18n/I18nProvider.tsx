import { createContext, type ReactNode, useContext, useEffect, useMemo, useState } from "react";
import { recall, remember } from "../storage";
import type { MessageKey } from "./en";
import { type Locale, pickLocale, regional, translate } from "./translate";

type I18n = {
  locale: Locale;
  setLocale: (locale: Locale) => void;
  t: (key: MessageKey, values?: Record<string, string>) => string;
  /** The time of day in the habit of the reader's region. */
  formatTime: (date: Date) => string;
};

const I18nContext = createContext<I18n | null>(null);
const storageKey = "mekong.locale";

export function I18nProvider({ children }: { children: ReactNode }) {
  const [locale, setLocale] = useState<Locale>(() => pickLocale(recall(storageKey), navigator.languages));

  useEffect(() => {
    document.documentElement.lang = locale;
  }, [locale]);

  const value = useMemo<I18n>(
    () => ({
      locale,
      setLocale: (next) => {
        remember(storageKey, next);
        setLocale(next);
      },
      t: (key, values) => translate(locale, key, values),
      formatTime: (date) => date.toLocaleTimeString(regional(locale, navigator.languages)),
    }),
    [locale],
  );
  return <I18nContext value={value}>{children}</I18nContext>;
}

export function useI18n(): I18n {
  const value = useContext(I18nContext);
  if (value === null) throw new Error("useI18n needs an I18nProvider above it");
  return value;
}
